"""The command line, `tfp-flows`: a table in, a density, samples, a report and a server out; it needs click."""

import click

from tfp_flows.command_line.errors import Group
from tfp_flows.command_line.fit import fit
from tfp_flows.command_line.use import export, info, report, sample, score, serve


@click.group("tfp-flows", cls=Group, invoke_without_command=True)
@click.option("--traceback", is_flag=True, expose_value=False, help="Show where in the program an error arose.")
@click.version_option(package_name="tfp_flows")
@click.pass_context
def main(context):
    """The density of a table: fit it, draw from it, score rows, judge it, serve it.

    \b
    tfp-flows fit diamonds.csv --out diamonds.keras --test 0.2
    tfp-flows report diamonds.keras diamonds.csv --test 0.2
    tfp-flows sample diamonds.keras -n 1000 --out drawn.csv
    tfp-flows score diamonds.keras other.csv --out scores.csv
    tfp-flows export diamonds.keras --out diamonds
    tfp-flows serve diamonds

    Tables are CSV or Parquet files. Nothing is overwritten without --force, and what is written is written whole or not
    at all. Errors are one line, with exit code 2.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (fit, sample, score, report, export, info, serve):
    main.add_command(command)
