"""The monotone cubic spline of cubic-spline flows."""

import dataclasses
import itertools

import tensorflow as tf

from tfp_flows.transformers.spline import Bin, Spline, rounded_to, softmax


@dataclasses.dataclass(frozen=True)
class CubicSpline(Spline):
    """A monotone piecewise cubic map of [-bound, bound] onto itself, with a continuous slope.

    On bin k, with left edge x_k, width w_k, knot y_k, height h_k, s_k = h_k / w_k, slopes d_k and d_k+1 at its knots,
    α = d_k / s_k, β = d_k+1 / s_k and ξ = (x - x_k) / w_k:
      Forward: y = y_k + h_k ((α + β - 2) ξ³ + (3 - 2α - β) ξ² + α ξ),
        dy/dx = s_k (α (1 - ξ)² + 2 (3 - α - β) ξ (1 - ξ) + β ξ²).
      Inverse: the root ξ in [0, 1] of the cubic, in closed form, then two steps of Newton's method.
    The slopes at the inner knots are Steffen's, which keep each bin monotone:
      d_k = 2 min(s_k-1, s_k, p_k / 2), p_k = (s_k-1 w_k + s_k w_k-1) / (w_k-1 + w_k).

    Arguments:
      num_bins: K.
      bound: half the length of the interval.
      min_bin_width, min_bin_height: the least width and height of a bin, as fractions of the interval.
      min_slope: with linear tails, the least slope at ±bound, as a fraction of the slope s of the end bin.
      tails: "identity" or "linear". Identity tails are joined with slope 1 where the end bin can take it and stay
        monotone, d = min(1, 3 s): where s < 1/3 the slope jumps at ±bound. Linear tails go on with a learned slope
        between 0 and 2 s.

    Parameters: K logits of the widths, w = 2 bound (floor + (1 - K floor) softmax), K of the heights likewise, and for
    linear tails the logits of the slopes at -bound and at bound. Zeros give the identity.

    Raises:
      ValueError: where `Spline` does.

    Source: Durkan et al. 2019, arXiv 1906.02145, section 3; Steffen 1990, Astronomy & Astrophysics 239, 443.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> spline = tff.transformers.CubicSpline(num_bins=2, bound=1.0)
    >>> y, log_slope = spline.forward(tf.constant([-0.5, 0.0, 7.0]), tf.constant([[0.0], [0.0], [1.0], [0.0]]))
    >>> print(y.numpy().round(3), tf.exp(log_slope).numpy().round(3))
    [-0.269  0.461  7.   ] [1.692 1.    1.   ]
    """

    min_bin_width: float = 1e-3
    min_bin_height: float = 1e-3
    min_slope: float = 1e-3
    tails: str = "identity"

    @property
    def num_parameters(self) -> int:
        return 2 * self.num_bins + self._num_slopes

    @property
    def _num_slopes(self):
        return 2 if self.tails == "linear" else 0

    def _forward(self, x, parameters):
        widths, heights, slopes = self._split(parameters)
        bin = Bin.of_fraction(self._fraction(x), widths, self.min_bin_width)
        x_k, w_k, y_k, h_k, α, β = self._look_up(bin, widths, heights, slopes)
        ξ = self._way_through(x, x_k, w_k)
        return y_k + h_k * _cubic(ξ, α, β), tf.math.log(h_k / w_k * _cubic_slope(ξ, α, β))

    def _inverse(self, y, parameters):
        widths, heights, slopes = self._split(parameters)
        bin = Bin.of_fraction(self._fraction(y), heights, self.min_bin_height)
        x_k, w_k, y_k, h_k, α, β = self._look_up(bin, widths, heights, slopes)
        η = self._way_through(y, y_k, h_k)
        ξ, slope = _inverse_cubic(η, α, β)
        return x_k + w_k * ξ, -tf.math.log(h_k / w_k * slope)

    def _split(self, parameters):
        return tf.split(parameters, [self.num_bins, self.num_bins, self._num_slopes], axis=-2)

    def _look_up(self, bin, widths, heights, slopes):
        x_k, w_k = self._edge_and_size(*bin.start_and_size(widths, self.min_bin_width))
        y_k, h_k = self._edge_and_size(*bin.start_and_size(heights, self.min_bin_height))
        d_0, d_1 = bin.ends(self._slopes(widths, heights, slopes))
        return x_k, w_k, y_k, h_k, d_0 * w_k / h_k, d_1 * w_k / h_k

    def _slopes(self, widths, heights, slopes):
        """Steffen's slopes at the inner knots, and those at both ends."""
        w = tf.unstack(softmax(widths, self.min_bin_width), axis=-2)
        h = tf.unstack(softmax(heights, self.min_bin_height), axis=-2)
        s = [h_k / w_k for h_k, w_k in zip(h, w, strict=True)]
        inner = []
        for (w_0, s_0), (w_1, s_1) in itertools.pairwise(zip(w, s, strict=True)):
            p = (s_0 * w_1 + s_1 * w_0) / (w_0 + w_1)
            inner.append(2 * tf.minimum(tf.minimum(s_0, s_1), p / 2))
        if self.tails == "linear":
            fraction = self.min_slope + (1 - self.min_slope) * 2 * tf.sigmoid(slopes)
            first, last = tf.unstack(fraction, axis=-2)
            first, last = s[0] * first, s[-1] * last
        else:
            first, last = tf.minimum(3 * s[0], 1.0), tf.minimum(3 * s[-1], 1.0)
        return tf.stack([first, *inner, last], axis=-2)


def _cubic(ξ, α, β):
    """The cubic on [0, 1] from 0 to 1 with the slopes α and β at its ends."""
    return ((α + β - 2) * ξ**2 + (3 - 2 * α - β) * ξ + α) * ξ


def _cubic_slope(ξ, α, β):
    """Its slope, in the Bernstein form: close to a slope 0 at an end, where β or α is small, nothing cancels."""
    return α * (1 - ξ) ** 2 + 2 * (3 - α - β) * ξ * (1 - ξ) + β * ξ**2


def _inverse_cubic(η, α, β):
    """The ξ in [0, 1] where the cubic is η, and the slope there."""
    # The reflection of ξ and η about 1/2 that makes η <= 1/2. Close to 0 the cubic and its slope have small relative
    # errors; close to 1 a slope near 0 would be lost in rounding.
    reflected = η > 0.5
    η, α, β = tf.where(reflected, 1 - η, η), tf.where(reflected, β, α), tf.where(reflected, α, β)
    ξ = tf.stop_gradient(_cubic_root(η, α, β))
    # Two steps of Newton's method polish the root and carry its derivatives: from a root that is a constant to
    # autodiff, one step has the first derivative right, two have the second one too.
    for _ in range(2):
        ξ -= (_cubic(ξ, α, β) - η) / _cubic_slope(ξ, α, β)
        ξ = rounded_to(tf.clip_by_value(ξ, 0.0, 1.0), ξ)
    return tf.where(reflected, 1 - ξ, ξ), _cubic_slope(ξ, α, β)


def _cubic_root(η, α, β):
    """The ξ in [0, 1] where the cubic is η <= 1/2, up to what two steps of Newton's method mend. Not differentiable.

    Multiplied by (1 + r)³, with r = ξ / (1 - ξ), the Bernstein form of cubic - η is
      (1 - η) r³ + (3 - β - 3η) r² + (α - 3η) r - η = 0,
    of which r is the only positive root. Its leading coefficient is at least 1/2: unlike the cubic in ξ it never
    degenerates to a quadratic or a line.
    """
    # r³ + 3b r² + 3c r - d = 0, and with r = z - b: z³ + 3p z + 2q = 0. The largest root is wanted.
    b, c, d = (1 - β / 3 - η) / (1 - η), (α / 3 - η) / (1 - η), η / (1 - η)
    p, q = c - b**2, b**3 - (3 * b * c + d) / 2
    discriminant = q**2 + p**3
    root = tf.sqrt(tf.abs(discriminant))
    # Three real roots: the cosine of the smallest angle gives the largest.
    angle = tf.atan2(root, -q)
    z_of_three = 2 * tf.sqrt(tf.abs(p)) * tf.cos(angle / 3)
    # One real root, Cardano's: u - p / u, with the sign of u for which u³ does not cancel. For p > 0 the difference
    # itself would; u³ - (p / u)³ = -2q, divided by the quadratic factor, does not. u is 0 only where z is.
    u = -tf.sign(q) * (tf.abs(q) + root) ** (1 / 3)
    p_over_u = tf.math.divide_no_nan(p, u)
    z_of_one = tf.where(p > 0, tf.math.divide_no_nan(-2 * q, u**2 + p + p_over_u**2), u - p_over_u)
    r = tf.maximum(tf.where(discriminant < 0, z_of_three, z_of_one) - b, 0.0)
    # Where r is small beside b the difference has lost it. With r in the first factor only, (3b + r) r² + 3c r = d is a
    # quadratic that has it back; with b <= d, r is not small, and the root could be of a negative number. This also
    # mends a discriminant with the wrong sign, which is near 0: as no other root is positive, the largest one has
    # another beside it only close to r = 0.
    r = tf.where(b > d, 2 * d / (3 * c + tf.sqrt(9 * c**2 + 4 * (3 * b + r) * d)), r)
    return r / (1 + r)
