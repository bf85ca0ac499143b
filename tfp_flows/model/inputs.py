"""Data as a distribution takes it: checks that name what is wrong with it before anything is trained."""

import numpy as np
import tensorflow as tf


def is_array(data):
    """Whether data is held in memory (arrays, tensors, frames, structures of them), not a pipeline."""
    return data is not None and all(hasattr(leaf, "shape") for leaf in tf.nest.flatten(data))


def as_event(data, dtype):
    """Data as new tensors of the distribution's dtypes and structure.

    The tensors are new so that TFP's cache, which goes by identity and knows nothing of trained weights, has no answer.

    Raises: TypeError for integers where the distribution takes floats.
    """
    leaves = [tf.identity(_as_tensor(leaf, leaf_dtype)) for leaf, leaf_dtype in _zip_leaves(data, dtype)]
    return tf.nest.pack_sequence_as(dtype, leaves)


def check_rows(data, dtype, event_shape, what="data"):
    """Checks arrays of rows: at least one row, floats, the right event shape, every value finite.

    Raises: TypeError or ValueError that names the column and counts what is wrong.
    """
    for (leaf, leaf_dtype), shape in zip(_zip_leaves(data, dtype), _shapes(event_shape), strict=True):
        _refuse_integers(leaf, leaf_dtype, what)
        array = np.asarray(leaf)
        expected = tuple(shape)
        if array.ndim != 1 + len(expected) or any(
            size not in (None, got) for size, got in zip(expected, array.shape[1:], strict=True)
        ):
            raise ValueError(f"Expected {what} of shape {('n', *expected)}. Received: shape {array.shape}")
        if not len(array):
            raise ValueError(f"Expected {what} with at least one row. Received: shape {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"Expected finite {what}. Received: {_describe_not_finite(leaf, array)}")


def check_gradient(log_prob, variables, x, context=None):
    """Checks that arrays are not so large that the gradient's norm overflows: a step would make every weight NaN.

    The gradient is that of the mean of `log_prob(x, context)` over the largest rows, the norm the one by which Keras
    clips; nothing is computed where all values are of ordinary size.

    Raises: ValueError that says how large the values are.
    """
    parts = [np.asarray(part) for part in tf.nest.flatten((x, context)) if part is not None]
    sizes = np.max([np.abs(part.reshape(len(part), -1)).max(1) for part in parts], 0)
    if sizes.max() < 100:  # contexts of 3000 have overflowed, by way of a scale; smaller ones than 100 have not
        return
    rows = np.argsort(sizes)[-256:]  # of one batch
    x, context = tf.nest.map_structure(lambda part: None if part is None else np.asarray(part)[rows], (x, context))
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(log_prob(x, context))
    # The zero is the norm where there is nothing to train.
    norm = tf.linalg.global_norm([tf.zeros_like(mean), *tape.gradient(mean, list(variables))])
    if not np.isfinite([mean, norm]).all():
        raise ValueError(
            f"Expected data of a size at which the likelihood and its gradient fit {mean.dtype.name}: take other "
            f"units, or `standardize=True` and `adapt`. Received: values up to {sizes.max():.2g}"
        )


def _describe_not_finite(leaf, array):
    """Which columns hold values that are not finite, and how many: "column 3 ('mass'): 12 NaN, 1 infinite"."""
    columns = array.reshape(len(array), -1)
    names = list(getattr(leaf, "columns", ()))
    found = []
    for k in np.flatnonzero(~np.isfinite(columns).all(0)):
        nan, infinite = np.isnan(columns[:, k]).sum(), np.isinf(columns[:, k]).sum()
        counts = ", ".join(f"{count} {kind}" for count, kind in [(nan, "NaN"), (infinite, "infinite")] if count)
        found.append(f"column {k}{f' ({names[k]!r})' if names else ''}: {counts}")
    return "; ".join(found)


def _refuse_integers(leaf, dtype, what):
    received = leaf.dtype if tf.is_tensor(leaf) else np.asarray(leaf).dtype
    if tf.as_dtype(dtype).is_floating and not tf.as_dtype(received).is_floating:
        raise TypeError(
            f"Expected {what} of dtype {tf.as_dtype(dtype).name}. Integers have no density: if they are counts or "
            "rounded values, add uniform noise of the rounding step to them, else cast them. "
            f"Received: dtype {tf.as_dtype(received).name}"
        )


def _as_tensor(leaf, dtype):
    _refuse_integers(leaf, dtype, "data")
    return tf.cast(leaf, dtype)


def _zip_leaves(data, dtype):
    """The leaves of the data, each with the dtype that the distribution has in its place."""
    if not tf.nest.is_nested(dtype):
        return [(data, dtype)]
    if isinstance(dtype, dict) and isinstance(data, dict) and set(data) != set(dtype):
        raise ValueError(f"Expected data with the names {sorted(dtype)}. Received: {sorted(data)}")
    dtypes, leaves = tf.nest.flatten(dtype), tf.nest.flatten(data)
    if len(leaves) != len(dtypes):
        raise ValueError(f"Expected data as a structure of {len(dtypes)} tensors. Received: {len(leaves)} tensors")
    return zip(leaves, dtypes, strict=True)


def _shapes(event_shape):
    if isinstance(event_shape, tf.TensorShape):
        return [event_shape.as_list()]
    return [shape.as_list() for shape in tf.nest.flatten(event_shape)]
