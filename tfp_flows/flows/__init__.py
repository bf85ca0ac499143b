"""One function per paper, each of which only names parts: a base and a chain of bijectors.

Every function returns a `tfd.TransformedDistribution` of a `tfb.Chain`; the chain's first bijector is next to the data.
The arguments they share are described in `tfp_flows.flows.flow`.
"""

from tfp_flows.flows.continuous import continuous, with_solver
from tfp_flows.flows.images import glow, realnvp_image
from tfp_flows.flows.manifolds import product, sphere, torus
from tfp_flows.flows.vectors import (
    gaussian,
    gaussianization,
    iaf,
    maf,
    neural_spline_autoregressive,
    neural_spline_coupling,
    nice,
    planar,
    radial,
    realnvp,
    residual,
    smooth,
    sylvester,
)

__all__ = [
    "nice",
    "realnvp",
    "neural_spline_coupling",
    "maf",
    "iaf",
    "neural_spline_autoregressive",
    "planar",
    "radial",
    "sylvester",
    "residual",
    "smooth",
    "gaussianization",
    "gaussian",
    "continuous",
    "with_solver",
    "torus",
    "sphere",
    "product",
    "realnvp_image",
    "glow",
]
