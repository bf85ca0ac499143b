"""(Untouched part of x, context) -> parameters: Keras 3 layers, no probability inside."""

from tfp_flows.conditioners.convolutional import ConvNet
from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.mlp import MLP, ResidualMLP

__all__ = ["ConvNet", "MADE", "MLP", "ResidualMLP"]
