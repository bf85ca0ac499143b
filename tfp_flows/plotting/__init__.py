"""Pictures of densities, samples and coverage; they need the extra `plot` (matplotlib, corner)."""

from tfp_flows.plotting.pictures import corner, coverage, density, posterior, ranks
from tfp_flows.plotting.sphere import sphere

__all__ = ["corner", "coverage", "density", "posterior", "ranks", "sphere"]
