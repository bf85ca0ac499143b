"""One array or one tensor of user data: conversion to numbers of a dtype, and checks that name what is wrong."""

import keras
import numpy as np
import tensorflow as tf


def is_array(data):
    """Whether data is held in memory (arrays, lists, tensors, frames, structures of them), not a pipeline."""
    if data is None or isinstance(data, (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset)):
        return False
    return not hasattr(data, "__next__") and not callable(data)


def checked_rows(leaf, dtype, shape, what, place=""):
    """Rows as an array of a shape and a dtype, finite: contexts of any numbers, events of those that have a density.

    Events are called `what`, and errors of shapes say at which `place` they were expected.
    """
    if what != "contexts":
        _refuse_without_density(leaf, dtype, what)
    array = numbers(leaf, what)
    expected = tuple(shape)
    if array.ndim != 1 + len(expected) or any(
        size not in (None, got) for size, got in zip(expected, array.shape[1:], strict=True)
    ):
        raise ValueError(f"Expected {what}{place} of shape {('n', *expected)}. Received: shape {array.shape}")
    if not len(array):
        raise ValueError(f"Expected {what} with at least one row. Received: shape {array.shape}")
    with np.errstate(over="ignore"):  # what is too large is refused below, by column
        cast = array.astype(dtype.as_numpy_dtype, copy=False)
    if dtype.is_floating:
        check_finite(cast, what, leaf, array)
    return cast


def numbers(leaf, what):
    """A NumPy array of numbers from an array, a list, a tensor, a frame or a series, nullable and object dtypes too."""
    try:
        if hasattr(leaf, "to_numpy"):
            kinds = set(map(str, leaf.dtypes if hasattr(leaf, "columns") else [leaf.dtype]))
            array = leaf.to_numpy() if kinds <= _NUMPY_KINDS else leaf.to_numpy(dtype="float64", na_value=np.nan)
        else:
            array = np.asarray(leaf)
        if array.dtype == object:
            array = array.astype("float64")
        if array.dtype.kind not in "biuf" and array.dtype != tf.bfloat16.as_numpy_dtype:
            raise TypeError(f"dtype {array.dtype}")
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected {what} that are numbers. Received: {_not_numbers(leaf, error)}") from error
    return array


_NUMPY_KINDS = {"float64", "float32", "float16", "int64", "int32", "int16", "int8", "bool"}


def _not_numbers(leaf, error):
    """The columns of a frame that hold no numbers, or what NumPy said."""
    found = []
    for name in getattr(leaf, "columns", ()):
        try:
            leaf[name].to_numpy(dtype="float64", na_value=np.nan)
        except (TypeError, ValueError):
            found.append(f"column {name!r} of dtype {leaf[name].dtype}")
    return ", ".join(found) or str(error)


def check_finite(array, what, leaf=None, before=None):
    if not np.isfinite(array).all():
        raise ValueError(f"Expected finite {what}. Received: {_describe_non_finite(leaf, array, before)}")


def _describe_non_finite(leaf, array, before=None):
    """Which columns hold non-finite values, and how many: "column 3 ('mass'): 12 NaN, 1 infinite"."""
    columns = array.reshape(len(array), -1)
    given = columns if before is None else np.asarray(before, np.float64).reshape(len(array), -1)
    names = list(getattr(leaf, "columns", ()))
    found = []
    for k in np.flatnonzero(~np.isfinite(columns).all(0)):
        nan, infinite = np.isnan(given[:, k]).sum(), np.isinf(given[:, k]).sum()
        too_large = np.count_nonzero(~np.isfinite(columns[:, k])) - nan - infinite
        counts = [(nan, "NaN"), (infinite, "infinite"), (too_large, f"too large for {array.dtype}")]
        counts = ", ".join(f"{count} {kind}" for count, kind in counts if count)
        found.append(f"column {k}{f' ({names[k]!r})' if names else ''}: {counts}")
    return "; ".join(found)


def _refuse_without_density(leaf, dtype, what):
    """Raises TypeError for integers where the distribution takes floats, and for floats where it takes integers."""
    columns = getattr(leaf, "columns", None)
    if columns is not None:
        received = {name: _dtype_of(leaf[name]) for name in columns}
        wrong = {name: kind for name, kind in received.items() if _is_wrong(kind, dtype)}
        named = ", ".join(f"column {name!r} of dtype {kind}" for name, kind in wrong.items())
    else:
        kind = _dtype_of(leaf)
        wrong, named = _is_wrong(kind, dtype), f"dtype {kind}"
    if not wrong:
        return
    if dtype.is_floating:
        raise TypeError(
            f"Expected {what} of dtype {dtype.name}. Integers have no density: if they are counts or rounded values, "
            f"add uniform noise of the rounding step to them, else cast them. Received: {named}"
        )
    raise TypeError(
        f"Expected {what} of an integer dtype, since the distribution is one over integers. Received: {named}"
    )


def _dtype_of(leaf):
    """The name of the dtype of what a user gives, as NumPy or TensorFlow would say it."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    if str(dtype) == "object":  # what the objects are
        dtype = np.asarray(leaf.tolist()).dtype
    if isinstance(dtype, tf.DType):
        return dtype.name
    return getattr(getattr(dtype, "numpy_dtype", dtype), "name", str(dtype))


def _is_wrong(kind, dtype):
    """Whether a dtype, by its name, is one without a density where one is needed, or the other way round."""
    is_integer = kind.startswith(("int", "uint", "bool"))
    return is_integer if dtype.is_floating else kind.startswith(("float", "bfloat"))


def checked_tensor(leaf, dtype, what, is_event):
    if keras.backend.is_keras_tensor(leaf):
        raise TypeError(
            f"Expected {what} with values. Inside a Keras model call the FlowModel itself, as a layer: flow(x), or "
            f"flow((context, x)). Received: {leaf}"
        )
    if hasattr(leaf, "to_numpy") or str(getattr(leaf, "dtype", None)) == "object":
        if is_event:
            _refuse_without_density(leaf, dtype, what)
        leaf = numbers(leaf, what)
    tensor = tf.convert_to_tensor(leaf)
    if is_event:
        _refuse_without_density(tensor, dtype, what)
    return tf.cast(tensor, dtype)


def checked_batch(leaf, dtype, shape, what, is_event=True):
    """Rows as a new tensor, with the shape that is known of them."""
    tensor = tf.identity(checked_tensor(leaf, dtype, what, is_event))
    if tensor.shape.rank is None:
        return tf.ensure_shape(tensor, tf.TensorShape([None]).concatenate(shape))
    before = tensor.shape.rank - shape.rank
    if before < 0 or not shape.is_compatible_with(tensor.shape[before:]):
        raise ValueError(f"Expected {what} of shape {('n', *shape)}. Received: shape {tensor.shape}")
    return tf.ensure_shape(tensor, tensor.shape[:before].concatenate(shape))
