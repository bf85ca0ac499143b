"""The upper tail of the standard normal in log space, as far out as numbers go: Mills' ratio and the quantile."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


def log_tail(t):
    """log Φ(-t) for t ≥ 0."""
    return log_mills(t) - t**2 / 2 - _LOG_SQRT_2_PI


def log_mills(t):
    """log M(t) for t ≥ 0, where M(t) = Φ(-t) / φ(t) is Mills' ratio; its derivatives up to the third are exact."""
    at = tf.stop_gradient(t)
    return tf.math.log(_mills_near(at, _mills(at))(t))


def tail_quantile(log_probability):
    """t ≥ 0 with log Φ(-t) = log_probability, for one of at most log ½, and log M(t) beside it.

    Newton's method of third order (Halley's) from an approximation with an error below 5e-4: Abramowitz & Stegun 1964,
    equation 26.2.23. One step is enough for float32, two for float64. The last step is so small that Taylor's series
    takes M(t) along. Derivatives up to the third are exact.
    """
    goal = tf.stop_gradient(log_probability)
    u = tf.sqrt(-2 * goal)
    t = u - (2.515517 + u * (0.802853 + u * 0.010328)) / (1 + u * (1.432788 + u * (0.189269 + u * 0.001308)))
    for _ in range(1 if t.dtype == tf.float32 else 2):
        at, ratio = t, _mills(t)
        newton = (tf.math.log(ratio) - t**2 / 2 - _LOG_SQRT_2_PI - goal) * ratio
        t += newton / (1 + newton * _complement(t, ratio) / (2 * ratio))
    mills = _mills_near(at, ratio)
    # Two more of Newton's steps, of length 0, give t its derivatives, as in `increasing_root`. The first starts from a
    # constant, so that only the probability has derivatives there.
    t -= mills(t) * (log_probability - goal)
    ratio = mills(t)
    value = tf.math.log(ratio) - t**2 / 2 - log_probability
    t += ratio * (value - tf.stop_gradient(value))
    return t, tf.math.log(mills(t))


def _mills_near(at, ratio):
    """M as a function of t near the constant `at`, where it is `ratio`, with derivatives up to the third.

    It is Taylor's series of M, by M' = t M - 1 and so M⁽ⁿ⁾ = t M⁽ⁿ⁻¹⁾ + (n - 1) M⁽ⁿ⁻²⁾, which are no small difference
    of large terms before the asymptotic series takes over.
    """
    first = -_complement(at, ratio)
    second = at * first + ratio
    third = at * second + 2 * first

    def mills(t):
        step = t - at
        near = ratio + step * (first + step * (second / 2 + step * third / 6))
        return tf.where(at > _far(at), _far_mills(t), near)

    return mills


def _mills(t):
    """M(t) for constant t ≥ 0."""
    near = tf.minimum(t, _far(t))
    return tf.where(t > near, _far_mills(t), math.sqrt(math.pi / 2) * tfp.math.erfcx(near / math.sqrt(2)))


def _far_mills(t):
    return (1 - _series(t)) / tf.maximum(t, _far(t))


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
