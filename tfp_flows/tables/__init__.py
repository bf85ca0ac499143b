"""Tables in, a density out: columns of every kind, and the model of their rows."""

from tfp_flows.tables.table_model import TableModel

__all__ = ["TableModel"]
