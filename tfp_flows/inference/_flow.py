"""A flow is given as a FlowModel or as a distribution, with or without a context."""

from tfp_flows._arguments import draw_seed, split_seed
from tfp_flows.context import condition
from tfp_flows.model import FlowModel


def as_model(flow):
    """The flow as a `FlowModel`, whose methods are compiled; a distribution in a new one shares its variables."""
    return flow if isinstance(flow, FlowModel) else FlowModel(flow)


def as_distribution(flow, context=None):
    """The flow as a `tfd.Distribution`, bound to the context if there is one."""
    distribution = flow.distribution if isinstance(flow, FlowModel) else flow
    return distribution if context is None else condition(distribution, context)


def batches(total, batch_size, seed):
    """(size, seed) for every batch of `total` draws."""
    batch_size = total if batch_size is None else min(batch_size, total)
    sizes = [batch_size] * (total // batch_size) + ([total % batch_size] if total % batch_size else [])
    return list(zip(sizes, split_seed(draw_seed(seed), len(sizes)), strict=True))
