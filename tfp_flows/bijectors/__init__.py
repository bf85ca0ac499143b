"""`tfb.Bijector` subclasses: a conditioner joined to a transformer, or a map standing alone."""

from tfp_flows.bijectors.actnorm import ActNorm, Standardize
from tfp_flows.bijectors.autoregressive import IAF, MAF, MaskedAutoregressive, NeuralSplineAutoregressive
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.coupling import NICE, Coupling, NeuralSplineCoupling, RealNVP
from tfp_flows.bijectors.elementwise import DiagonalAffine, Elementwise
from tfp_flows.bijectors.gaussianization import Gaussianization
from tfp_flows.bijectors.linear import Householder, LULinear, TriangularAffine
from tfp_flows.bijectors.permutation import Permutation
from tfp_flows.bijectors.planar import Planar
from tfp_flows.bijectors.radial import Radial
from tfp_flows.bijectors.stack import Stack
from tfp_flows.bijectors.sylvester import Sylvester
from tfp_flows.context import Embedded, StandardizedContext

__all__ = [
    "ActNorm",
    "Bijector",
    "Coupling",
    "DiagonalAffine",
    "Elementwise",
    "Embedded",
    "Gaussianization",
    "Householder",
    "IAF",
    "LULinear",
    "MAF",
    "MaskedAutoregressive",
    "NeuralSplineAutoregressive",
    "NeuralSplineCoupling",
    "NICE",
    "Permutation",
    "Planar",
    "Radial",
    "RealNVP",
    "Stack",
    "Standardize",
    "StandardizedContext",
    "Sylvester",
    "TriangularAffine",
]
