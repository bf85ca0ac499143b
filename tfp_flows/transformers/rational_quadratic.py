"""The monotone rational-quadratic spline of neural spline flows, on an interval or a circle."""

import dataclasses

import tensorflow as tf

from tfp_flows.transformers.spline import Bin, Spline, slope_above


@dataclasses.dataclass(frozen=True)
class RationalQuadratic(Spline):
    """The monotone rational-quadratic spline of neural spline flows: [-bound, bound] onto itself in K bins.

    On bin k, with left edge x_k, width w, knot y_k, height h, s = h / w, slopes δ_k and δ_k+1 at its knots and
    ξ = (x - x_k) / w:
      Forward: y = y_k + h (s ξ² + δ_k ξ (1 - ξ)) / (s + (δ_k+1 + δ_k - 2s) ξ (1 - ξ)),
        dy/dx = s² (δ_k+1 ξ² + 2s ξ (1 - ξ) + δ_k (1 - ξ)²) / (s + (δ_k+1 + δ_k - 2s) ξ (1 - ξ))².
      Inverse: with η = (y - y_k) / h, m = δ_k (1 - η) - δ_k+1 η and v = 4s² η (1 - η),
        ξ = 2s η / (m + √(m² + v) + 2s η), x = x_k + w ξ, dx/dy = 1 / (dy/dx).
    The inverse is the paper's stable root 2c / (-b - √(b² - 4ac)) divided by h, with its discriminant written as a sum
    of two terms that rounding cannot make negative.

    Arguments:
      num_bins: K.
      bound: half the length of the interval.
      min_bin_width, min_bin_height: the least width and height of a bin, as fractions of the interval.
      min_slope: the least slope at a knot.
      tails: "identity" (y = x outside, joined with slope 1) or "linear" (learned slopes at both ends, with which the
        map goes on outside).
      circular: take [-bound, bound) for a circle. The slope is then the same at both ends, where the circle closes,
        and a point outside is mapped as the point it stands for, a whole number of turns away: x + 2 bound goes to
        y + 2 bound. -bound is a fixed point. Where a stack of layers should move it, put shifts between them, as the
        paper does with its phase translations.

    Parameters: K logits of the widths, w = 2 bound (floor + (1 - K floor) softmax), K of the heights likewise, then the
    raw slopes, δ = min_slope + softplus(raw + c), with the c for which raw = 0 gives 1: K - 1 at the inner knots for
    identity tails, K + 1 at all knots for linear tails, K for a circle, the first for both ends. Zeros give the
    identity.

    Raises:
      ValueError: where `Spline` does, and for `circular=True` with other than identity tails.

    Source: Durkan et al. 2019, arXiv 1906.04032, equations 4 to 8 and appendix A; Gregory & Delbourgo 1982, IMA Journal
    of Numerical Analysis 2, 123. On a circle: Rezende et al. 2020, arXiv 2002.02428, section 2.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> spline = tff.transformers.RationalQuadratic(num_bins=2, bound=1.0)
    >>> y, log_slope = spline.forward(tf.constant([-0.5, 0.0, 7.0]), tf.constant([[0.0], [0], [0], [0], [2.0]]))
    >>> print(y.numpy().round(3), tf.exp(log_slope).numpy().round(3))
    [-0.644  0.     7.   ] [0.712 2.617 1.   ]
    """

    min_bin_width: float = 1e-3
    min_bin_height: float = 1e-3
    min_slope: float = 1e-3
    tails: str = "identity"
    circular: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.circular and self.tails != "identity":
            raise ValueError(f"Expected no `tails` with `circular=True`: a circle has none. Received: {self}")

    @property
    def num_parameters(self) -> int:
        return 2 * self.num_bins + self._num_slopes

    @property
    def _num_slopes(self):
        if self.circular:
            return self.num_bins
        return self.num_bins + 1 if self.tails == "linear" else self.num_bins - 1

    def _forward(self, x, parameters):
        widths, heights, slopes = self._split(parameters)
        bin = Bin.of_fraction(self._fraction(x), widths, self.min_bin_width)
        x_k, w, y_k, h, δ_0, δ_1 = self._look_up(bin, widths, heights, slopes)
        s = h / w
        ξ = self._way_through(x, x_k, w)
        y = y_k + h * (s * ξ**2 + δ_0 * ξ * (1 - ξ)) / (s + (δ_1 + δ_0 - 2 * s) * ξ * (1 - ξ))
        return y, _log_slope(ξ, s, δ_0, δ_1)

    def _inverse(self, y, parameters):
        widths, heights, slopes = self._split(parameters)
        bin = Bin.of_fraction(self._fraction(y), heights, self.min_bin_height)
        x_k, w, y_k, h, δ_0, δ_1 = self._look_up(bin, widths, heights, slopes)
        s = h / w
        η = self._way_through(y, y_k, h)
        m = δ_0 * (1 - η) - δ_1 * η
        v = 4 * s**2 * η * (1 - η)
        # m + √(m² + v), which cancels for m < 0 unless written as the quotient.
        sum_of_sizes = tf.abs(m) + tf.sqrt(m**2 + v)
        root = tf.where(m < 0, v / sum_of_sizes, sum_of_sizes)
        ξ = 2 * s * η / (root + 2 * s * η)
        return x_k + w * ξ, -_log_slope(ξ, s, δ_0, δ_1)

    def _with_tails(self, spline, x, parameters):
        if not self.circular:
            return super()._with_tails(spline, x, parameters)
        turns = 2 * self.bound * tf.floor(self._fraction(x))
        y, log_derivative = spline(x - turns, parameters)
        return y + turns, log_derivative

    def _split(self, parameters):
        return tf.split(parameters, [self.num_bins, self.num_bins, self._num_slopes], axis=-2)

    def _look_up(self, bin, widths, heights, slopes):
        x_k, w = self._edge_and_size(*bin.start_and_size(widths, self.min_bin_width))
        y_k, h = self._edge_and_size(*bin.start_and_size(heights, self.min_bin_height))
        if self.circular:
            slopes = tf.concat([slopes, slopes[..., :1, :]], axis=-2)
        elif self.tails == "identity":
            slope_1 = tf.zeros_like(widths[..., :1, :])
            slopes = tf.concat([slope_1, slopes, slope_1], axis=-2)
        # The softplus comes after the look-up: two a point instead of K + 1.
        δ_0, δ_1 = (slope_above(self.min_slope, raw) for raw in bin.ends(slopes))
        return x_k, w, y_k, h, δ_0, δ_1


def _log_slope(ξ, s, δ_0, δ_1):
    numerator = δ_1 * ξ**2 + 2 * s * ξ * (1 - ξ) + δ_0 * (1 - ξ) ** 2
    denominator = s + (δ_1 + δ_0 - 2 * s) * ξ * (1 - ξ)
    return tf.math.log(numerator) + 2 * tf.math.log(s / denominator)
