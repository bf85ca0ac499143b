"""One function a paper, each of which only names parts: a base, and bijectors one after the other."""

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
]
