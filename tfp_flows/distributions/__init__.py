"""Distributions that are more than a base and a bijector."""

from tfp_flows.distributions.product import Product

__all__ = ["Product"]
