"""What a training step minimizes: `FlowModel.compile(objective=...)`."""

from tfp_flows.model.flow_matching import FlowMatching, PenalizedLikelihood
from tfp_flows.model.force_matching import ForceMatching
from tfp_flows.model.objectives import Likelihood, Objective

__all__ = ["FlowMatching", "ForceMatching", "Likelihood", "Objective", "PenalizedLikelihood"]
