"""`python -m tfp_flows` is `tfp-flows`."""

from tfp_flows.command_line import main

if __name__ == "__main__":
    main(prog_name="tfp-flows")
