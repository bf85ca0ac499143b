"""Radial flows: points drawn towards a centre or pushed from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows._math.constraints import above_minus_one, positive
from tfp_flows.bijectors.parametric import ParametricBijector


class Radial(ParametricBijector):
    """A radial flow, invertible in closed form.

    Forward: x = z + β h(r) (z - z_0) with r = |z - z_0|, h(r) = 1 / (α + r), and
      log|det ∂x/∂z| = (D - 1) log(1 + β h) + log(1 + β h + β h' r), where 1 + β h + β h' r = 1 + α β h².
    Inverse: z = z_0 + (x - z_0) / (1 + β h(r)), where r ≥ 0 solves r² + (α + β - |x - z_0|) r = α |x - z_0|.
    Both directions are cheap.

    α > 0.001, and β > -α as β = α m with m > -0.999, so the inverse stretches no length by more than 1000. The paper
    has β = softplus(β̂) - α; with m instead the raw parameter 0 gives the identity, at which training starts.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments: event_size (D), context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector`
      and `MLP`. With a context z_0, α and β are the network's output.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, equation 14 and appendix A.2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> radial = tff.bijectors.Radial(3, seed=0)
    >>> radial.inverse(tf.constant([1.0, 2.0, 3.0])).numpy().tolist()
    [1.0, 2.0, 3.0]
    """

    def __init__(self, event_size: int, **shared: Any) -> None:
        super().__init__(event_size, **shared)
        center = np.random.default_rng(self.seed).normal(size=self.event_size)
        self._make_parameters(center=center, alpha=np.zeros(1), beta=np.zeros(1))

    def _forward_and_log_det(self, z, context):
        center, alpha, beta = self._constrained(context)
        r = _norm(z - center)
        x = z + beta / (alpha + r) * (z - center)
        return x, self._log_det(alpha, beta, r)

    def _inverse_and_log_det(self, x, context):
        center, alpha, beta = self._constrained(context)
        s = _norm(x - center)
        r = _root(alpha, beta, s)
        z = center + (x - center) / (1 + beta / (alpha + r))
        return z, -self._log_det(alpha, beta, r)

    def _constrained(self, context):
        """z_0, α > 0 and β > -α, the last two `[..., 1]`."""
        center, alpha, beta = self._parameters_for(context)
        alpha = positive(alpha)
        return center, alpha, alpha * above_minus_one(beta)

    def _log_det(self, alpha, beta, r):
        h = 1 / (alpha + r)
        log_det = (self.event_size - 1) * tf.math.log1p(beta * h) + tf.math.log1p(alpha * h * beta * h)
        return log_det[..., 0]


def _norm(x):
    """|x|, `[..., 1]`, without squares that overflow or vanish; its gradient at 0 is 0."""
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(x), -1, keepdims=True))
    nonzero = largest > 0
    scaled = tf.where(nonzero, x / tf.where(nonzero, largest, 1), 1)
    return tf.where(nonzero, largest * tf.sqrt(tf.reduce_sum(scaled**2, -1, keepdims=True)), 0)


def _root(alpha, beta, s):
    """The root r ≥ 0 of r² + (α + β - s) r = α s, in units of α + s, so that no square overflows.

    Of the two formulas for a quadratic's root it takes the one that adds terms of one sign.
    """
    unit = alpha + s
    p, q = (alpha + beta - s) / unit, (alpha / unit) * (s / unit)
    discriminant = tf.sqrt(p**2 + 4 * q)
    return unit * tf.where(p > 0, 2 * q / (tf.maximum(p, 0) + discriminant), (discriminant - p) / 2)
