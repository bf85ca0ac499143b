"""The commands that use a model: sample, score, report, export, info, serve."""

import json
import logging

import click
import numpy as np

from tfp_flows._files import written_whole
from tfp_flows.command_line.files import (
    FORCE,
    PATH,
    check_free,
    check_table_place,
    load,
    load_table_model,
    read_pieces,
    read_table,
    split,
    write_table,
)
from tfp_flows.command_line.fit import history_path, mean_and_error
from tfp_flows.report import report as write_report
from tfp_flows.tables import TableModel

SEED = click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="The same seed gives the same result.")
TABLE_OUT = click.option("--out", type=PATH, help="A .csv or .parquet file; without it CSV on the standard output.")


@click.command()
@click.argument("model", type=PATH)
@click.option("-n", "count", type=click.IntRange(1), help="How many rows.  [default: 1000]")
@click.option("--context", type=PATH, help="A table of the context columns: one row is drawn for each of its rows.")
@SEED
@TABLE_OUT
@FORCE
def sample(model, count, context, seed, out, force):
    """Draw rows from a model.

    \b
    tfp-flows sample diamonds.keras -n 1000 --seed 1 --out drawn.csv
    tfp-flows sample storms.keras --context years.csv > drawn.csv
    """
    check_table_place(out, force)
    found = load_table_model(model)
    if found.schema.context:
        names = ", ".join(found.schema.context)
        if context is None or count is not None:
            raise click.ClickException(f"Expected --context, a table with the columns {names}, and no -n.")
        drawn = found.sample(read_table(context), seed=seed)
    else:
        if context is not None:
            raise click.ClickException("Expected no --context, since the model has no context columns.")
        drawn = found.sample(count or 1000, seed=seed)
    write_table([drawn], out)


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@TABLE_OUT
@FORCE
def score(model, data, out, force):
    """The log-density of every row of a table, as a further column log_prob, in nats.

    A Parquet file is read and scored piece by piece: it may be larger than memory.

    \b
    tfp-flows score diamonds.keras other.csv --out scores.csv
    """
    check_table_place(out, force)
    found, pieces, log_probs = load_table_model(model), read_pieces(data), []

    def scored():
        for piece in pieces:
            log_probs.append(found.log_prob(piece))
            yield piece.assign(log_prob=log_probs[-1])

    write_table(scored(), out)
    log_prob = np.concatenate(log_probs)
    click.echo(f"{len(log_prob)} rows: {mean_and_error(log_prob)}", err=True)


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option(
    "--out", type=PATH, default="report.html", show_default=True, help="The .html file; a .json goes with it."
)
@click.option("--training", type=PATH, help="The rows it was trained on, to tell whether draws copy them.")
@click.option("--new", type=PATH, help="Another table, whose drift is to be told.")
@click.option("--test", type=click.FloatRange(0, 1), help="DATA is what `fit` was given, with this share held out.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="As `fit` was given.")
@click.option("--max-rows", type=click.IntRange(20), default=5000, show_default=True, help="Rows to look at, at most.")
@FORCE
def report(model, data, out, training, new, test, seed, max_rows, force):
    """Judge a model by rows that it was not trained on: one page, and three sentences.

    \b
    tfp-flows report diamonds.keras held_out.csv --training diamonds.csv
    tfp-flows report diamonds.keras diamonds.csv --test 0.2  # as in `fit`
    """
    check_free(out, force, ".html")
    check_free(out.with_suffix(".json"), force, ".json")
    found, held_out = load_table_model(model), read_table(data)
    if test is not None and training is not None:
        raise click.ClickException("Expected --test or --training. Received: both")
    rows = None if training is None else read_table(training)
    if test is not None:
        rows, held_out = split(held_out, test, seed)
    history = history_path(model)
    written = write_report(
        found,
        held_out,
        path=out,
        training=rows,
        new=None if new is None else read_table(new),
        history=json.loads(history.read_text(encoding="utf-8")) if history.is_file() else None,
        title=f"Report on {model.stem}",
        max_rows=max_rows,
        seed=seed,
    )
    click.echo(written)
    click.echo(f"{out}: the page; {out.with_suffix('.json')}: its numbers")


@click.command()
@click.argument("model", type=PATH)
@click.option("--out", type=PATH, required=True, help="The folder to write.")
@FORCE
def export(model, out, force):
    """Write a SavedModel, which needs only TensorFlow, for `tfp-flows serve` and TensorFlow Serving.

    \b
    tfp-flows export diamonds.keras --out diamonds
    """
    check_free(out, force)
    if out.exists() and not (out / "saved_model.pb").is_file():
        raise click.ClickException(f"Expected --out to be free, or an exported model. Received: {out}")
    found = load(model)
    with written_whole(out) as new:
        found.export(str(new))
    click.echo(f"{out}: serve it by `tfp-flows serve {out}`")


@click.command()
@click.argument("model", type=PATH)
def info(model):
    """What a model is: its columns, what was done to each, and its size.

    \b
    tfp-flows info diamonds.keras
    """
    found = load(model)
    flow_model = found.flow_model if isinstance(found, TableModel) else found
    click.echo(f"{model}: a {type(found).__name__} of {flow_model.count_params():,} weights")
    if isinstance(found, TableModel):
        click.echo(found.columns.to_string())
    else:
        distribution = flow_model.distribution
        click.echo(f"events {distribution.event_shape}, contexts {flow_model.context_shape}: {distribution.name}")


@click.command()
@click.argument("folder", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 to be reached from other machines.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--name", help="Of the model, in addresses; without it the folder's.")
@click.option("--max-rows", type=click.IntRange(1), default=10_000, show_default=True, help="In an answer.")
@click.option("--max-seconds", type=click.FloatRange(0.001), default=30.0, show_default=True, help="For an answer.")
def serve(folder, host, port, name, max_rows, max_seconds):
    """Answer over HTTP with an exported model, until it is interrupted.

    \b
    tfp-flows serve diamonds --port 8000
    curl localhost:8000/sample -d '{"n": 3}'

    http://localhost:8000/docs shows all addresses. Those of TensorFlow Serving's REST interface are among them.
    """
    from tfp_flows import serving

    if folder.suffix == ".keras":
        raise click.ClickException(f"Expected a folder that `tfp-flows export` wrote. Received: {folder}")
    logging.getLogger("absl").setLevel("ERROR")  # loading warns of gradients, which nobody asks a server for
    application = serving.app(folder, name, serving.Limits(rows=max_rows, seconds=max_seconds))
    click.echo(f"Serving {folder} on http://{host}:{port}/docs", err=True)
    serving.run(application, host, port)
