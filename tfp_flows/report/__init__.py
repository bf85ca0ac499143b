"""One page that says whether a model can be trusted; it needs the extras `tables` and `plot`."""

from tfp_flows.report.report import Report, report

__all__ = ["Report", "report"]
