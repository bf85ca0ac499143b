"""The piecewise quadratic spline of neural importance sampling."""

import dataclasses
import itertools

import tensorflow as tf

from tfp_flows.transformers.spline import Bin, Spline, slope_above, softmax


@dataclasses.dataclass(frozen=True)
class QuadraticSpline(Spline):
    """A piecewise quadratic map of [-bound, bound] onto itself: its slope is piecewise linear and continuous.

    On bin k, with left edge x_k, width w_k, slopes v_k and v_k+1 at its knots, y_k the area under the slope before it,
    and ξ = (x - x_k) / w_k:
      Forward: y = y_k + w_k (v_k ξ + (v_k+1 - v_k) ξ² / 2), dy/dx = v_k + (v_k+1 - v_k) ξ.
      Inverse: with η = (y - y_k) / h_k, h_k = w_k (v_k + v_k+1) / 2 and v = √((1 - η) v_k² + η v_k+1²),
        ξ = η (v_k + v_k+1) / (v_k + v), dx/dy = 1 / v.
    The inverse is the root of the quadratic in the form that cannot cancel; v is the slope at the point.

    Arguments:
      num_bins: K.
      bound: half the length of the interval.
      min_bin_width: the least width of a bin, as a fraction of the interval.
      min_slope: the least slope.
      tails: "identity" (y = x outside, joined with slope 1) or "linear" (learned slopes at both ends).

    Parameters: K logits of the widths, w = 2 bound (floor + (1 - K floor) softmax); then the slopes at the knots, K - 1
    at the inner ones for identity tails and K + 1 for linear tails, as positive numbers r that are divided by the area
    under them: v = min_slope + (1 - min_slope) r / area. Zeros give the identity.

    Raises:
      ValueError: where `Spline` does.

    Source: Müller et al. 2019, arXiv 1808.03856, section 4.2, appendix A.2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> spline = tff.transformers.QuadraticSpline(num_bins=3, bound=3.0)
    >>> y, log_slope = spline.forward(tf.constant([-3.0, -1.0, 1.0, 7.0]), tf.constant([[0.0], [0], [0], [1], [-1]]))
    >>> print(y.numpy().round(3), tf.exp(log_slope).numpy().round(3))
    [-3.    -0.441  1.559  7.   ] [1.    1.559 0.441 1.   ]
    """

    min_bin_width: float = 1e-3
    min_slope: float = 1e-3
    tails: str = "identity"

    @property
    def num_parameters(self) -> int:
        return self.num_bins + self._num_slopes

    @property
    def _num_slopes(self):
        return self.num_bins + 1 if self.tails == "linear" else self.num_bins - 1

    def _forward(self, x, parameters):
        widths, area, v = self._shape(parameters)
        bin = Bin.of_fraction(self._fraction(x), widths, self.min_bin_width)
        x_k, w_k, y_k, _, v_0, v_1 = self._look_up(bin, widths, area, v)
        ξ = self._way_through(x, x_k, w_k)
        return y_k + w_k * (v_0 * ξ + (v_1 - v_0) * ξ**2 / 2), tf.math.log(v_0 * (1 - ξ) + v_1 * ξ)

    def _inverse(self, y, parameters):
        widths, area, v = self._shape(parameters)
        bin = Bin.of(self._fraction(y), list(itertools.accumulate(tf.unstack(area, axis=-2)))[:-1])
        x_k, w_k, y_k, h_k, v_0, v_1 = self._look_up(bin, widths, area, v)
        η = self._way_through(y, y_k, h_k)
        v_η = tf.sqrt((1 - η) * v_0**2 + η * v_1**2)
        return x_k + w_k * η * (v_0 + v_1) / (v_0 + v_η), -tf.math.log(v_η)

    def _shape(self, parameters):
        """The logits of the widths, the areas under the slope in the bins, which sum to 1, and the slopes at knots."""
        widths, slopes = tf.split(parameters, [self.num_bins, self._num_slopes], axis=-2)
        w = tf.unstack(softmax(widths, self.min_bin_width), axis=-2)
        r = tf.unstack(slope_above(self.min_slope, slopes), axis=-2)
        if self.tails == "identity":
            # The r at both ends for which it equals the area: area = inner area + r (w_0 + w_K-1) / 2 = r.
            inner_area = sum(r_j * (left + right) / 2 for r_j, left, right in zip(r, w[:-1], w[1:], strict=True))
            end = inner_area / (1 - (w[0] + w[-1]) / 2) if r else tf.ones_like(w[0])
            r = [end, *r, end]
        area = sum(_trapezoids(w, r))
        v = [self.min_slope + (1 - self.min_slope) * r_j / area for r_j in r]
        return widths, tf.stack(_trapezoids(w, v), axis=-2), tf.stack(v, axis=-2)

    def _look_up(self, bin, widths, area, v):
        x_k, w_k = self._edge_and_size(*bin.start_and_size(widths, self.min_bin_width))
        y_k, h_k = self._edge_and_size(bin.sum_before(area), bin.value(area))
        return x_k, w_k, y_k, h_k, *bin.ends(v)


def _trapezoids(widths, slopes):
    return [w * (left + right) / 2 for w, left, right in zip(widths, slopes[:-1], slopes[1:], strict=True)]
