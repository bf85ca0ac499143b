"""`tfb.Bijector` subclasses: a conditioner joined to a transformer, or a map standing alone."""

from tfp_flows.bijectors.actnorm import ActNorm, Standardize
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.coupling import NICE, Coupling, RealNVP

__all__ = ["ActNorm", "Bijector", "Coupling", "NICE", "RealNVP", "Standardize"]
