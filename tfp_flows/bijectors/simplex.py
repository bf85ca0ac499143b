"""The simplex of positive numbers that sum to 1, from Euclidean space."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows._arguments import check_positive_integers
from tfp_flows._types import Array, DType
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.sphere import TOLERANCE


class Simplex(Bijector):
    """Numbers that sum to 1 from Euclidean space, by a softmax, with a margin.

    Forward: y = softmax(z, 0), x = a y - margin with a = 1 + (n + 1) margin, log-determinant Σ log y + n log a, with
    respect to the first n coordinates of x. Inverse: y = (x + margin) / a, z_i = log y_i - log y_n+1.
    Both are cheap. With the margin the image is a little larger than the simplex, so that a coordinate that is 0 has a
    finite z. TFP's `SoftmaxCentered` has none, and fails with NumPy 2.4.

    Shapes: z `[..., n]`, x `[..., n + 1]`, log-determinants `[...]`, in nats.

    Arguments:
      dimension: n.
      margin: how far below 0 coordinates may go.
      dtype, validate_args, name: see `Bijector`.

    Raises: ValueError for a dimension that is no positive integer, or a margin that is not positive; on calls,
      InvalidArgumentError for coordinates below -margin or that do not sum to 1 within 0.001; compiled by XLA, which
      has no errors, they get the log-density -∞.

    Source: Aitchison & Shen 1980, Biometrika 67, 261: the logistic normal distribution.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.Simplex(2, margin=0.001).inverse(tf.constant([0.5, 0.5, 0.0])).numpy().round(2).tolist()
    [6.21..., 6.21...]
    """

    def __init__(
        self,
        dimension: int,
        margin: float = 1e-3,
        *,
        dtype: DType = tf.float32,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        check_positive_integers(dimension=dimension)
        if not margin > 0:
            raise ValueError(f"Expected `margin` to be positive. Received: margin={margin!r}")
        super().__init__(dimension + 1, base_shape=dimension, dtype=dtype, validate_args=validate_args, name=name)
        self.margin = margin
        self._stretch = 1 + (dimension + 1) * margin

    def _forward_and_log_det(self, z, context):
        log_y = tf.nn.log_softmax(tf.concat([z, tf.zeros_like(z[..., :1])], -1))
        return self._stretch * tf.exp(log_y) - self.margin, self._log_det(log_y)

    def _inverse_and_log_det(self, x, context):
        y = (x + self.margin) / self._stretch
        off = ~self.supports(x)
        tf.debugging.assert_equal(
            tf.reduce_any(off), False, f"`{self.name}` expected numbers that sum to 1. Received: others, in some of {x}"
        )
        inside = y > 0
        log_y = tf.math.log(tf.where(inside, y, tf.ones_like(y)))
        log_det = tf.where(off, tf.constant(-float("inf"), x.dtype), -self._log_det(log_y))
        return log_y[..., :-1] - log_y[..., -1:], log_det

    def supports(self, x: Array) -> tf.Tensor:
        """Which events `[...]` sum to 1, up to rounding, and are not below 0 by more than the margin."""
        x = tf.convert_to_tensor(x)
        return (tf.abs(tf.reduce_sum(x, -1) - 1) <= TOLERANCE) & tf.reduce_all(x > -self.margin, -1)

    def _log_det(self, log_y):
        n = log_y.shape[-1] - 1
        return tf.reduce_sum(log_y, -1) + n * tf.math.log(tf.constant(self._stretch, log_y.dtype))
