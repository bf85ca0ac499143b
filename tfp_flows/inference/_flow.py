"""What is given to a function of `tff.inference`: a flow as FlowModel or distribution, truths and observations."""

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import draw_seed, split_seed
from tfp_flows.context import condition
from tfp_flows.model import FlowModel
from tfp_flows.model.inputs import check_rows


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
    dtype = model.distribution.dtype
    if tf.nest.is_nested(dtype):
        raise TypeError(f"Expected a flow whose events are one tensor. Received: events of dtypes {dtype}")
    check_rows(x, dtype, model.distribution.event_shape, "truths")
    with np.errstate(over="ignore"):  # to infinity, which is refused
        x = np.asarray(x).astype(tf.as_dtype(dtype).as_numpy_dtype)
    if not np.isfinite(x).all():
        raise ValueError(f"Expected truths that fit {x.dtype}. Received: {np.isinf(x).sum()} values beyond it")
    context = as_contexts(model, context)
    for name, leaf in _named(context):
        if len(leaf) != len(x):
            raise ValueError(
                f"Expected one context for each truth. Received: {len(x)} truths and {len(leaf)} contexts{name}"
            )
    return x, context


def as_contexts(model, context, batch=True):
    """Contexts as arrays of floats, `[n, ...]`, or one without the batch dimension; None for a flow that takes none.

    Raises: see `as_rows`.
    """
    expected = model.context_shape
    if expected is None:
        if context is not None:
            raise ValueError(f"Expected no context, since the flow takes none. Received: context={type(context)}")
        return None
    if context is None:
        raise ValueError("Expected contexts, since the flow takes a context. Received: context=None")
    if not isinstance(expected, dict):
        return _as_floats(context, expected, model.precision, batch, "contexts")
    names = sorted(context) if isinstance(context, dict) else type(context)
    if names != sorted(expected):
        raise ValueError(f"Expected contexts as a dictionary of {sorted(expected)}. Received: {names}")
    return {
        name: _as_floats(context[name], shape, model.precision, batch, f"contexts {name!r}")
        for name, shape in expected.items()
    }


def _as_floats(leaf, shape, dtype, batch, what):
    try:
        array = np.asarray(leaf)
        array = array if array.dtype.kind == "f" else array.astype(dtype)  # numbers of any kind, not words
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected {what} of numbers. Received: {type(leaf).__name__} ({error})") from error
    # What has names of columns shows them in the message.
    named = hasattr(leaf, "columns") and array.dtype == np.asarray(leaf).dtype
    check_rows(leaf if named else array if batch else array[np.newaxis], dtype, shape, what)
    return array


def _named(context):
    if isinstance(context, dict):
        return [(f" {name!r}", leaf) for name, leaf in context.items()]
    return [] if context is None else [("", context)]


def batches(total, batch_size, seed):
    """(size, seed) for every batch of `total` draws."""
    batch_size = total if batch_size is None else min(batch_size, total)
    sizes = [batch_size] * (total // batch_size) + ([total % batch_size] if total % batch_size else [])
    return list(zip(sizes, split_seed(draw_seed(seed), len(sizes)), strict=True))
