"""How data enters a model: conversion and checks, the same for every kind of source.

Data means events x, contexts, and sample weights: arrays, which are checked whole before anything is trained, or
batches of a pipeline, which are checked as far as a compiled step can.
"""

import copy

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.context import condition
from tfp_flows.model.arrays import check_finite, checked_batch, checked_rows, checked_tensor, numbers


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
        x = [
            checked_rows(leaf, dtype, shape, what, place) for leaf, dtype, shape in zip(x, dtypes, shapes, strict=True)
        ]
        counts = [(len(leaf), what) for leaf in x]
        if self.is_conditional:
            context = self._leaves(context, self.context_shape, "contexts")
            shapes = flat_shapes(self.context_shape)
            context = [
                checked_rows(leaf, tf.as_dtype(self.precision), shape, "contexts")
                for leaf, shape in zip(context, shapes, strict=True)
            ]
            counts += [(len(leaf), "contexts") for leaf in context]
            context = tf.nest.pack_sequence_as(self.context_shape, context)
            context = dict(context) if isinstance(context, dict) else context
        if weight is not None:
            weight = numbers(weight, "sample weights").astype(self.precision)
            if weight.ndim == 2 and weight.shape[1] == 1:
                weight = weight[:, 0]
            if weight.ndim != 1:
                raise ValueError(f"Expected sample weights of shape ('n',). Received: shape {weight.shape}")
            check_finite(weight, "sample weights")
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
        x = [checked_batch(leaf, dtype, shape, "data") for leaf, dtype, shape in zip(x, dtypes, shapes, strict=True)]
        if self.is_conditional:
            leaves = self._leaves(context, self.context_shape, "contexts")
            leaves = [
                checked_batch(leaf, tf.as_dtype(self.precision), shape, "contexts", is_event=False)
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
        tensors = [tf.identity(checked_tensor(leaf, dtype, what, is_event)) for leaf, dtype in leaves]
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
