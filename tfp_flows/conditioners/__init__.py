"""(Untouched part of x, context) -> parameters: Keras 3 layers, no probability inside."""

from tfp_flows.conditioners.lipschitz import LipschitzMLP
from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.mlp import MLP, ResidualMLP

__all__ = ["LipschitzMLP", "MADE", "MLP", "ResidualMLP"]
