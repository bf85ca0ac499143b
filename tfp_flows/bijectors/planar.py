"""Planar flows: one hidden unit that moves points along one direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows._math.constraints import above_minus_one
from tfp_flows.bijectors.hidden_unit import hidden_unit
from tfp_flows.bijectors.parametric import ParametricBijector


class Planar(ParametricBijector):
    """A planar flow, invertible in both directions.

    Forward: x = z + û h(w·z + b), log|det ∂x/∂z| = log(1 + h'(w·z + b) w·û).
    Inverse: z = x - û h(a), where a = w·z + b is the root of a + (w·û) h(a) = w·x + b.
    The left side increases with a, since 0 ≤ h' ≤ 1 and w·û > -1, so every x has exactly one z. Forward costs two dot
    products; the inverse also a scalar root, which Newton's method finds in a few steps for any D. So the density of
    any point can be evaluated, and the flow can be trained on data.

    The paper keeps w·û above -1 by û = u + (m(w·u) - w·u) w / |w|² with m(t) = softplus(t) - 1. Here m is
    `above_minus_one`, which leaves a w·u ≥ 0 as it is: û has no pole at w = 0, and u = 0 gives the identity, at which
    training starts. It keeps w·û ≥ -0.999, so the inverse stretches no length by more than about 1000 |û| |w|.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      activation: h: "tanh", "softplus" or "leaky_relu" (with slope 0.2 on the left).
      context_size: the length of a context vector, of which w, u and b are then a network's output; 0 for none.
      hidden_units: the widths of that network, whose own activation is "relu".
      dtype, seed, validate_args, name: see `Bijector`.

    Raises: ValueError for another activation.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, equations 10 to 12 and appendix A.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> planar = tff.bijectors.Planar(2)
    >>> planar.w.assign([1.0, 0.0]), planar.u.assign([2.0, 3.0]) # doctest: +ELLIPSIS
    (...)
    >>> x = planar.forward(tf.constant([0.0, 1.0]))
    >>> planar.inverse(tf.identity(x)).numpy().tolist()
    [0.0, 1.0]
    """

    def __init__(self, event_size: int, activation: str = "tanh", **shared: Any) -> None:
        super().__init__(event_size, **shared)
        self.activation = activation
        self._hidden_unit = hidden_unit(activation)
        w = np.random.default_rng(self.seed).normal(size=self.event_size) / np.sqrt(self.event_size)
        self._make_parameters(w=w, u=np.zeros(self.event_size), b=np.zeros(1))

    def _forward_and_log_det(self, z, context):
        w, u, b, wu = self._constrained(context)
        a = _dot(w, z) + b
        h, slope = self._hidden_unit(a)
        return z + u * h, _log_det(slope, wu)

    def _inverse_and_log_det(self, x, context):
        w, u, b, wu = self._constrained(context)
        a = self._hidden_unit.root(wu, _dot(w, x) + b)
        h, slope = self._hidden_unit(a)
        return x - u * h, -_log_det(slope, wu)

    def _constrained(self, context):
        """w, û, b and w·û, the last two `[..., 1]`."""
        w, u, b = self._parameters_for(context)
        wu = _dot(w, u)
        # m(w·u) - w·u is of the order of (w·u)², so the quotient is small where w is.
        squared = tf.maximum(_dot(w, w), 1e-30)
        u = u + (above_minus_one(wu) - wu) / squared * w
        return w, u, b, _dot(w, u)


def _dot(a, b):
    return tf.reduce_sum(a * b, -1, keepdims=True)


def _log_det(slope, wu):
    return tf.math.log1p(slope * wu)[..., 0]
