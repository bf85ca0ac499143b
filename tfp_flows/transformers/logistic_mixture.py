"""The Gaussianizing map: the distribution function of a mixture of logistics, then the normal quantile."""

import dataclasses
import statistics

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_positive_integers
from tfp_flows._math.normal_tail import log_mills, log_tail, tail_quantile
from tfp_flows._math.roots import increasing_root
from tfp_flows.transformers.transformer import Transformer

# Scales stay between exp(-20) and exp(20), and every weight above 0.0001 / K, so that nothing in the tails is 0.
_LOG_SCALE_BOUND = 20.0
_WEIGHT_FLOOR = 1e-4
_LEAST_LOG_SLOPE = -40.0


@dataclasses.dataclass(frozen=True)
class LogisticMixture(Transformer):
    """Gaussianization of a scalar, by a mixture of K logistic distributions.

    Inverse: x = Φ⁻¹(F(y)), F(y) = Σ π_k σ((y - μ_k) / s_k), log(dx/dy) = log F'(y) - log φ(x).
    Forward: y is the root of F(y) = Φ(x), log(dy/dx) = log φ(x) - log F'(y).
    The inverse, from data to the base, is closed form and the cheap direction; forward takes about as long as 5 to 8
    inverses. If data y follow the mixture, x is standard normal.

    Both tails are exact as far out as numbers go: all is computed from the smaller of F and 1 - F, in logarithms.
    Forward, the root lies between the least and the greatest of the components' own quantiles, whatever x is.

    Arguments:
      num_components: K.

    Parameters: the K logits of the weights π, the K centres μ, and the K numbers a whose 20 tanh(a / 20) are the
    logarithms of the scales s. The initial ones are a mixture close to a standard normal (to 0.001 nats for K ≥ 5), so
    that the map is near the identity.

    Raises: ValueError if `num_components` is not a positive integer.

    Source: Meng et al. 2020, arXiv 2003.01941, section 3.1.

    Example:

    >>> import numpy as np, tensorflow as tf, tfp_flows as tff
    >>> mixture = tff.transformers.LogisticMixture(num_components=1)
    >>> parameters = tf.zeros([3, 1])  # the logistic distribution itself, whose upper quartile is log 3
    >>> x, _ = mixture.inverse(tf.math.log([3.0]), parameters)
    >>> x.numpy().round(4).tolist()  # the normal's upper quartile
    [0.6744999885559082]
    """

    num_components: int = 8

    def __post_init__(self):
        check_positive_integers(num_components=self.num_components)

    @property
    def num_parameters(self) -> int:
        return 3 * self.num_components

    def initial_parameters(self) -> np.ndarray:
        """Centres at 3/4 of the standard normal's quantiles, and one scale that makes the variance 1."""
        levels = (np.arange(self.num_components) + 0.5) / self.num_components
        centers = 0.75 * np.array([statistics.NormalDist().inv_cdf(level) for level in levels])
        scales = np.full_like(centers, np.sqrt(3 * (1 - np.mean(centers**2))) / np.pi)
        return self._pack(centers, scales)

    def parameters_of_data(self, y: np.ndarray) -> np.ndarray:
        """The parameters, `[3 K, D]`, of a mixture near the distribution of every column of the data y, `[n, D]`.

        The sorted column is cut into K parts of equal size. The mean of each is a centre, and 1.5 of its standard
        deviations are the standard deviation there (but a thousandth of the column's at the least).

        Raises: ValueError for fewer than K rows.
        """
        if len(y) < self.num_components:
            raise ValueError(
                f"Expected at least {self.num_components} rows for {self.num_components} components. "
                f"Received: {len(y)} rows"
            )
        parts = np.array_split(np.sort(y, 0), self.num_components)
        centers = np.stack([part.mean(0) for part in parts])
        deviations = np.stack([1.5 * part.std(0) for part in parts])
        whole = y.std(0)
        # A column whose spread is rounding beside its size has no scale to take.
        whole = np.where(whole > 1e-7 * np.abs(y).max(0), whole, 1.0)
        return self._pack(centers, np.maximum(deviations, 1e-3 * whole) * np.sqrt(3) / np.pi)

    def _pack(self, centers, scales):
        """The parameters of equal weights, and of centres and scales `[K, ...]`."""
        bounded = np.clip(np.log(scales) / _LOG_SCALE_BOUND, -0.99, 0.99)
        return np.concatenate([np.zeros_like(centers), centers, _LOG_SCALE_BOUND * np.arctanh(bounded)])

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        lower, upper, log_unit, log_density = _mixture(_clipped(y, 0.75), self._components(parameters))
        is_lower = lower < upper
        tail = tf.math.log(tf.where(is_lower, lower, upper)) - log_unit
        t, log_ratio = tail_quantile(tail)
        return tf.where(is_lower, -t, t), log_density - tail + log_ratio

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        components = self._components(parameters)
        x = _clipped(x, 0.45)
        is_lower = x < 0
        t = tf.where(is_lower, -x, x)
        log_probability = log_tail(t)
        logit = tf.math.log1p(-tf.exp(log_probability)) - log_probability
        logit = tf.where(is_lower, -logit, logit)

        def function(y):
            """log F - log(1 - F) minus that of Φ(x): a single logistic is a straight line in it."""
            lower, upper, log_unit, log_density = _mixture(y, components)
            value = tf.math.log(lower) - tf.math.log(upper) + tf.where(lower < upper, -log_unit, log_unit)
            # Between distant components F is flat beyond what numbers hold, and Newton's steps divide by the slope.
            slope = tf.exp(tf.maximum(log_density + log_unit, _LEAST_LOG_SLOPE)) / (lower * upper)
            return value - logit, slope

        _, centers, scales = components
        quantiles = centers + scales * logit[..., tf.newaxis, :]
        low, high = tf.reduce_min(quantiles, -2), tf.reduce_max(quantiles, -2)
        # The widest component rules the tails, on the right from the highest quantile and on the left from the lowest.
        start = low + (high - low) * tf.math.sigmoid(logit)
        y = increasing_root(function, low, high, start, size=1 + tf.abs(logit))
        lower, upper, log_unit, log_density = _mixture(y, components)
        tail = tf.math.log(tf.where(is_lower, lower, upper)) - log_unit
        return y, tail - log_density - log_mills(t)

    def _components(self, parameters):
        """Weights, centres and scales, each `[..., K, D]`."""
        logits, centers, log_scales = tf.split(parameters, 3, -2)
        weights = (1 - _WEIGHT_FLOOR) * tf.nn.softmax(logits, -2) + _WEIGHT_FLOOR / self.num_components
        return weights, centers, tf.exp(_LOG_SCALE_BOUND * tf.tanh(log_scales / _LOG_SCALE_BOUND))


def _clipped(x, power):
    """Finite x between ± the greatest number to that power, so that what is computed from it does not overflow."""
    bound = np.finfo(x.dtype.as_numpy_dtype).max ** power
    return tf.where(tf.math.is_finite(x), tf.clip_by_value(x, -bound, bound), np.nan)


def _mixture(y, components):
    """F(y) and 1 - F(y), a number u ≥ 0, and log F'(y): the smaller of F and 1 - F is in units of exp(-u).

    Every sigmoid comes from e = exp(-|t|), as 1 / (1 + e) or e / (1 + e), so that nothing cancels. Beyond 40 scales
    from every centre all e are tiny and have a common factor, which is left out before it vanishes. It is a factor of
    F', and of F or 1 - F too unless y lies between centres, where both of these are large.
    """
    weights, centers, scales = components
    t = (y[..., tf.newaxis, :] - centers) / scales
    is_left = t < 0
    distance = tf.where(is_left, -t, t)
    left_out = tf.stop_gradient(tf.nn.relu(tf.reduce_min(distance, -2) - 40))
    is_outside = tf.reduce_all(is_left, -2) | tf.reduce_all(~is_left, -2)
    e = tf.exp(left_out[..., tf.newaxis, :] - distance)
    large = 1 / (1 + e)
    small = e * large
    lower = tf.reduce_sum(weights * tf.where(is_left, small, large), -2)
    upper = tf.reduce_sum(weights * tf.where(is_left, large, small), -2)
    density = tf.reduce_sum(weights / scales * small * large, -2)
    return lower, upper, tf.where(is_outside, left_out, 0), tf.math.log(density) - left_out
