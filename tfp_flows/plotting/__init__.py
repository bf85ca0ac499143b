"""Pictures of densities, samples and coverage; they need the extra `plot` (matplotlib, corner)."""

from tfp_flows.plotting.pictures import corner, coverage, density, posterior, ranks

__all__ = ["corner", "coverage", "density", "posterior", "ranks"]
