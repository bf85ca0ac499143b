"""A scale and a shift a coordinate, started from data."""

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.bijector import Bijector


class ActNorm(Bijector):
    """A trainable scale and shift of every coordinate, which `adapt` starts from data.

    Forward: x = exp(s) z + t, log|det ∂x/∂z| = Σ s.
    Inverse: z = (x - t) exp(-s), log|det ∂z/∂x| = -Σ s.
    Both directions are cheap. New, it is the identity; after `adapt(x)`, the z of those x has mean 0 and variance 1.

    Shapes: z and x `[..., event_size]`, log-determinants `[...]`, in nats.

    Arguments: event_size, dtype, validate_args, name: see `Bijector`.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.1, with data on the forward side.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> actnorm = tff.bijectors.ActNorm(1)
    >>> actnorm.adapt(tf.constant([[1.0], [3.0]]))
    >>> actnorm.inverse(tf.constant([[1.0], [3.0]])).numpy().tolist()
    [[-1.0], [1.0]]
    """

    def __init__(self, event_size, dtype=tf.float32, validate_args=False, name=None):
        super().__init__(event_size, dtype=dtype, validate_args=validate_args, name=name)
        self._make_variables(trainable=True)

    def _make_variables(self, trainable):
        zeros = tf.zeros([self.event_size], self.dtype)
        self.shift = tf.Variable(zeros, trainable=trainable, name="shift")
        self.log_scale = tf.Variable(zeros, trainable=trainable, name="log_scale")

    def adapt(self, x, context=None):
        """Sets t to the mean and exp(s) to the standard deviation of x, `[n, event_size]`.

        Raises: ValueError if x is not finite or holds no row.
        """
        x = np.asarray(x, np.float64).reshape([-1, self.event_size])
        if not len(x) or not np.isfinite(x).all():
            raise ValueError(
                f"`{self.name}` expected finite data to adapt to. "
                f"Received: {len(x)} rows with {np.count_nonzero(~np.isfinite(x))} values that are not finite"
            )
        deviation = x.std(0)
        # A constant column has no scale to take; neither has one whose spread is rounding, beside its mean, nor one
        # whose spread is denormal, so that its inverse would be infinite.
        numbers = np.finfo(self.dtype.as_numpy_dtype)
        least = np.maximum(numbers.eps * np.abs(x).max(0), numbers.tiny)
        self.shift.assign(x.mean(0))
        self.log_scale.assign(np.log(np.where(deviation > least, deviation, 1.0)))

    def _forward_and_log_det(self, z, context):
        x = z * tf.exp(self.log_scale) + self.shift
        return x, self._log_det(z)

    def _inverse_and_log_det(self, x, context):
        z = (x - self.shift) * tf.exp(-self.log_scale)
        return z, -self._log_det(x)

    def _log_det(self, event):
        return tf.broadcast_to(tf.reduce_sum(self.log_scale), tf.shape(event)[:-1])


class Standardize(ActNorm):
    """A fixed scale and shift of every coordinate: data of any units in, mean 0 and variance 1 out.

    Forward: x = exp(s) z + t, with s and t set by `adapt` and by nothing else: no optimizer moves them.
    Inverse: z = (x - t) exp(-s). Log-determinants Σ s and -Σ s. Both directions are cheap.

    Shapes and arguments: see `ActNorm`.

    Example:

    >>> import tfp_flows as tff
    >>> len(tff.bijectors.Standardize(3).variables), len(tff.bijectors.Standardize(3).trainable_variables)
    (2, 0)
    """

    def __init__(self, event_size, dtype=tf.float32, validate_args=False, name=None):
        Bijector.__init__(self, event_size, dtype=dtype, validate_args=validate_args, name=name)
        self._make_variables(trainable=False)
