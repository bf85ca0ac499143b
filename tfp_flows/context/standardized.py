"""Contexts in any units brought to mean 0 and variance 1 before they reach the bijectors."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows._copies import Copyable
from tfp_flows._math.standardization import location_and_scale
from tfp_flows._types import Array, Context
from tfp_flows.context.context_bijector import ContextBijector
from tfp_flows.context.route import checked_context, context_shape_of


class StandardizedContext(Copyable, ContextBijector):
    """A conditional bijector whose context is standardized: f(z; (c - t) exp(-s)) for the inner bijector f(z; c).

    t and s are set by `adapt` alone; no optimizer changes them. At initialization they are 0.

    Shapes: z and x as the inner bijector's, context `[..., C]`.

    Arguments:
      bijector: the inner bijector, any composition, with contexts `[C]`.
      name: the key under which `tfb.Chain` passes the context.

    Raises: ValueError for a bijector whose context is not a vector.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> bijector = tff.bijectors.StandardizedContext(tff.bijectors.DiagonalAffine(2, context_size=1))
    >>> bijector.adapt(None, tf.constant([[100.0], [300.0]]))
    >>> bijector.shift.numpy().tolist()
    [200.0]
    """

    def __init__(self, bijector: tfb.Bijector, name: str = "standardized_context") -> None:
        parameters = dict(locals())
        self.context_shape = context_shape_of(bijector)
        if not isinstance(self.context_shape, tf.TensorShape) or self.context_shape.rank != 1:
            raise ValueError(
                f"Expected a bijector whose contexts are vectors. Received: {bijector} with contexts of shape "
                f"{self.context_shape}"
            )
        super().__init__(bijector, parameters, name)
        zeros = tf.zeros(self.context_shape, bijector.inverse_dtype() or tf.float32)
        self.shift = tf.Variable(zeros, trainable=False, name="shift")
        self.log_scale = tf.Variable(zeros, trainable=False, name="log_scale")

    def inner_context(self, context: Context | None) -> tf.Tensor:
        """(c - t) exp(-s): the context of the inner bijector, `[..., C]`."""
        context = tf.cast(checked_context(self.name, self.context_shape, context), self.shift.dtype)
        return (context - self.shift) * tf.exp(-self.log_scale)

    def adapt(self, x: Array | None, context: Array) -> None:
        """Sets t and exp(s) to the mean and the standard deviation of the contexts `[n, C]`; x is not used."""
        location, scale = location_and_scale(np.asarray(context), self.shift.dtype.as_numpy_dtype)
        self.shift.assign(location)
        self.log_scale.assign(np.log(scale))

    @property
    def is_adapted(self) -> bool:
        """Whether t or s differ from their initial values."""
        return bool(np.any(self.shift.numpy()) or np.any(self.log_scale.numpy()))
