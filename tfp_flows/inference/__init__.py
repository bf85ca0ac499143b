"""What people do with a trained flow: importance sampling, coverage, expectations, variational inference,
and what moves a point in the base's space does to its data.

Everywhere `flow` is a `FlowModel` or a `tfd.Distribution`, and `context` what it takes as context, if anything.
"""

from tfp_flows.inference.coverage import Coverage, Ranks, coverage, expected_coverage, rank_statistics
from tfp_flows.inference.expectation import entropy, expectation, kl, moments
from tfp_flows.inference.importance import ImportanceSample, importance_sample, pareto_shape
from tfp_flows.inference.interpolation import direction, interpolate, move
from tfp_flows.inference.manifolds import manifold_coverage, von_mises_fisher
from tfp_flows.inference.posterior import posterior
from tfp_flows.inference.variational import fit_reverse_kl, reverse_kl

__all__ = [
    "ImportanceSample",
    "importance_sample",
    "pareto_shape",
    "Coverage",
    "coverage",
    "expected_coverage",
    "Ranks",
    "rank_statistics",
    "manifold_coverage",
    "von_mises_fisher",
    "expectation",
    "moments",
    "entropy",
    "kl",
    "interpolate",
    "direction",
    "move",
    "posterior",
    "reverse_kl",
    "fit_reverse_kl",
]
