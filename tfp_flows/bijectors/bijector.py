"""The base class of every bijector here: owns Keras layers, takes a context, checks input, in one place."""

from __future__ import annotations

import abc
import inspect
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability.python.internal import cache_util

from tfp_flows._arguments import (
    check_context_size,
    check_positive_integers,
    draw_seed,
    is_integer,
    keyword_signature,
    merged_signature,
)
from tfp_flows._copies import Copyable
from tfp_flows._types import DType, Shape
from tfp_flows.tracking import weights_of


class Bijector(Copyable, tfb.Bijector):
    """A `tfb.Bijector` on events of any shape that may hold Keras layers and depend on a context.

    Forward takes the base's z to data x; `log_prob` uses the inverse. To write a bijector, write the two directions,
    each with its log-determinant, and nothing else:

      `_forward_and_log_det(z, context)` returns x = f(z) and log|det ∂f/∂z|.
      `_inverse_and_log_det(x, context)` returns z = f⁻¹(x) and log|det ∂f⁻¹/∂x|.

    z and x come as tensors of this bijector's dtype, checked, with all their batch dimensions; the context has batch
    dimensions that broadcast against theirs, and is None where there is none. That the two directions are inverse to
    each other and the log-determinants right is not checked.

    In `__init__`, first call `super().__init__`, then assign Keras layers (built) and variables as attributes, alone or
    in lists and dictionaries: they are tracked, as in Keras. All exist when `__init__` ends. What is drawn at random
    comes from `self.seed`; where NumPy draws it, `_remember` keeps what was drawn for copies and files. Keywords that
    are only passed to the parent are written `**shared`; signatures and `help` show them by name.

    Shapes: x `[..., *event_shape]`, z `[..., *base_shape]`, context `[..., context_size]`, log-determinants `[...]`,
    one per event, in nats. The batch shapes of event and context broadcast.

    In TFP's own methods the context is a keyword: `b.forward(z, context=c)`, and in a chain
    `chain.forward(z, **{b.name: {"context": c}})`; with `tff.condition` the parts need not be named.

    Value and log-determinant come from one evaluation: TFP's cache keeps the log-determinant beside the value, so that
    `log_prob`, `sample` and `sample_and_log_prob` run every conditioner once. As with every TFP bijector the cache is
    keyed by the identity of the tensor: in eager code, pass a new tensor after changing a variable (`FlowModel` does).

    Arguments:
      event_shape: the shape of x: a size for vectors, else a sequence of sizes. Vector bijectors name it `event_size`.
      base_shape: the shape of z where it is another; None for the same.
      context_shape: the shape of a context that is no vector, in place of `context_size`.
      context_size: C, the length of a context vector; 0 for none.
      dtype: the dtype of events, contexts, weights and log-determinants. Under Keras's policy "mixed_bfloat16" the
        networks of float32 bijectors compute in bfloat16 after their first layer; everything else stays float32.
      seed: an integer that fixes every parameter and order; drawn if None, from Python's generator, which
        `keras.utils.set_random_seed` sets.
      validate_args: whether to check, at some cost, that every event is finite.
      name: the key under which `tfb.Chain` passes the context.

    Raises, on calls: ValueError for a wrong event shape and for a context that is missing, unexpected or of the wrong
    shape; TypeError for integer input.

    Example: a custom bijector.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> class Flip(tff.bijectors.Bijector):
    ...     def __init__(self, image_shape, **shared):
    ...         super().__init__(image_shape, **shared)
    ...     def _forward_and_log_det(self, z, context):
    ...         return tf.reverse(z, [-2]), tf.zeros(tf.shape(z)[:-3], z.dtype)
    ...     _inverse_and_log_det = _forward_and_log_det
    >>> flip = Flip([2, 2, 1])
    >>> flip.forward(tf.reshape(tf.range(4.0), [2, 2, 1])).numpy().ravel().tolist()
    [1.0, 0.0, 3.0, 2.0]
    """

    # By which arguments, beside seed and name, layers of a `Stack` may differ; each with the attribute that keeps it.
    _arrays = ()

    # Internal to TFP, as its FFJORD uses it; a test counts the evaluations.
    _cache = cache_util.BijectorCacheWithGreedyAttrs(forward_name="_cached_forward", inverse_name="_cached_inverse")

    def __init_subclass__(cls, keywords_of=None, **kwargs):
        """Merges the keywords that `__init__` passes on, to its parent and to `keywords_of`, into the signature."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            parents = [inspect.signature(super(cls, cls).__init__)]
            if keywords_of is not None:
                parents.insert(0, keyword_signature(keywords_of))
            signature = merged_signature(cls.__init__, *parents)
            cls.__init__.__signature__ = signature
            cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])

    def __new__(cls, *args, **kwargs):
        """Keeps the constructor's arguments, from which TFP copies the bijector and `saving` writes it."""
        bijector = super().__new__(cls)
        arguments = inspect.signature(cls.__init__).bind(bijector, *args, **kwargs)
        arguments.apply_defaults()
        arguments.arguments.pop("self")
        bijector._constructor_arguments = bijector._no_dependency(dict(arguments.arguments))
        return bijector

    def __init__(
        self,
        event_shape: Shape,
        base_shape: Shape | None = None,
        context_shape: Shape | None = None,
        *,
        context_size: int = 0,
        dtype: DType = tf.float32,
        seed: int | None = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        check_context_size(context_size)
        self.event_shape = _checked_shape(event_shape)
        self.base_shape = self.event_shape if base_shape is None else _checked_shape(base_shape)
        if context_shape is None and context_size:
            context_shape = [context_size]
        self.context_size = int(context_size)
        self.context_shape = None if context_shape is None else tf.TensorShape(context_shape)
        self.seed = draw_seed(seed)
        super().__init__(
            forward_min_event_ndims=self.base_shape.rank,
            inverse_min_event_ndims=self.event_shape.rank,
            dtype=tf.as_dtype(dtype),
            validate_args=validate_args,
            parameters=dict(self._constructor_arguments),
            name=name,
        )
        if "seed" in self._parameters:
            self._remember(seed=self.seed)

    @abc.abstractmethod
    def _forward_and_log_det(self, z, context):
        """x = f(z) and log|det ∂f/∂z|."""

    @abc.abstractmethod
    def _inverse_and_log_det(self, x, context):
        """z = f⁻¹(x) and log|det ∂f⁻¹/∂x|."""

    @property
    def event_size(self) -> int:
        """D, the number of coordinates of x."""
        return math.prod(self.event_shape)

    @property
    def _network_dtype(self):
        """What a network computes in: the bijector's dtype, or Keras's policy "mixed_bfloat16" for one of float32."""
        policy = keras.config.dtype_policy()
        mixed = policy.compute_dtype == "bfloat16" and policy.variable_dtype == self.dtype.name
        return policy.name if mixed else self.dtype.name

    def __setattr__(self, name, value):
        """Sets an attribute, and keeps the weights of Keras layers in it where `tf.Module` finds them."""
        super().__setattr__(name, value)
        if isinstance(value, (keras.layers.Layer, list, tuple, dict)):
            layers = [leaf for leaf in tf.nest.flatten(value) if isinstance(leaf, keras.layers.Layer)]
            for layer in layers:
                if not layer.built:
                    raise ValueError(
                        f"Expected `{name}` to be built, so that all its weights exist: call it, or its `build`, "
                        f"before. Received: {layer}"
                    )
            if layers:
                weights = [weight for layer in layers for weight in weights_of(layer)]
                super().__setattr__("_weights", {**getattr(self, "_weights", {}), name: weights})

    def _remember(self, **drawn):
        """Replaces arguments by what was drawn for them, so that copies and files have the same."""
        self._parameters.update(drawn)

    # Shapes, as TFP asks for them: dimensions before the event's own stay.

    def _forward_event_shape(self, shape):
        return _with_ending(shape, self.base_shape, self.event_shape)

    def _inverse_event_shape(self, shape):
        return _with_ending(shape, self.event_shape, self.base_shape)

    def _forward_event_shape_tensor(self, shape):
        return tf.concat([shape[: tf.size(shape) - self.base_shape.rank], self.event_shape], 0)

    def _inverse_event_shape_tensor(self, shape):
        return tf.concat([shape[: tf.size(shape) - self.event_shape.rank], self.base_shape], 0)

    # What TFP's cache calls: the value, and the log-determinant for the cache to keep.

    def _cached_forward(self, z, context=None):
        x, log_det = self._forward_and_log_det(*self._checked(z, context, self.base_shape.rank))
        return x, {"ildj": -log_det}

    def _cached_inverse(self, x, context=None):
        z, log_det = self._inverse_and_log_det(*self._checked(x, context, self.event_shape.rank))
        return z, {"ildj": log_det}

    # What TFP calls when the cache has no log-determinant.

    def _forward_log_det_jacobian(self, z, context=None):
        return self._forward_and_log_det(*self._checked(z, context, self.base_shape.rank))[1]

    def _inverse_log_det_jacobian(self, x, context=None):
        return self._inverse_and_log_det(*self._checked(x, context, self.event_shape.rank))[1]

    def _checked(self, event, context, ndims):
        """Event and context as tensors of one batch shape, or an error that names this bijector."""
        if self.validate_args:
            event = tf.debugging.check_numerics(event, f"`{self.name}` expected finite events.")
        if self.context_shape is not None:
            context = self._checked_context(context)
            event = _broadcast_batch(event, ndims, context, self.context_shape.rank)
        elif context is not None:
            raise ValueError(
                f"`{self.name}` takes no context (its context_size is 0). "
                f"Received: a context of shape {tuple(tf.convert_to_tensor(context).shape)}"
            )
        return event, context

    def _checked_context(self, context):
        expected = _words(self.context_shape)
        if context is None:
            raise ValueError(f"`{self.name}` expected a context {expected}. Received: context=None")
        context = tf.cast(context, self.dtype)
        if not _ends_with(context.shape, self.context_shape):
            raise ValueError(f"`{self.name}` expected a context {expected}. Received: shape {tuple(context.shape)}")
        return context

    # TFP's entry points for values. TFP would silently turn NumPy's integers into floats.

    def _call_forward(self, x, name, **kwargs):
        return super()._call_forward(self._checked_event(x, self.base_shape), name, **kwargs)

    def _call_inverse(self, y, name, **kwargs):
        return super()._call_inverse(self._checked_event(y, self.event_shape), name, **kwargs)

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, **kwargs):
        x = self._checked_event(x, self.base_shape)
        return super()._call_forward_log_det_jacobian(x, event_ndims, name, **kwargs)

    def _call_inverse_log_det_jacobian(self, y, event_ndims, name, **kwargs):
        y = self._checked_event(y, self.event_shape)
        return super()._call_inverse_log_det_jacobian(y, event_ndims, name, **kwargs)

    def _checked_event(self, event, expected):
        shape = event.shape if tf.is_tensor(event) else tf.TensorShape(np.shape(event))
        if not _ends_with(shape, expected):
            raise ValueError(f"`{self.name}` expected events {_words(expected)}. Received: shape {shape}")
        dtype = getattr(event, "dtype", self.dtype)
        if not tf.as_dtype(dtype).is_floating:
            raise TypeError(f"`{self.name}` expected events of dtype {self.dtype.name}. Received: {dtype}")
        return event

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments: what `keras.saving.register_keras_serializable` asks of a subclass of yours."""
        return dict(self.parameters)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}  # parameters are made inside and have no batch shape

    def _get_parameterization(self):
        # TFP lets bijectors with equal arguments share a cache; ours hold weights of their own.
        return id(self)


def _checked_shape(shape):
    """A shape from a size or a sequence of sizes."""
    if is_integer(shape) or not hasattr(shape, "__iter__"):
        check_positive_integers(event_size=shape)
        return tf.TensorShape([int(shape)])
    sizes = list(shape)
    for size in sizes:
        if not is_integer(size) or size < 1:
            raise ValueError(f"Expected an event shape of positive integers. Received: {sizes}")
    return tf.TensorShape([int(size) for size in sizes])


def _ends_with(shape, expected):
    """Whether a shape, known in part, can be a batch shape and the expected one after it."""
    if shape.rank is None:
        return True
    return shape.rank >= expected.rank and expected.is_compatible_with(shape[shape.rank - expected.rank :])


def _with_ending(shape, old, new):
    """A shape that ends with `old`, with `new` there instead."""
    return tf.TensorShape(None) if shape.rank is None else shape[: shape.rank - old.rank].concatenate(new)


def _words(shape):
    if shape.rank == 1:
        return f"of size {shape[0]} on the last axis"
    return f"of shape {tuple(shape)} after any batch shape"


def _broadcast_batch(event, ndims, context, context_ndims):
    """The event, broadcast against the batch shape of the context."""
    batch, context_batch = event.shape[: event.shape.rank - ndims], context.shape[: context.shape.rank - context_ndims]
    if context_batch.rank == 0 or (batch.is_fully_defined() and batch == context_batch):
        return event
    rank, context_rank = batch.rank, context_batch.rank
    shape = tf.broadcast_dynamic_shape(tf.shape(event)[:rank], tf.shape(context)[:context_rank])
    static = tf.broadcast_static_shape(batch, context_batch)
    broadcast = tf.broadcast_to(event, tf.concat([shape, tf.shape(event)[rank:]], 0))
    return tf.ensure_shape(broadcast, static.concatenate(event.shape[rank:]))
