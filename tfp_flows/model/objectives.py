"""What is trained: the likelihood as Keras's loss and metric, and the objective of a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._types import Structure


@keras.saving.register_keras_serializable("tfp_flows")
class NegativeLogLikelihood(keras.losses.Loss):
    """-log p(x), in nats; its mean over data is KL(data || model) up to a constant.

    With sample weights w, Keras's mean is Σ w (-log p) / n, with n the number of rows.
    """

    def __init__(self, name="negative_log_likelihood", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, x, log_prob):
        return -log_prob

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


@keras.saving.register_keras_serializable("tfp_flows")
class FunctionLoss(keras.losses.Loss):
    """A loss by a function of (x, log p(x)), in the dtype of the densities: Keras's own would cast to its floatx."""

    def __init__(self, function, name=None, reduction="sum_over_batch_size", dtype=None):
        name = name or getattr(function, "__name__", "function").strip("<>")
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.function = function

    def call(self, x, log_prob):
        return self.function(x, log_prob)

    def get_config(self):
        function = keras.saving.serialize_keras_object(self.function)
        return {**super().get_config(), "dtype": self.dtype, "function": function}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "function": keras.saving.deserialize_keras_object(config["function"])})


@keras.saving.register_keras_serializable("tfp_flows")
class BitsPerDim(keras.metrics.Mean):
    """The mean of -log p(x) / (D log 2): bits per coordinate, where x has D coordinates."""

    def __init__(self, name="bits_per_dim", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, x, log_prob, sample_weight=None):
        size = math.prod(x.shape[len(log_prob.shape) :])
        return super().update_state(-log_prob / (size * math.log(2.0)), sample_weight)


class PerRow(Protocol):
    """What `FlowModel.compile` takes as objective: an `Objective`, or another object with its method."""

    @property
    def loss_per_row(self) -> Callable[..., tf.Tensor]: ...


@keras.saving.register_keras_serializable("tfp_flows")
class Objective:
    """What a training step minimizes, per row; a subclass defines one other than the likelihood.

    Attributes:
      is_likelihood: whether it is -log p(x) itself, so that the metrics of a training step can be of log-densities.

    Example: the likelihood with less weight on rows far out.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> class Robust(tff.objectives.Objective):
    ...     def loss_per_row(self, distribution, x, context, seed):
    ...         return -tf.maximum(distribution.log_prob(x), -20.0)
    >>> model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0))
    >>> model.compile(objective=Robust(), jit_compile=False)
    >>> history = model.fit(tff.datasets.two_moons(256, seed=0), verbose=0)
    >>> list(history.history)
    ['loss']
    """

    is_likelihood = False

    def loss_per_row(
        self, distribution: tfd.Distribution, x: tf.Tensor, context: Structure | None, seed: tf.Tensor
    ) -> tf.Tensor:
        """What to minimize, `[n]`, of a batch of events, their contexts or None, and a stateless seed `[2]`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        return cls(**config)


@keras.saving.register_keras_serializable("tfp_flows")
class Likelihood(Objective):
    """The negative log-likelihood, -log p(x), in nats: what is minimized if nothing else is asked for.

    Example:

    >>> import tfp_flows as tff
    >>> tff.objectives.Likelihood().is_likelihood
    True
    """

    is_likelihood = True


def as_objective(objective):
    """An objective from its name, or itself.

    Raises: ValueError for another name, or what is no objective.
    """
    from tfp_flows.model.flow_matching import FlowMatching  # which is an `Objective`, and so imports this file

    named = {"likelihood": Likelihood, "flow_matching": FlowMatching}
    if objective is None:
        return Likelihood()
    if isinstance(objective, str) and objective in named:
        return named[objective]()
    if not hasattr(objective, "loss_per_row"):
        raise ValueError(
            f"Expected `objective` to be one of {list(named)}, or an object with a method `loss_per_row`. "
            f"Received: objective={objective!r}"
        )
    return objective


def as_loss(loss, dtype):
    """A Keras loss of (x, log p(x)) from what `compile` takes.

    Raises: ValueError for losses by name, which compare a prediction with a target.
    """
    if loss is None:
        return NegativeLogLikelihood(dtype=dtype)
    if isinstance(loss, str):
        raise ValueError(
            "Expected `loss` to be None, for the negative log-likelihood, or a function of (x, log p(x)): a loss by "
            f"name compares predictions with targets. Received: loss={loss!r}"
        )
    return loss if isinstance(loss, keras.losses.Loss) else FunctionLoss(loss, dtype=dtype)
