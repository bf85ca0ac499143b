"""Residual flows: x + g(x), invertible since g is a contraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_one_of
from tfp_flows._math import random
from tfp_flows._math.inverses import inverse_and_log_det
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.conditioners.lipschitz import LipschitzMLP

# In training the Jacobian of so few coordinates costs no more than the terms of a series.
_EXACT_SIZE = 8
# The terms of the series that are always there, and the probability of each more.
_NUM_CERTAIN_TERMS = 2
_PROBABILITY_OF_MORE = 0.8


class Residual(Bijector):
    """An invertible residual layer: the identity plus a contraction g, with Lip(g) ≤ L < 1.

    Inverse: z = x + g(x; c), log|det ∂z/∂x| = log det(I + J), J = ∂g/∂x.
    Forward: x is the fixed point of x = z - g(x; c), log|det ∂x/∂z| = -log det(I + J) there.
    The inverse, from data to the base, costs one pass of g; forward one pass for each step to the fixed point, more of
    them the closer g comes to L. `explicit="forward"` has it the other way around, x = z + g(z; c): samples and their
    densities then cost one pass, densities of data a fixed point.

    log det(I + J) is exact by default, from the Jacobian, at the price of event_size passes of g. In training it may be
    the roulette estimator, with Rademacher noise v and a random number N of terms, at about 7 passes:
      log det(I + J) ≈ Σ_{k=1}^N (-1)ᵏ⁺¹ / k · vᵀ Jᵏ v / P(N ≥ k),
      its gradient  ≈ vᵀ ∂J Σ_{k=0}^N (-1)ᵏ Jᵏ v / P(N ≥ k).
    The expectations of both are exact. Keras tells a layer whether it trains, so within `fit` densities are estimates,
    with noise that the seed fixes, and everywhere else they are exact.

    The fixed point is found to rounding, and has its derivatives of first and second order from two of Newton's steps.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      lipschitz: L, between 0 and 1; inverses stretch by 1 / (1 - L) at most.
      explicit: the direction that costs one pass: "inverse", for densities, or "forward", for samples.
      log_det: in training: "exact", "roulette", or "auto": exact for up to 8 coordinates.
      hidden_units: the widths of g, a `tff.conditioners.LipschitzMLP`.
      context_size, dtype, seed, validate_args, name: see `Bijector`.

    Raises: ValueError for a `lipschitz` outside (0, 1), or another `explicit` or `log_det`.

    Source: Behrmann et al. 2019, arXiv 1811.00995, section 2; Chen et al. 2019, arXiv 1906.02735, equations 6 and 8.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> residual = tff.bijectors.Residual(3, context_size=2)
    >>> residual.forward(tf.ones([5, 3]), context=tf.ones([2])).shape
    TensorShape([5, 3])
    """

    def __init__(
        self,
        event_size: int,
        lipschitz: float = 0.97,
        explicit: str = "inverse",
        log_det: str = "auto",
        *,
        hidden_units: Sequence[int] = (64, 64),
        **shared: Any,
    ) -> None:
        super().__init__(event_size, **shared)
        if not 0 < lipschitz < 1:
            raise ValueError(f"Expected `lipschitz` to lie between 0 and 1. Received: lipschitz={lipschitz!r}")
        check_one_of(("inverse", "forward"), explicit=explicit)
        check_one_of(("auto", "exact", "roulette"), log_det=log_det)
        self.lipschitz = lipschitz
        self.explicit = explicit
        self.log_det = log_det
        network = LipschitzMLP(
            self.event_size,
            self.event_size,
            hidden_units,
            lipschitz,
            self.context_size,
            seed=self.seed,
            dtype=self.dtype.name,  # the inverse asks for all the digits, whatever Keras's policy
        )
        estimates = log_det == "roulette" or (log_det == "auto" and self.event_size > _EXACT_SIZE)
        self.layer = _ResidualLayer(network, estimates, seed=self.seed, dtype=self.dtype.name, name="residual_layer")

    def _forward_and_log_det(self, z, context):
        return self.layer(z, context=context, solve=self.explicit == "inverse")

    def _inverse_and_log_det(self, x, context):
        return self.layer(x, context=context, solve=self.explicit == "forward")


class _ResidualLayer(keras.layers.Layer):
    """y = x + g(x; c) or, to `solve`, x from y, with the log-determinant: a layer, since Keras tells those `training`.

    Arguments:
      network: g, a `LipschitzMLP`.
      estimates: whether the log-determinant is an estimate in training.
      seed: fixes the noise of the estimates, along with their number so far, which is a weight.
    """

    def __init__(self, network, estimates, seed, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.network = network
        self.seed = seed
        self.num_estimates = None
        if estimates:
            self.num_estimates = self.add_weight(
                shape=(),
                dtype="int64",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
                name="num_estimates",
            )
        self.built = True

    def call(self, event, context=None, solve=False, training=False):
        matrices = self.network.matrices(training)

        def g(x):
            return self.network.linearize(matrices, x, context)

        x = _fixed_point(g, event, self.network.lipschitz) if solve else event
        value, push = g(x)
        if training and self.num_estimates is not None:
            self.num_estimates.assign_add(1)
            seed = tf.stack([tf.constant(self.seed, tf.int64), tf.convert_to_tensor(self.num_estimates)])
            log_det = _estimated_log_det(push, x, seed)
        else:
            log_det = inverse_and_log_det(_jacobian(push, x))[1]
        return (x, -log_det) if solve else (x + value, log_det)


def _jacobian(push, x):
    """I + J, or rather its transpose."""
    identity = tf.eye(x.shape[-1], dtype=x.dtype)
    return identity + push(identity)


def _estimated_log_det(push, x, seed):
    """The roulette estimate of log det(I + J), `[...]`, and of its gradient."""
    noise_seed, length_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    signs = random.uniform(tf.shape(x), noise_seed, 0, 2, tf.int32)
    v = tf.cast(2 * signs - 1, x.dtype)[..., tf.newaxis, :]
    # A geometric number of terms after the certain ones: P(N ≥ k) is a power of the probability of one more.
    uniform = 1 - random.uniform([], length_seed)
    more = tf.cast(tf.math.log(uniform) / math.log(_PROBABILITY_OF_MORE), tf.int32)

    def add_term(k, power, sign, weight, log_det, series):
        power = push(power)  # Jᵏ v
        term = sign * weight * power
        log_det += tf.reduce_sum(v * term, -1)[..., 0] / tf.cast(k, x.dtype)
        weight = tf.where(k >= _NUM_CERTAIN_TERMS, weight / _PROBABILITY_OF_MORE, weight)
        return k + 1, power, -sign, weight, log_det, series - term

    one = tf.ones([], x.dtype)
    *_, log_det, series = tf.while_loop(
        lambda k, *_: k <= _NUM_CERTAIN_TERMS + more,
        add_term,
        (tf.constant(1), v, one, one, tf.zeros_like(x[..., 0]), v),
    )
    # The value is the loop's, which has no gradient. The gradient is that of vᵀ J (the series).
    log_det, series = tf.stop_gradient(log_det), tf.stop_gradient(series)
    surrogate = tf.reduce_sum(v * push(series), -1)[..., 0]
    return log_det + surrogate - tf.stop_gradient(surrogate)


def _fixed_point(g, y, lipschitz):
    """x with x + g(x) = y, to rounding, with its derivatives up to the second order.

    Newton's steps square the error that the fixed-point iteration leaves, and that of the derivatives likewise.
    """
    tolerance = np.finfo(y.dtype.as_numpy_dtype).eps ** (2 / 3)

    def unfinished(x, move):
        return tf.reduce_any(move > tolerance * tf.reduce_max(tf.abs(x), -1))

    def step(x, _):
        new = y - g(x)[0]
        return new, tf.reduce_max(tf.abs(new - x), -1)

    max_steps = math.ceil(math.log(tolerance) / math.log(lipschitz))
    start = (y, tf.fill(tf.shape(y)[:-1], tf.constant(np.inf, y.dtype)))
    x, _ = tf.while_loop(unfinished, step, start, maximum_iterations=max_steps)
    x = tf.stop_gradient(x)
    for _ in range(2):
        value, push = g(x)
        inverse, _ = inverse_and_log_det(_jacobian(push, x))
        x -= tf.linalg.matvec(inverse, x + value - y, transpose_a=True)
    return x
