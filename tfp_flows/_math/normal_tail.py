"""The upper tail of the standard normal in log space, as far out as numbers go: Mills' ratio and the quantile."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


def log_tail(t):
    """log Φ(-t) for t ≥ 0."""
    return log_mills(t) - t**2 / 2 - _LOG_SQRT_2_PI


@tf.custom_gradient
def log_mills(t):
    """log M(t) for t ≥ 0, where M(t) = Φ(-t) / φ(t) is Mills' ratio; its derivative is t - 1 / M(t)."""
    ratio, complement = _mills(t)
    return tf.math.log(ratio), lambda gradient: -gradient * complement / ratio


@tf.custom_gradient
def tail_quantile(log_probability):
    """t ≥ 0 with log Φ(-t) = log_probability, for one of at most log ½, and log M(t) beside it.

    Newton's method of third order (Halley's) from an approximation with an error below 5e-4: Abramowitz & Stegun 1964,
    equation 26.2.23. One step is enough for float32, two for float64. So small a last step takes log M(t) along by two
    terms of its Taylor series. The derivatives are -M(t) and 1 - t M(t).
    """
    u = tf.sqrt(-2 * log_probability)
    t = u - (2.515517 + u * (0.802853 + u * 0.010328)) / (1 + u * (1.432788 + u * (0.189269 + u * 0.001308)))
    for _ in range(1 if t.dtype == tf.float32 else 2):
        ratio, complement = _mills(t)
        newton = (tf.math.log(ratio) - t**2 / 2 - _LOG_SQRT_2_PI - log_probability) * ratio
        step = newton / (1 + newton * complement / (2 * ratio))
        t += step
    slope = -complement / ratio
    log_ratio = tf.math.log(ratio) + step * (slope + step * (1 + slope / ratio) / 2)

    def derivative(gradient, gradient_of_log_ratio):
        t, log_ratio = tail_quantile(log_probability)
        ratio = tf.exp(log_ratio)
        return gradient_of_log_ratio * _complement(t, ratio) - gradient * ratio

    return (t, log_ratio), derivative


def _mills(t):
    """M(t) and 1 - t M(t) for t ≥ 0."""
    near = tf.minimum(t, _far(t))
    ratio = math.sqrt(math.pi / 2) * tfp.math.erfcx(near / math.sqrt(2))
    ratio = tf.where(t > near, (1 - _series(t)) / tf.maximum(t, _far(t)), ratio)
    return ratio, _complement(t, ratio)


def _complement(t, ratio):
    """1 - t M(t), without cancellation where it is small."""
    return tf.where(t > _far(t), _series(t), 1 - t * ratio)


def _far(t):
    """Where the asymptotic series is exact to rounding."""
    return 10.0 if t.dtype == tf.float32 else 30.0


def _series(t):
    """1 - t M(t) = t⁻² - 3 t⁻⁴ + 15 t⁻⁶ - ..., for t that are far out."""
    v = tf.maximum(t, _far(t)) ** -2
    series = 0.0
    for odd in (13, 11, 9, 7, 5, 3, 1):
        series = odd * v * (1 - series)
    return series
