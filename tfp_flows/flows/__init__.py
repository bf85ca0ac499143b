"""One function a paper, each of which only names parts: a base, and bijectors one after the other.

Every function returns a `tfd.TransformedDistribution` of a `tfb.Chain`; the chain's first bijector is next to the data.
What they share stands in `tfp_flows.flows.flow`.
"""

from tfp_flows.flows.images import glow, realnvp_image
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
    "gaussianization",
    "gaussian",
    "realnvp_image",
    "glow",
]
