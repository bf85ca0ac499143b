"""Objectives of continuous flows: flow matching, which solves no equation, and penalties that make it easy to solve."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import saving
from tfp_flows._arguments import check_one_of
from tfp_flows._math import random
from tfp_flows._types import Structure
from tfp_flows.context import context_arguments, walk
from tfp_flows.model.objectives import Objective


@keras.saving.register_keras_serializable("tfp_flows")
class FlowMatching(Objective):
    """Flow matching: the velocity is fitted to that of straight lines from draws of the base to the data.

    E |v((1-t) x₀ + t x₁, t, c) - (x₁ - x₀)|², with x₁ from the data, x₀ from the base and t in [0, 1]. Its minimum over
    all v carries the base to the data's distribution. It is no likelihood: compare it with itself alone.

    It takes distributions made by a bijector in which one part is continuous (`tff.bijectors.Continuous`), in any
    composition, with an embedding or without. The other parts have to stand still, such as Standardize and
    permutations: they are applied to the data and to the base's draws first. Refused are several continuous parts, for
    where they meet there is no sample to match, and trainable weights elsewhere, which this objective would not train.

    Arguments:
      coupling: how x₀ and x₁ come together. "independent", or "optimal_transport": the pairs of a batch are exchanged
        where that makes them closer, until about the sum of |x₁ - x₀|² is least, so that the paths are straighter and
        fewer steps solve the equation. Not with a context, of which x₀ would then know.
      time: what t comes from: "uniform"; "late", of density 2t, more of it where the data is, which serves densities
        with sharp edges, whose velocity changes the most there; or a distribution on [0, 1]. By name the times of a
        batch are evenly spread.

    Single steps are noisy and cheap: a large rate that falls to 0 and weights averaged over the last steps serve it, as
    `keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.999)` under a `tff.callbacks.TimeBudget`.

    Source: Lipman et al. 2023, arXiv 2210.02747, equation 23 with σ = 0; couplings: Tong et al. 2024, arXiv 2302.00482.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> from tfp_flows.model.flow_matching import FlowMatching
    >>> flow, x = tff.flows.continuous(2, seed=0), tff.datasets.two_moons(256, seed=0)
    >>> FlowMatching().loss_per_row(flow, x, None, seed=(0, 1)).shape
    TensorShape([256])
    """

    def __init__(self, coupling: str = "independent", time: str | tfd.Distribution = "uniform") -> None:
        check_one_of(("independent", "optimal_transport"), coupling=coupling)
        if not isinstance(time, tfd.Distribution) and time not in ("uniform", "late"):
            raise ValueError(
                f'Expected `time` to be "uniform", "late" or a `tfd.Distribution` on [0, 1]. Received: time={time!r}'
            )
        self.coupling = coupling
        self.time = time

    def loss_per_row(
        self, distribution: tfd.Distribution, x: tf.Tensor, context: Structure | None, seed: tf.Tensor
    ) -> tf.Tensor:
        """|v - (x₁ - x₀)|² at one time of each row: x `[n, D]`, context `[n, ...]` or None, seed `[2]`; `[n]`."""
        self._check(distribution, context)
        time_seed, base_seed = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
        n = tf.shape(x)[0]
        part, x_1, own_context, inverted = _meet(walk(distribution.bijector, x, context))
        base = distribution.distribution.sample(
            n, seed=base_seed, **context_arguments(distribution.distribution, context)
        )
        _, x_0, _, _ = _meet(walk(distribution.bijector, base, context, inverted=True))
        if self.coupling == "optimal_transport":
            x_0 = exchanged(x_0, x_1)
        t = self._times(n, time_seed, x_1.dtype)
        if inverted:  # under a `tfb.Invert` the data is where the equation begins
            x_0, x_1, t = x_1, x_0, 1 - t
        v = part.velocity_at((1 - t) * x_0 + t * x_1, t, own_context)
        return tf.reduce_sum((v - (x_1 - x_0)) ** 2, -1)

    def _times(self, n, seed, dtype):
        if isinstance(self.time, tfd.Distribution):
            return tf.cast(self.time.sample([n, 1], seed=seed), dtype)
        # One in each of n equal parts of [0, 1]: uniform, with a smaller variance of the mean.
        offset = random.uniform([1, 1], seed, dtype=dtype)
        u = (offset + tf.range(tf.cast(n, dtype), dtype=dtype)[:, tf.newaxis]) / tf.cast(tf.maximum(n, 1), dtype)
        return tf.sqrt(u) if self.time == "late" else u

    def _check(self, distribution, context):
        parts = _continuous_parts(distribution)
        if len(parts) != 1:
            raise ValueError(
                "Expected a distribution made by a bijector with one continuous part, for only then are samples of "
                f"both its ends known. Received: {len(parts)} such parts in {distribution}"
            )
        trained = {id(variable) for variable in parts[0].trainable_variables}
        for module in distribution.submodules:
            if getattr(module, "embedding", None) is not None:
                trained.update(id(weight.value) for weight in module.embedding.trainable_variables)
        others = [variable.name for variable in distribution.trainable_variables if id(variable) not in trained]
        if others:
            raise ValueError(
                "Expected no trainable weights outside the continuous part and its embedding: flow matching would not "
                f"train them. Received: {', '.join(others)}"
            )
        if self.coupling == "optimal_transport" and context is not None:
            raise ValueError(
                'Expected no context with coupling="optimal_transport", which would make the base depend on it. '
                'Use coupling="independent". Received: a context'
            )

    def get_config(self) -> dict[str, Any]:
        time = saving.to_config(self.time) if isinstance(self.time, tfd.Distribution) else self.time
        return {"coupling": self.coupling, "time": time}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FlowMatching:
        time = config["time"]
        return cls(config["coupling"], time if isinstance(time, str) else saving.from_config(time))


@keras.saving.register_keras_serializable("tfp_flows")
class PenalizedLikelihood(Objective):
    """-log p(x), in nats, and penalties on continuous parts that make their equations easy to solve.

    -log p(x) + kinetic ∫₀¹ |v|² dt + jacobian ∫₀¹ |∂v/∂z|² dt, with the squared Frobenius norm in the last, estimated
    by one normal vector for each row. The paper divides all three by D.

    Arguments:
      kinetic, jacobian: the weights, at least 0. The paper has 0.01 for both.

    Source: Finlay et al. 2020, arXiv 2002.02798, equation 11 (RNODE).

    Example:

    >>> import tfp_flows as tff
    >>> from tfp_flows.model.flow_matching import PenalizedLikelihood
    >>> flow, x = tff.flows.continuous(2, seed=0), tff.datasets.two_moons(256, seed=0)
    >>> PenalizedLikelihood(kinetic=0.01, jacobian=0.01).loss_per_row(flow, x, None, seed=(0, 1)).shape
    TensorShape([256])
    """

    def __init__(self, kinetic: float = 0.0, jacobian: float = 0.0) -> None:
        for name, weight in (("kinetic", kinetic), ("jacobian", jacobian)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"Expected `{name}` to be at least 0. Received: {name}={weight!r}")
        self.kinetic = kinetic
        self.jacobian = jacobian

    def loss_per_row(
        self, distribution: tfd.Distribution, x: tf.Tensor, context: Structure | None, seed: tf.Tensor
    ) -> tf.Tensor:
        """-log p and the penalties: x `[n, ...]`, context `[n, ...]` or None, seed `[2]`; the result is `[n]`."""
        arguments = context_arguments(distribution, context)
        if not (self.kinetic or self.jacobian):
            return -distribution.log_prob(x, **arguments)
        parts = _continuous_parts(distribution)
        if not parts:
            raise ValueError(
                "Expected a distribution with a continuous part, to which the penalties apply. "
                f"Received: {distribution}"
            )
        with contextlib.ExitStack() as stack:
            seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), len(parts)))
            costs = [
                stack.enter_context(part.recorded_costs(part_seed))
                for part, part_seed in zip(parts, seeds, strict=True)
            ]
            # A tensor TFP's cache does not know: every part is solved in here.
            loss = -distribution.log_prob(tf.identity(x), **arguments)
        for kinetic, jacobian in (cost for part_costs in costs for cost in part_costs):
            loss += self.kinetic * kinetic + self.jacobian * jacobian
        return loss

    def get_config(self) -> dict[str, Any]:
        return {"kinetic": self.kinetic, "jacobian": self.jacobian}


def exchanged(x_0, x_1, rounds=None):
    """The rows of x_0 in an order in which Σ |x_1 - x_0|² is nearly least: minibatch optimal transport.

    Every pair of rows i, j is looked at in turn, n/2 pairs at a time, and x_0 is exchanged between them where that
    makes the sum smaller: in n rounds each of all pairs once. What is left is a permutation, so that x_0 keeps its
    distribution, and it needs nothing that XLA lacks. Exact assignments need a sequential algorithm and n³ operations.
    """
    n = tf.shape(x_0)[0]
    index = tf.range(n)

    def exchange(k, x_0):
        partner = (k - index) % n
        other = tf.gather(x_0, partner)
        # |x_1 - x_0|² + |x_1' - x_0'|² falls by an exchange where (x_1 - x_1') (x_0 - x_0') < 0.
        gain = tf.reduce_sum((x_1 - tf.gather(x_1, partner)) * (x_0 - other), -1, keepdims=True)
        return k + 1, tf.where(gain < 0, other, x_0)

    rounds = n if rounds is None else rounds
    return tf.stop_gradient(tf.while_loop(lambda k, _: k < rounds, exchange, (0, x_0))[1])


def _continuous_parts(distribution):
    return [part for part in distribution.submodules if hasattr(part, "velocity_at")]


def _meet(way):
    """What a walk finds at the continuous part."""
    return next(found for found in way if hasattr(found[0], "velocity_at"))
