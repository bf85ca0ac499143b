"""A scale and a shift per coordinate, or per channel of an image, initialized from data."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows._math.standardization import location_and_scale
from tfp_flows._types import Array, Context, DType, Shape
from tfp_flows.bijectors.bijector import Bijector


class ActNorm(Bijector):
    """A trainable scale and shift per coordinate, or per channel of an image, which `adapt` initializes from data.

    Forward: x = exp(s) z + t, log|det ∂x/∂z| = Σ s, times H W for an image `[H, W, C]`.
    Inverse: z = (x - t) exp(-s), with the opposite log-determinant.
    Both directions are cheap. At initialization it is the identity; after `adapt(x)`, the z of those x has mean 0 and
    variance 1.

    Shapes: z and x `[..., event_size]`, or `[..., H, W, C]`; s and t `[event_size]`, or `[C]`; log-determinants
    `[...]`, in nats.

    Arguments:
      event_size: the number of coordinates, or the shape of an image, whose last axis holds the channels.
      dtype, validate_args, name: see `Bijector`.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.1, with data on the forward side.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> actnorm = tff.bijectors.ActNorm(1)
    >>> actnorm.adapt(tf.constant([[1.0], [3.0]]))
    >>> actnorm.inverse(tf.constant([[1.0], [3.0]])).numpy().tolist()
    [[-1.0], [1.0]]
    """

    _trainable = True

    def __init__(
        self, event_size: Shape, *, dtype: DType = tf.float32, validate_args: bool = False, name: str | None = None
    ) -> None:
        super().__init__(event_size, dtype=dtype, validate_args=validate_args, name=name)
        zeros = tf.zeros([self.event_shape[-1]], self.dtype)
        self.shift = tf.Variable(zeros, trainable=self._trainable, name="shift")
        self.log_scale = tf.Variable(zeros, trainable=self._trainable, name="log_scale")

    def adapt(self, x: Array, context: Context | None = None) -> None:
        """Sets t to the mean and exp(s) to the standard deviation of x, `[n, event_size]` or `[n, H, W, C]`.

        Raises: ValueError if x is non-finite or holds no row.
        """
        x = np.asarray(x, np.float64).reshape([-1, self.event_shape[-1]])
        if not len(x) or not np.isfinite(x).all():
            raise ValueError(
                f"`{self.name}` expected finite data to adapt to. "
                f"Received: {len(x)} rows with {np.count_nonzero(~np.isfinite(x))} non-finite values"
            )
        location, scale = location_and_scale(x, self.dtype.as_numpy_dtype)
        self.shift.assign(location)
        self.log_scale.assign(np.log(scale))

    @property
    def is_adapted(self) -> bool:
        """Whether s or t differ from their initial values."""
        return bool(np.any(self.shift.numpy()) or np.any(self.log_scale.numpy()))

    @property
    def is_constant_jacobian(self) -> bool:
        # Affine: TFP then knows the mean, the covariance and the entropy of a flow of such layers.
        return not self.context_size

    def _forward_and_log_det(self, z, context):
        x = z * tf.exp(self.log_scale) + self.shift
        return x, self._log_det(z)

    def _inverse_and_log_det(self, x, context):
        z = (x - self.shift) * tf.exp(-self.log_scale)
        return z, -self._log_det(x)

    def _log_det(self, event):
        pixels = self.event_size // self.event_shape[-1]
        return tf.broadcast_to(pixels * tf.reduce_sum(self.log_scale), tf.shape(event)[: -self.event_shape.rank])


class Standardize(ActNorm):
    """A fixed scale and shift per coordinate, which bring data in any units to mean 0 and variance 1.

    Forward: x = exp(s) z + t, with s and t set by `adapt` alone; no optimizer changes them.
    Inverse: z = (x - t) exp(-s). Log-determinants Σ s and -Σ s. Both directions are cheap.

    Shapes and arguments: see `ActNorm`.

    Example:

    >>> import tfp_flows as tff
    >>> len(tff.bijectors.Standardize(3).variables), len(tff.bijectors.Standardize(3).trainable_variables)
    (2, 0)
    """

    _trainable = False
