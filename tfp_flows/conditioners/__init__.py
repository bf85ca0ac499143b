"""(Untouched part of x, context) -> parameters: Keras 3 layers, no probability inside."""

from tfp_flows.conditioners.block_made import BlockMADE
from tfp_flows.conditioners.convolutional import ConvNet
from tfp_flows.conditioners.lipschitz import LipschitzMLP
from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.mlp import MLP, ResidualMLP
from tfp_flows.conditioners.periodic import PeriodicMLP
from tfp_flows.conditioners.velocity import Velocity

__all__ = ["MADE", "MLP", "BlockMADE", "ConvNet", "LipschitzMLP", "PeriodicMLP", "ResidualMLP", "Velocity"]
