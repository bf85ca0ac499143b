"""Parameters in, an invertible scalar map out: pure functions of tensors."""

from tfp_flows.transformers.affine import Additive, Affine
from tfp_flows.transformers.bump import Bump
from tfp_flows.transformers.circular_spline import CircularSpline
from tfp_flows.transformers.cubic_spline import CubicSpline
from tfp_flows.transformers.linear_spline import LinearSpline
from tfp_flows.transformers.logistic_mixture import LogisticMixture
from tfp_flows.transformers.quadratic_spline import QuadraticSpline
from tfp_flows.transformers.rational_quadratic import RationalQuadratic
from tfp_flows.transformers.transformer import Transformer

__all__ = [
    "Additive",
    "Affine",
    "RationalQuadratic",
    "LinearSpline",
    "QuadraticSpline",
    "CubicSpline",
    "CircularSpline",
    "LogisticMixture",
    "Bump",
    "Transformer",
]
