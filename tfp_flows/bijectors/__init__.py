"""`tfb.Bijector` subclasses: a conditioner joined to a transformer, or a map standing alone."""

from tfp_flows.bijectors.actnorm import ActNorm, Standardize
from tfp_flows.bijectors.autoregressive import IAF, MAF, MaskedAutoregressive, NeuralSplineAutoregressive
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.circular import CircularAutoregressive, CircularCoupling
from tfp_flows.bijectors.conditional_blocks import ConditionalBlocks
from tfp_flows.bijectors.continuous import Continuous
from tfp_flows.bijectors.coupling import NICE, Coupling, NeuralSplineCoupling, RealNVP
from tfp_flows.bijectors.elementwise import DiagonalAffine, Elementwise
from tfp_flows.bijectors.gaussianization import Gaussianization
from tfp_flows.bijectors.image_coupling import ImageCoupling
from tfp_flows.bijectors.invertible_convolution import InvertibleConvolution
from tfp_flows.bijectors.linear import Householder, LULinear, TriangularAffine
from tfp_flows.bijectors.linear_regression import LinearRegression
from tfp_flows.bijectors.multi_scale import MultiScale
from tfp_flows.bijectors.permutation import Permutation
from tfp_flows.bijectors.planar import Planar
from tfp_flows.bijectors.radial import Radial
from tfp_flows.bijectors.residual import Residual
from tfp_flows.bijectors.simplex import Simplex
from tfp_flows.bijectors.sphere import SphereFlow, SphericalCoordinates
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.bijectors.stack import Stack
from tfp_flows.bijectors.support import Support
from tfp_flows.bijectors.sylvester import Sylvester
from tfp_flows.context import Embedded, StandardizedContext

__all__ = [
    "ActNorm",
    "Bijector",
    "Continuous",
    "CircularAutoregressive",
    "CircularCoupling",
    "ConditionalBlocks",
    "Coupling",
    "DiagonalAffine",
    "Elementwise",
    "Embedded",
    "Gaussianization",
    "Householder",
    "IAF",
    "ImageCoupling",
    "InvertibleConvolution",
    "LinearRegression",
    "LULinear",
    "MAF",
    "MaskedAutoregressive",
    "MultiScale",
    "NeuralSplineAutoregressive",
    "NeuralSplineCoupling",
    "NICE",
    "Permutation",
    "Planar",
    "Radial",
    "RealNVP",
    "Residual",
    "Simplex",
    "SphereFlow",
    "SphericalCoordinates",
    "Squeeze",
    "Stack",
    "Standardize",
    "StandardizedContext",
    "Support",
    "Sylvester",
    "TriangularAffine",
]
