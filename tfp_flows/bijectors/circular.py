"""Flows of angles: coupling and autoregressive layers on a torus, whose densities have no seam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import draw_seed, split_keywords
from tfp_flows._types import Activation, Array
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.periodic import PeriodicMLP, cos_and_sin
from tfp_flows.transformers.circular_spline import CircularSpline, wrap


class CircularCoupling(Coupling, keywords_of=CircularSpline):
    """A coupling of angles: `Coupling` with the transformer `CircularSpline`, and a conditioner that sees (cos, sin).

    Forward: x_a = z_a, x_b = g(z_b - α) + β, with g, α and β from θ(cos z_a, sin z_a, c); all modulo 2π.
    Inverse: z_a = x_a, z_b = g⁻¹(x_b - β) + α. Log-determinants Σ log g' and -Σ log g'.
    Both directions cost one pass of θ. Angles that differ by whole turns are the same point; results are in [-π, π).

    Shapes: z and x `[..., event_size]`, in radians; else as `Coupling`.

    Arguments: those of `Coupling`, but for the transformer, and of `tff.transformers.CircularSpline`. A `conditioner`
      of one's own gets the angles as they are.
      phase: None draws one from the seed, so that the knots of the layers are at different places.

    Raises: as `Coupling` and `CircularSpline`.

    Source: Rezende et al. 2020, arXiv 2002.02428, sections 2.1 and 2.2.

    Example:

    >>> import numpy as np, tensorflow as tf, tfp_flows as tff
    >>> coupling = tff.bijectors.CircularCoupling(2, seed=0)
    >>> coupling.forward(tf.constant([0.5, 1.0 + 2 * np.pi])).numpy().round(3).tolist()
    [0.5, 1.0]
    """

    _network = PeriodicMLP

    def __init__(
        self,
        event_size: int,
        mask: str | Array = "half",
        conditioner: keras.layers.Layer | None = None,
        *,
        phase: float | None = None,
        seed: int | None = None,
        **shared: Any,
    ) -> None:
        settings, shared = split_keywords(CircularSpline, shared)
        seed = draw_seed(seed)
        spline = CircularSpline(**settings, phase=_phase(phase, seed))
        super().__init__(event_size, spline, mask=mask, conditioner=conditioner, seed=seed, **shared)

    def _split(self, event):
        unchanged, transformed = super()._split(event)
        return wrap(unchanged), transformed


class CircularAutoregressive(Bijector, keywords_of=CircularSpline):
    """An autoregressive layer of angles: each by a `CircularSpline`, conditioned on (cos, sin) of those before it.

    Inverse: z_i = g⁻¹(x_i - β; θ_i(x_<i, c)) + α, log|det ∂z/∂x| = -Σ log g'. One pass of the network, a `MADE`.
    Forward: x_i = g(z_i - α; θ_i(x_<i, c)) + β, sequential: D passes. All modulo 2π, results in [-π, π).
    A single angle is allowed.

    Shapes: z and x `[..., event_size]`, in radians, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of angles.
      input_order: "left-to-right", "right-to-left", or a permutation of 0 ... D - 1.
      num_bins, min_bin_width, min_bin_height, min_slope, phase: see `tff.transformers.CircularSpline`; a phase of None
        is drawn from the seed, so that the knots of the layers are at different places.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MADE`; hidden layers
        narrower than 2 D - 1, with a context 2 D, are refused.

    Raises: ValueError for a bad size, order or setting.

    Source: Rezende et al. 2020, arXiv 2002.02428, section 2.2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> layer = tff.bijectors.CircularAutoregressive(3, context_size=2, seed=0)
    >>> layer.inverse(tf.ones([5, 3]), context=tf.ones([2])).shape
    TensorShape([5, 3])
    """

    def __init__(
        self,
        event_size: int,
        input_order: str | Array = "left-to-right",
        *,
        phase: float | None = None,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        seed: int | None = None,
        **shared: Any,
    ) -> None:
        settings, shared = split_keywords(CircularSpline, shared)
        super().__init__(event_size, seed=draw_seed(seed), **shared)
        self.transformer = CircularSpline(**settings, phase=_phase(phase, self.seed))
        size = self.event_size
        orders = {"left-to-right": range(size), "right-to-left": range(size)[::-1]}
        self.order = np.array(orders.get(input_order) if isinstance(input_order, str) else input_order)
        if not np.array_equal(np.sort(self.order, axis=None), np.arange(size)):
            raise ValueError(
                f'Expected `input_order` to be "left-to-right", "right-to-left" or a permutation of 0 ... {size - 1}. '
                f"Received: input_order={input_order!r}"
            )
        # Coordinates 2i and 2i + 1 of the network's input are the cosine and the sine of angle i; what it says of 2i
        # has seen neither of them.
        self.conditioner = MADE(
            2 * size,
            params=self.transformer.num_parameters,
            hidden_units=hidden_units,
            input_order=np.stack([2 * self.order, 2 * self.order + 1], 1).ravel().tolist(),
            context_size=self.context_size,
            activation=activation,
            output_bias=np.repeat(self.transformer.initial_parameters(), 2 * size),
            seed=self.seed,
            dtype=self._network_dtype,
        )

    def _inverse_and_log_det(self, x, context):
        z, log_derivative = self.transformer.inverse(x, self._theta(x, context))
        return z, tf.reduce_sum(log_derivative, -1)

    def _forward_and_log_det(self, z, context):
        x, log_det = z, 0.0
        for i in self.order:
            # Angles not reached yet are still those of z; θ_i does not see them.
            theta = self._theta(x, context)[..., i : i + 1]
            x_i, log_derivative = self.transformer.forward(z[..., i : i + 1], theta)
            x = tf.concat([x[..., :i], x_i, x[..., i + 1 :]], -1)
            log_det += log_derivative[..., 0]
        return x, log_det

    def _theta(self, angles, context):
        """θ as `[..., P, D]`."""
        parameters = tf.cast(self.conditioner(cos_and_sin(angles), context=context), self.dtype)
        sizes = [self.transformer.num_parameters, 2 * self.event_size]
        return tf.reshape(parameters, tf.concat([tf.shape(parameters)[:-1], sizes], 0))[..., ::2]


def _phase(phase, seed):
    return float(np.random.default_rng(seed).uniform(-math.pi, math.pi)) if phase is None else phase
