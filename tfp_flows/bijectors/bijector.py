"""The base class of every bijector here: owns Keras layers, takes a context, checks input, once for all."""

import abc
import inspect

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability.python.internal import cache_util

from tfp_flows._arguments import check_context_size, check_positive_integers, draw_seed
from tfp_flows.tracking import weights_of


class Bijector(tfb.Bijector):
    """A `tfb.Bijector` on vectors that may hold Keras layers and depend on a context.

    Forward takes the base's z to data x; `log_prob` uses the inverse. A subclass writes the two directions, each with
    its log-determinant, and nothing else:

      `_forward_and_log_det(z, context)`: x = f(z) and log|det ∂f/∂z|.
      `_inverse_and_log_det(x, context)`: z = f⁻¹(x) and log|det ∂f⁻¹/∂x|.

    Shapes: z and x `[..., D]`, context `[..., C]`, log-determinants `[...]`, in nats. The batch shapes of event and
    context broadcast.

    In TFP's own methods the context is a keyword: `b.forward(z, context=c)`, and in a chain
    `chain.forward(z, **{b.name: {"context": c}})`; `tff.condition` spares naming the parts.

    Value and log-determinant come from one evaluation: TFP's cache keeps the log-determinant beside the value, so that
    `log_prob`, `sample` and `sample_and_log_prob` run every conditioner once. As with every TFP bijector the cache goes
    by the identity of the tensor: in eager code, pass a new tensor after changing a variable (`FlowModel` does).

    Arguments:
      event_size: D, the number of coordinates.
      context_size: C, the length of a context vector; 0 for none.
      dtype: the dtype of events, contexts, weights and log-determinants. Under Keras's policy "mixed_bfloat16" the
        networks of float32 bijectors compute in bfloat16 behind their first layer, and nothing else does.
      seed: an integer that fixes every parameter and order; drawn if None, from Python's generator, which
        `keras.utils.set_random_seed` sets.
      validate_args: whether to check, at some cost, that every event is finite.
      name: the name under which a chain hands on the context.

    Raises, on calls: ValueError for a wrong event size and for a context that is missing, unexpected or of the wrong
    size; TypeError for integer input.
    """

    # Internal to TFP, as its FFJORD uses it; a test counts the evaluations.
    _cache = cache_util.BijectorCacheWithGreedyAttrs(forward_name="_cached_forward", inverse_name="_cached_inverse")

    def __new__(cls, *args, **kwargs):
        """Notes the constructor's arguments, from which TFP copies and `serialization` writes the bijector."""
        bijector = super().__new__(cls)
        arguments = inspect.signature(cls.__init__).bind(bijector, *args, **kwargs)
        arguments.apply_defaults()
        arguments.arguments.pop("self")
        bijector._constructor_arguments = bijector._no_dependency(dict(arguments.arguments))
        return bijector

    def __init__(self, event_size, context_size=0, dtype=tf.float32, seed=None, validate_args=False, name=None):
        check_positive_integers(event_size=event_size)
        check_context_size(context_size)
        self.event_size = int(event_size)
        self.context_size = int(context_size)
        self.seed = draw_seed(seed)
        # A seed that was drawn is kept, so that a copy has the same orders and masks.
        drawn = {"seed": self.seed} if "seed" in self._constructor_arguments else {}
        super().__init__(
            forward_min_event_ndims=1,
            dtype=tf.as_dtype(dtype),
            validate_args=validate_args,
            parameters={**self._constructor_arguments, **drawn},
            name=name,
        )

    @abc.abstractmethod
    def _forward_and_log_det(self, z, context):
        """x = f(z) and log|det ∂f/∂z|."""

    @abc.abstractmethod
    def _inverse_and_log_det(self, x, context):
        """z = f⁻¹(x) and log|det ∂f⁻¹/∂x|."""

    @property
    def _network_dtype(self):
        """What a network computes in: the bijector's dtype, or Keras's policy "mixed_bfloat16" for one of float32."""
        policy = keras.config.dtype_policy()
        mixed = policy.compute_dtype == "bfloat16" and policy.variable_dtype == self.dtype.name
        return policy.name if mixed else self.dtype.name

    def _track_layer(self, layer):
        """Keeps a built Keras layer's weights where `tf.Module` finds them, and returns the layer."""
        self._weights = [*getattr(self, "_weights", []), *weights_of(layer)]
        return layer

    # What TFP's cache calls: the value, and the log-determinant for the cache to keep.

    def _cached_forward(self, z, context=None):
        x, log_det = self._forward_and_log_det(*self._checked(z, context))
        return x, {"ildj": -log_det}

    def _cached_inverse(self, x, context=None):
        z, log_det = self._inverse_and_log_det(*self._checked(x, context))
        return z, {"ildj": log_det}

    # What TFP calls when the cache has no log-determinant.

    def _forward_log_det_jacobian(self, z, context=None):
        return self._forward_and_log_det(*self._checked(z, context))[1]

    def _inverse_log_det_jacobian(self, x, context=None):
        return self._inverse_and_log_det(*self._checked(x, context))[1]

    def _checked(self, event, context):
        """Event and context as tensors of one batch shape, or an error that names this bijector."""
        if self.validate_args:
            event = tf.debugging.check_numerics(event, f"`{self.name}` expected finite events.")
        if self.context_size:
            context = self._checked_context(context)
            event = _broadcast_batch(event, context)
        elif context is not None:
            raise ValueError(
                f"`{self.name}` takes no context (its context_size is 0). "
                f"Received: a context of shape {tuple(tf.convert_to_tensor(context).shape)}"
            )
        return event, context

    def _checked_context(self, context):
        if context is None:
            raise ValueError(f"`{self.name}` expected a context of size {self.context_size}. Received: context=None")
        context = tf.convert_to_tensor(context, self.dtype)
        if context.shape.rank == 0 or context.shape[-1] not in (None, self.context_size):
            raise ValueError(
                f"`{self.name}` expected a context of size {self.context_size} on the last axis. "
                f"Received: shape {tuple(context.shape)}"
            )
        return context

    # The doors through which TFP lets values in. TFP would make floats of NumPy's integers in silence.

    def _call_forward(self, x, name, **kwargs):
        return super()._call_forward(self._checked_event(x), name, **kwargs)

    def _call_inverse(self, y, name, **kwargs):
        return super()._call_inverse(self._checked_event(y), name, **kwargs)

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, **kwargs):
        return super()._call_forward_log_det_jacobian(self._checked_event(x), event_ndims, name, **kwargs)

    def _call_inverse_log_det_jacobian(self, y, event_ndims, name, **kwargs):
        return super()._call_inverse_log_det_jacobian(self._checked_event(y), event_ndims, name, **kwargs)

    def _checked_event(self, event):
        shape = event.shape if tf.is_tensor(event) else tf.TensorShape(np.shape(event))
        if shape.rank == 0 or (shape.rank and shape[-1] not in (None, self.event_size)):
            raise ValueError(
                f"`{self.name}` expected events of size {self.event_size} on the last axis. Received: shape {shape}"
            )
        dtype = getattr(event, "dtype", self.dtype)
        if not tf.as_dtype(dtype).is_floating:
            raise TypeError(f"`{self.name}` expected events of dtype {self.dtype.name}. Received: {dtype}")
        return event

    def get_config(self):
        """The constructor's arguments: what `keras.saving.register_keras_serializable` asks of a subclass of yours."""
        return dict(self.parameters)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}  # parameters are made inside and have no batch shape

    def _get_parameterization(self):
        # TFP lets bijectors with equal arguments share a cache; ours hold weights of their own.
        return id(self)


def _broadcast_batch(event, context):
    """The event with the batch shape that it and the context have together."""
    if context.shape.rank == 1 or event.shape[:-1].as_list() == context.shape[:-1].as_list() != [None]:
        return event
    shape = tf.broadcast_dynamic_shape(tf.shape(event)[:-1], tf.shape(context)[:-1])
    static = tf.broadcast_static_shape(event.shape[:-1], context.shape[:-1])
    event = tf.broadcast_to(event, tf.concat([shape, tf.shape(event)[-1:]], 0))
    return tf.ensure_shape(event, [*static, event.shape[-1]])
