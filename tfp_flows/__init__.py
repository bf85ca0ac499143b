"""Normalizing flows for TensorFlow Probability that train with Keras 3."""

from tfp_flows import transformers
from tfp_flows import conditioners
from tfp_flows import bijectors
from tfp_flows import distributions
from tfp_flows import flows
from tfp_flows.context import condition
from tfp_flows.model import FlowModel
from tfp_flows import objectives
from tfp_flows.tables import TableModel
from tfp_flows import datasets
from tfp_flows.experiments import experiments
from tfp_flows import inference
from tfp_flows import plotting
from tfp_flows import callbacks
from tfp_flows.report import report

__all__ = [
    "transformers",
    "conditioners",
    "bijectors",
    "distributions",
    "flows",
    "condition",
    "FlowModel",
    "objectives",
    "TableModel",
    "datasets",
    "experiments",
    "inference",
    "plotting",
    "callbacks",
    "report",
]
