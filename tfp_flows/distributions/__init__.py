"""`tfd.Distribution` subclasses: what is no bijector."""

from tfp_flows.distributions.dequantized import Dequantized, NoiseGivenData

__all__ = ["Dequantized", "NoiseGivenData"]
