"""Smooth monotone maps of an interval or a circle, with derivatives of every order."""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_positive_integers
from tfp_flows._math.roots import increasing_root
from tfp_flows.transformers.transformer import Transformer

# Below this t the ramp and its derivatives vanish beside 1, in float64 as well.
_LEAST_T = 1e-2
# The least width of a ramp, as a fraction of the interval.
_LEAST_WIDTH = 1e-2
# The widths of even ramps, in spacings, at which their densities add up to a constant: up to 1e-4, 5e-3 and 4e-2 of it.
_FLAT_WIDTHS = (4.98, 3.58, 1.94)
# How near to the ends of their room the outer ramps start, as a fraction of it: sigmoids never reach 0 and 1.
_MARGIN = 0.02


@dataclasses.dataclass(frozen=True)
class Bump(Transformer):
    """A mixture of K smooth ramps on [-bound, bound], infinitely differentiable everywhere; outside, y = x.

    With s = (x + bound) / (2 bound), the place of x in [0, 1]:
    Forward: y = x + 2 bound A (Σ_k π_k T((s - l_k) / w_k) - E(s)), E(s) = Σ_k T((s - l⁰_k) / w⁰) / K, closed form.
    Inverse: the root of that, by halving and Newton's steps, with two derivatives, in 16 to 18 evaluations.
    The ramp T(t) = ρ(t) / (ρ(t) + ρ(1 - t)), ρ(t) = exp(-1 / t), rises from 0 at t = 0 to 1 at t = 1, where all its
    derivatives are 0.

    Every ramp lies inside the interval. So the map moves density from the evenly spaced ramps l⁰ to the ramps l, and
    near ±bound it is the identity with all derivatives: what is glued together there is smooth. A mixture of ramps that
    maps the interval onto itself, as in the paper, would arrive at the ends with a slope of its own. A is as large as
    leaves the slope at `min_slope`. If the ramps are those evenly spaced ones, with equal weights, the map is the
    identity; it starts as that. Their width w⁰ makes the slopes of neighbours add up to a constant: where a density is
    small, A E'(s) is all but 1, and ripples of E' would be ripples of the forces.

    Arguments:
      num_components: K.
      bound: half the length of the interval, or of the circle's circumference.
      min_slope: the slope stays above it, so the inverse's stays below 1 / min_slope.
      circular: whether x is an angle, on a circle that -bound and bound are the same point of. Ramps then go over this
        point, and E(s) = s. The point is mapped to itself, and x beyond ±bound by whole turns:
        y(x + 2 bound) = y(x) + 2 bound.

    Parameters: K logits of the weights π; K numbers whose sigmoids set the starts of the ramps, 0 and 1 at the ends of
    the room they have (on a circle, K starts, whose shift by 1 is a whole turn); and K whose sigmoids are the widths,
    between 0.01 and 1. The initial ones give the identity; on a circle, the slope is then within 1.2e-4 of 1 for K of
    at least 6, and within 0.05 for fewer.

    Raises: ValueError if `num_components` is not an integer of at least 2, for a `bound` that is not a positive number,
    or a `min_slope` outside (0, 1).

    Source: Köhler et al. 2021, arXiv 2110.00351, section 4.1.

    Example:

    >>> import numpy as np, tensorflow as tf, tfp_flows as tff
    >>> bump = tff.transformers.Bump(num_components=2, bound=1.0)
    >>> parameters = tf.constant([[2.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    >>> bump.forward(tf.constant([-1.0, 0.0, 0.5, 1.0]), parameters)[0].numpy().round(3).tolist()
    [-1.0, 0.0, 0.5669999718666077, 1.0]
    """

    num_components: int = 8
    bound: float = 3.0
    min_slope: float = 1e-2
    circular: bool = False

    def __post_init__(self):
        check_positive_integers(num_components=self.num_components)
        if self.num_components < 2:
            raise ValueError(f"Expected `num_components` to be at least 2. Received: {self.num_components}")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"Expected `bound` to be a positive number. Received: bound={self.bound!r}")
        if not 0 < self.min_slope < 1:
            raise ValueError(f"Expected `min_slope` to lie between 0 and 1. Received: min_slope={self.min_slope!r}")

    @property
    def num_parameters(self) -> int:
        return 3 * self.num_components

    def initial_parameters(self) -> np.ndarray:
        starts, width = self._even_ramps
        raw_starts = starts if self.circular else _logit(starts / (1 - width))
        raw_width = _logit((width - _LEAST_WIDTH) / (1 - _LEAST_WIDTH))
        return np.concatenate([np.zeros_like(starts), raw_starts, np.full_like(starts, raw_width)])

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y, slope = self._value_and_slope(x, self._ramps(parameters))
        return y, tf.math.log(slope)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ramps = self._ramps(parameters)
        turns = 2 * self.bound * tf.floor(self._place(y)) if self.circular else tf.zeros_like(y)
        y -= turns

        def function(x):
            value, slope = self._value_and_slope(x, ramps)
            return value - y, slope

        low, high = tf.minimum(y, -self.bound), tf.maximum(y, self.bound)
        x = increasing_root(function, low, high, start=y, size=2 * self.bound + tf.abs(y))
        _, slope = self._value_and_slope(x, ramps)
        return x + turns, -tf.math.log(slope)

    def _value_and_slope(self, x, ramps):
        *ramps, shift = ramps
        place = self._place(x)
        if self.circular:
            place -= tf.floor(place)
        else:
            place = tf.clip_by_value(place, 0.0, 1.0)  # where the ramps are level; further out they would overflow
        moved, density = self._mixture(place, *ramps)
        even, even_density = self._even_mixture(place)
        # The even ramps' density is taken from 1 first: what is left is positive, and so is what comes to it.
        slope = (1 - self._amount * even_density) + self._amount * density
        return x + 2 * self.bound * self._amount * (moved - even - shift), slope

    def _mixture(self, place, weights, starts, widths):
        """Σ π_k T((s - l_k) / w_k) and its derivative."""
        distance = place[..., tf.newaxis, :] - starts
        turns = tf.zeros_like(distance)
        if self.circular:
            turns = tf.stop_gradient(tf.floor(distance))
            distance -= turns
        value, slope = _ramp(distance / widths)
        return tf.reduce_sum(weights * (value + turns), -2), tf.reduce_sum(weights * slope / widths, -2)

    def _even_mixture(self, place):
        """E(s) and its derivative."""
        if self.circular:
            return place, tf.ones_like(place)
        starts, width = self._even_ramps
        spacing = starts[1] - starts[0]
        position = (place - starts[0]) / spacing
        k = tf.stop_gradient(tf.floor(position))
        # No more ramps than these rise at any place; those before them are at 1.
        count = math.ceil(_FLAT_WIDTHS[1])
        value = tf.clip_by_value(k - count + 1, 0, self.num_components)
        slope = tf.zeros_like(place)
        for i in range(count):
            rising = k - i
            is_ramp = (rising >= 0) & (rising < self.num_components)
            ramp, ramp_slope = _ramp((position - rising) * (spacing / width))
            value += tf.where(is_ramp, ramp, 0)
            slope += tf.where(is_ramp, ramp_slope, 0)
        return value / self.num_components, slope / (self.num_components * width)

    def _ramps(self, parameters):
        """Weights, starts and widths of the ramps, each `[..., K, D]`, and what a circle's map is at 0, to take off."""
        logits, starts, widths = tf.split(parameters, 3, -2)
        weights = tf.nn.softmax(logits, -2)
        widths = _LEAST_WIDTH + (1 - _LEAST_WIDTH) * tf.sigmoid(widths)
        if not self.circular:
            return weights, (1 - widths) * tf.sigmoid(starts), widths, 0.0
        starts -= tf.stop_gradient(tf.floor(starts))
        zero = tf.zeros_like(starts[..., 0, :])
        shift = self._mixture(zero, weights, starts, widths)[0] - self._even_mixture(zero)[0]
        return weights, starts, widths, shift

    @functools.cached_property
    def _even_ramps(self):
        """The starts of evenly spaced ramps, and their width."""
        count = self.num_components
        if self.circular:
            return np.arange(count) / count, max(width for width in _FLAT_WIDTHS if width < count) / count
        # Flatter in the middle they would fall off sooner towards the ends.
        relative_width = _FLAT_WIDTHS[1] * (1 - 2 * _MARGIN) / (count - 1)
        width = relative_width / (1 + relative_width)
        return (1 - width) * np.linspace(_MARGIN, 1 - _MARGIN, count), width

    @functools.cached_property
    def _amount(self):
        """A: so much of E that the slope is `min_slope` where E is steepest and all else is gone."""
        with tf.init_scope():
            _, density = self._even_mixture(tf.linspace(tf.zeros([], tf.float64), 1, 20_001))
            return (1 - self.min_slope) / float(tf.reduce_max(density))

    def _place(self, x):
        """Where x is, as a fraction of the way from -bound to bound."""
        return (x + self.bound) / (2 * self.bound)


def _ramp(t):
    """T(t) = σ(u), u = 1 / (1 - t) - 1 / t, and T'(t); both from exp(-|u|), so that nothing cancels or overflows."""
    t = tf.clip_by_value(t, _LEAST_T, 1 - _LEAST_T)
    left, right = 1 / t, 1 / (1 - t)
    is_lower = right < left
    e = tf.exp(tf.where(is_lower, right - left, left - right))
    large = 1 / (1 + e)
    small = e * large
    return tf.where(is_lower, small, large), small * large * (left**2 + right**2)


def _logit(p):
    return np.log(p) - np.log1p(-p)
