"""How data enters a model: conversion and checks, the same for every kind of source.

Data means events x, contexts, and sample weights: arrays, which are checked whole before anything is trained, or
batches of a pipeline, which are checked as far as a compiled step can.
"""

import copy

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.context import condition


class DataSpec:
    """What a model takes, and how user data is converted to it.

    Attributes:
      event_dtype, event_shape: of the distribution; structures where its events are structures.
      context_shape: a `tf.TensorShape`, a structure of them, or None where there is no context.
      fields: the names of what an objective wants beside x, see `with_fields`.
      precision: the float dtype of contexts, weights and densities, by name.
    """

    def __init__(self, distribution, context_shape):
        self.context_shape = context_shape
        if isinstance(distribution, tfd.JointDistribution) and context_shape is not None:
            # It draws from its parts to tell their dtypes and shapes.
            distribution = condition(distribution, _zeros(context_shape, "float32"))
        self.event_dtype = tf.nest.map_structure(tf.as_dtype, distribution.dtype)
        self.event_shape = distribution.event_shape
        self.fields = ()
        self.is_conditional = context_shape is not None
        self.precision = next(_float_dtypes(distribution, self.event_dtype), keras.config.floatx())

    def with_fields(self, fields):
        """What training takes where an objective wants more than x: dictionaries of "x" and of fields of its shape."""
        if not fields:
            return self
        spec = copy.copy(self)
        spec.fields = tuple(fields)
        spec.event_dtype = dict.fromkeys(("x", *fields), self.event_dtype)
        spec.event_shape = dict.fromkeys(("x", *fields), self.event_shape)
        return spec

    def x_and_fields(self, x):
        """x itself, and a dictionary of the fields beside it."""
        return (x["x"], {name: x[name] for name in self.fields}) if self.fields else (x, {})

    # By position: Keras's x, y and weights, or a batch

    def named(self, first, second=None, weight=None, context=None):
        """(context, x, weight) of the arguments of `fit`: `fit(x)`, `fit(context, x)` or `fit(x, context=context)`."""
        if context is not None:
            if second is not None:
                raise ValueError("Expected `fit(context, x)` or `fit(x, context=context)`. Received: both")
            first, second = context, first
        if not self.is_conditional:
            if second is not None:
                raise ValueError(
                    "Expected `fit(x)`, since the distribution takes no context. Received: a "
                    f"{'second argument' if context is None else 'context'}"
                )
            return (None, *self.unpack(first)[1:]) if weight is None else (None, first, weight)
        if second is None:
            context, x, own_weight = self.unpack(first)
            return context, x, own_weight if weight is None else weight
        return self.unpack((first, second, weight))

    def unpack(self, data):
        """(context, x, weight) of a batch or of validation data: x, (x, weight), (context, x), (context, x, weight).

        None marks a missing part: Keras passes (x, None, weight).
        """
        if not self.is_conditional:
            if self._is_event(data):
                return None, data, None
            x, *rest = [part for part in data if part is not None]
            if len(rest) > 1 or (rest and getattr(rest[0], "shape", (0,))[1:] not in ((), (1,))):
                raise ValueError(
                    "Expected x or (x, sample_weight), since the distribution takes no context. Received: "
                    f"{1 + len(rest)} parts, the second of shape {tuple(getattr(rest[0], 'shape', ()))}"
                )
            return None, x, rest[0] if rest else None
        if isinstance(data, (tuple, list)) and len(data) == 1:
            data = data[0]
        if not isinstance(data, (tuple, list)) or not 2 <= len(data) <= 3:
            what = "x alone" if not isinstance(data, (tuple, list)) else f"{len(data)} parts"
            raise ValueError(f"Expected a pair (context, x), since the distribution takes a context. Received: {what}")
        context, x, weight = (*data, None)[:3]
        if context is None or x is None:
            raise ValueError(
                "Expected a pair (context, x), since the distribution takes a context. "
                f"Received: {'context' if context is None else 'x'}=None"
            )
        return context, x, weight

    def _is_event(self, data):
        """Whether data has the structure of an event, so that it is no pair of an event and weights."""
        if not tf.nest.is_nested(self.event_dtype):
            # A list without arrays in it is one array, written out.
            return not isinstance(data, tuple) and not (
                isinstance(data, list) and any(hasattr(part, "shape") and part.shape != () for part in data)
            )
        try:
            tf.nest.assert_same_structure(self.event_dtype, data, check_types=False)
        except (TypeError, ValueError):
            return isinstance(data, dict)
        return not isinstance(data, tuple) or len(tf.nest.flatten(data)) == len(tf.nest.flatten(self.event_dtype))

    # Arrays, checked whole

    def arrays(self, context, x, weight=None, what="data"):
        """NumPy arrays of the right dtypes, checked: shapes, lengths, finite values, something in them.

        Events are called `what` in errors.

        Raises: TypeError or ValueError that names the context, the weights or the column, and counts what is wrong.
        """
        x = self._leaves(x, self.event_dtype, what)
        dtypes, shapes = tf.nest.flatten(self.event_dtype), flat_shapes(self.event_shape)
        place = " in the pair (context, x)" if self.is_conditional and what == "data" else ""
        x = [_rows(leaf, dtype, shape, what, place) for leaf, dtype, shape in zip(x, dtypes, shapes, strict=True)]
        counts = [(len(leaf), what) for leaf in x]
        if self.is_conditional:
            context = self._leaves(context, self.context_shape, "contexts")
            shapes = flat_shapes(self.context_shape)
            context = [
                _rows(leaf, tf.as_dtype(self.precision), shape, "contexts")
                for leaf, shape in zip(context, shapes, strict=True)
            ]
            counts += [(len(leaf), "contexts") for leaf in context]
            context = tf.nest.pack_sequence_as(self.context_shape, context)
            context = dict(context) if isinstance(context, dict) else context
        if weight is not None:
            weight = _array(weight, "sample weights").astype(self.precision)
            if weight.ndim == 2 and weight.shape[1] == 1:
                weight = weight[:, 0]
            if weight.ndim != 1:
                raise ValueError(f"Expected sample weights of shape ('n',). Received: shape {weight.shape}")
            _check_finite(weight, "sample weights")
            counts.append((len(weight), "sample weights"))
        if len({count for count, _ in counts}) > 1:
            received = ", ".join(f"{count} {name}" for count, name in counts)
            raise ValueError(f"Expected as many contexts and weights as events. Received: {received}")
        return context, tf.nest.pack_sequence_as(self.event_dtype, x), weight

    def _leaves(self, data, structure, what):
        """The leaves of data of a structure, in its order."""
        if not tf.nest.is_nested(structure) or isinstance(structure, tf.TensorShape):
            return [data]
        if isinstance(structure, dict):
            if not hasattr(data, "keys") or set(data.keys()) != set(structure):
                names = sorted(map(str, data.keys())) if hasattr(data, "keys") else f"a {type(data).__name__}"
                raise ValueError(f"Expected {what} with the names {sorted(structure)}. Received: {names}")
            return [data[name] for name in sorted(structure)]
        leaves = tf.nest.flatten(data)
        if len(leaves) != len(tf.nest.flatten(structure)):
            count = len(tf.nest.flatten(structure))
            raise ValueError(f"Expected {what} as a structure of {count} tensors. Received: {len(leaves)} tensors")
        return leaves

    # Batches

    def batch(self, context, x, weight=None):
        """The parts of a batch as a pipeline yields them: x, (x, weight), (context, x) or (context, x, weight)."""
        parts = [part for part in (context, x, weight) if part is not None]
        # A list inside a tuple is a tensor for tf.data.
        return parts[0] if len(parts) == 1 else tuple(tuple(part) if type(part) is list else part for part in parts)

    def tensors(self, context, x, weight=None):
        """A batch as tensors of the right dtypes, with the shapes that the model knows; new ones, for TFP's cache.

        Raises: TypeError or ValueError for dtypes and shapes that are known to be wrong.
        """
        x = self._leaves(x, self.event_dtype, "data")
        dtypes, shapes = tf.nest.flatten(self.event_dtype), flat_shapes(self.event_shape)
        x = [_batch(leaf, dtype, shape, "data") for leaf, dtype, shape in zip(x, dtypes, shapes, strict=True)]
        if self.is_conditional:
            leaves = self._leaves(context, self.context_shape, "contexts")
            leaves = [
                _batch(leaf, tf.as_dtype(self.precision), shape, "contexts", is_event=False)
                for leaf, shape in zip(leaves, flat_shapes(self.context_shape), strict=True)
            ]
            context = tf.nest.pack_sequence_as(self.context_shape, leaves)
            context = dict(context) if isinstance(context, dict) else context
        if weight is not None:
            weight = tf.cast(weight, self.precision)
            weight = tf.reshape(weight, [-1]) if weight.shape.rank != 1 else weight
        return context, tf.nest.pack_sequence_as(self.event_dtype, x), weight

    def event(self, x):
        """An event, or events of any batch shape, as new tensors, which TFP's cache does not know."""
        return self._any_batch_shape(x, self.event_dtype, "data")

    def context(self, context):
        """A context, or contexts of any batch shape, as new tensors."""
        dtypes = tf.nest.map_structure(lambda _: tf.as_dtype(self.precision), self.context_shape)
        return self._any_batch_shape(context, dtypes, "contexts", is_event=False)

    def _any_batch_shape(self, data, dtypes, what, is_event=True):
        leaves = zip(self._leaves(data, dtypes, what), tf.nest.flatten(dtypes), strict=True)
        tensors = [tf.identity(_tensor(leaf, dtype, what, is_event)) for leaf, dtype in leaves]
        tensors = tf.nest.pack_sequence_as(dtypes, tensors)
        # A plain dictionary, whatever kind tracks those that are attributes: Keras compares the types.
        return dict(tensors) if isinstance(tensors, dict) else tensors

    def zero_context(self):
        """A single context of zeros; None where there is none."""
        if not self.is_conditional:
            return None
        return _zeros(self.context_shape, self.precision)

    def target(self, x):
        """The event as one tensor for losses and metrics: a structure's parts flattened and concatenated."""
        if not tf.nest.is_nested(self.event_dtype):
            return x
        parts = [tf.cast(part, self.precision) for part in tf.nest.flatten(x)]
        return tf.concat([tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts], 1)


def check_finite(context, x, weight=None):
    """The parts of a batch in a pipeline, with an assertion that their numbers are finite.

    A batch fails where it is read: `tf.errors.InvalidArgumentError`.
    """

    def checked(what):
        def check(leaf):
            if not leaf.dtype.is_floating:
                return leaf
            return tf.debugging.check_numerics(leaf, f"Expected finite {what} in every batch. Received:")

        return check

    named = ((context, "contexts"), (x, "data"), (weight, "sample weights"))
    return tuple(None if part is None else tf.nest.map_structure(checked(what), part) for part, what in named)


def is_array(data):
    """Whether data is held in memory (arrays, lists, tensors, frames, structures of them), not a pipeline."""
    if data is None or isinstance(data, (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset)):
        return False
    return not hasattr(data, "__next__") and not callable(data)


def _rows(leaf, dtype, shape, what, place=""):
    """Rows as an array of a shape and a dtype, finite: contexts of any numbers, events of those that have a density.

    Events are called `what`, and errors of shapes say at which `place` they were expected.
    """
    if what != "contexts":
        _refuse_without_density(leaf, dtype, what)
    array = _array(leaf, what)
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
        _check_finite(cast, what, leaf, array)
    return cast


def _array(leaf, what):
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


def _check_finite(array, what, leaf=None, before=None):
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


def _tensor(leaf, dtype, what, is_event):
    if keras.backend.is_keras_tensor(leaf):
        raise TypeError(
            f"Expected {what} with values. Inside a Keras model call the FlowModel itself, as a layer: flow(x), or "
            f"flow((context, x)). Received: {leaf}"
        )
    if hasattr(leaf, "to_numpy") or str(getattr(leaf, "dtype", None)) == "object":
        if is_event:
            _refuse_without_density(leaf, dtype, what)
        leaf = _array(leaf, what)
    tensor = tf.convert_to_tensor(leaf)
    if is_event:
        _refuse_without_density(tensor, dtype, what)
    return tf.cast(tensor, dtype)


def _batch(leaf, dtype, shape, what, is_event=True):
    """Rows as a new tensor, with the shape that is known of them."""
    tensor = tf.identity(_tensor(leaf, dtype, what, is_event))
    if tensor.shape.rank is None:
        return tf.ensure_shape(tensor, tf.TensorShape([None]).concatenate(shape))
    before = tensor.shape.rank - shape.rank
    if before < 0 or not shape.is_compatible_with(tensor.shape[before:]):
        raise ValueError(f"Expected {what} of shape {('n', *shape)}. Received: shape {tensor.shape}")
    return tf.ensure_shape(tensor, tensor.shape[:before].concatenate(shape))


def _zeros(shapes, dtype):
    """A single context of zeros, of size 1 where any will do."""
    return tf.nest.map_structure(lambda shape: tf.zeros([size or 1 for size in shape], dtype), shapes)


def _float_dtypes(distribution, dtypes):
    """The names of the float dtypes of a distribution: of its events, and of what those of integers are made from."""
    yield from (dtype.name for dtype in map(tf.as_dtype, tf.nest.flatten(dtypes)) if dtype.is_floating)
    for part in tf.nest.flatten(distribution.parameters):
        dtype = part if isinstance(part, tf.DType) else getattr(part, "dtype", None)
        if isinstance(part, tfd.Distribution):
            yield from _float_dtypes(part, dtype)
        elif dtype is not None and tf.as_dtype(dtype).is_floating:
            yield tf.as_dtype(dtype).name


def flat_shapes(shapes):
    """The leaves of a structure of shapes; [None] of None."""
    return [shapes] if isinstance(shapes, tf.TensorShape) else tf.nest.flatten(shapes)
