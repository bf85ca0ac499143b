"""The piecewise linear spline of neural importance sampling."""

import dataclasses

import tensorflow as tf

from tfp_flows.transformers.spline import Bin, Spline


@dataclasses.dataclass(frozen=True)
class LinearSpline(Spline):
    """A piecewise linear map of [-bound, bound] onto itself: K bins of one width, each with a slope of its own.

    On bin k, with left edge x_k, width w = 2 bound / K, knot y_k, height h_k and ξ = (x - x_k) / w:
      Forward: y = y_k + h_k ξ, log(dy/dx) = log(h_k / w).
      Inverse: ξ = (y - y_k) / h_k, x = x_k + w ξ, log(dx/dy) = -log(h_k / w).
    The slope jumps at the knots. It cannot be held to 1 at ±bound either, where it jumps to the slope of the tails:
    to 1 with `tails="identity"`, not at all with `tails="linear"`, which go on with the slopes of the end bins.

    Arguments:
      num_bins: K.
      bound: half the length of the interval.
      min_bin_height: the least height of a bin, as a fraction of the interval.
      tails: "identity" (y = x outside) or "linear".

    Parameters: K logits of the heights, h = 2 bound (floor + (1 - K floor) softmax). Zeros give the identity.

    Raises:
      ValueError: where `Spline` does.

    Source: Müller et al. 2019, arXiv 1808.03856, section 4.1, appendix A.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> spline = tff.transformers.LinearSpline(num_bins=2, bound=1.0)
    >>> y, log_slope = spline.forward(tf.constant([-0.5, 0.5, 7.0]), tf.math.log([[3.0], [1.0]]))
    >>> print(y.numpy().round(3), tf.exp(log_slope).numpy().round(3))
    [-0.25  0.75  7.  ] [1.499 0.501 1.   ]
    """

    min_bin_height: float = 1e-3
    tails: str = "identity"

    @property
    def num_parameters(self) -> int:
        return self.num_bins

    def _forward(self, x, parameters):
        knots = [2 * self.bound * k / self.num_bins - self.bound for k in range(1, self.num_bins)]
        bin = Bin.of(x, knots)
        x_k, w, y_k, h = self._look_up(bin, x.dtype, parameters)
        ξ = self._way_through(x, x_k, w)
        y = y_k + h * ξ
        return y, tf.broadcast_to(tf.math.log(h / w), tf.shape(y))

    def _inverse(self, y, parameters):
        bin = Bin.of_fraction(self._fraction(y), parameters, self.min_bin_height)
        x_k, w, y_k, h = self._look_up(bin, y.dtype, parameters)
        ξ = self._way_through(y, y_k, h)
        x = x_k + w * ξ
        return x, tf.broadcast_to(-tf.math.log(h / w), tf.shape(x))

    def _look_up(self, bin, dtype, heights):
        x_k, w = self._edge_and_size(bin.index(dtype) / self.num_bins, 1 / self.num_bins)
        y_k, h = self._edge_and_size(*bin.start_and_size(heights, self.min_bin_height))
        return x_k, w, y_k, h
