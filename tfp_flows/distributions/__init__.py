"""`tfd.Distribution` subclasses: what is more than a base and a bijector."""

from tfp_flows.distributions.categories import Categories
from tfp_flows.distributions.dequantized import Dequantized, NoiseGivenData
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.normal import Normal
from tfp_flows.distributions.partial import Partial
from tfp_flows.distributions.product import Product

__all__ = ["Categories", "Dequantized", "Flow", "NoiseGivenData", "Normal", "Partial", "Product"]
