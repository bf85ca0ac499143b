"""What is given to a function of `tff.inference`: a flow as FlowModel or distribution, truths and observations."""

import tensorflow as tf

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


def as_rows(model, x, context):
    """Truths `[n, ...]` in the flow's dtype and a context for each, as NumPy arrays, checked.

    The context is None, an array `[n, ...]`, or a dictionary of such arrays where an embedding takes a dictionary.

    Raises: TypeError or ValueError that names the truths or the contexts: other shapes, lengths, dtypes or names than
      the flow takes, and NaN or infinite values, by column.
    """
    if tf.nest.is_nested(model.distribution.dtype):
        raise TypeError(
            f"Expected a flow whose events are one tensor. Received: events of dtypes {model.distribution.dtype}"
        )
    if model.is_conditional and context is None:
        raise ValueError("Expected contexts, since the flow takes a context. Received: context=None")
    if not model.is_conditional and context is not None:
        raise ValueError(f"Expected no context, since the flow takes none. Received: context={type(context)}")
    context, x, _ = model.data_spec.arrays(context, x, what="truths")
    return x, context


def batches(total, batch_size, seed):
    """(size, seed) for every batch of `total` draws."""
    batch_size = total if batch_size is None else min(batch_size, total)
    sizes = [batch_size] * (total // batch_size) + ([total % batch_size] if total % batch_size else [])
    return list(zip(sizes, split_seed(draw_seed(seed), len(sizes)), strict=True))
