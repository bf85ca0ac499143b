"""(Untouched part of x, context) -> parameters: Keras 3 layers, no probability inside."""

from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.mlp import MLP, ResidualMLP
from tfp_flows.conditioners.periodic import PeriodicMLP

__all__ = ["MADE", "MLP", "PeriodicMLP", "ResidualMLP"]
