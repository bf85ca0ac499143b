"""Parameters in, an invertible scalar map out: pure functions of tensors."""

from tfp_flows.transformers.affine import Additive, Affine
from tfp_flows.transformers.transformer import Transformer

__all__ = ["Additive", "Affine", "Transformer"]
