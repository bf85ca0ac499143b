"""Training on forces beside samples, as molecular simulations give both."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._types import Structure
from tfp_flows.context import context_arguments


@keras.saving.register_keras_serializable("tfp_flows")
class ForceMatching:
    """The likelihood and the forces of data: -log p(x) + w ‖∇ log p(x) - f(x)‖², in nats.

    For data from exp(-U) / Z, with the energy U in units of kT, the force f = -∇U is ∇ log p of the true density: D
    numbers per sample beside the one that the likelihood learns from. The flow should be smooth, as `tff.flows.smooth`
    is: the forces of a spline flow jump, and in training on them its narrow bins can have derivatives beyond float32.

    Arguments:
      weight: w, in squared units of length. The squares are summed over the coordinates.

    Raises: ValueError for a weight that is negative.

    Source: Köhler et al. 2021, arXiv 2110.00351, equation 9.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> from tfp_flows.model.force_matching import ForceMatching
    >>> flow = tff.flows.smooth(2, num_layers=2, standardize=False)  # starts as a standard normal, whose force is -x
    >>> x = tf.constant([[0.5, -1.0]])
    >>> loss = ForceMatching(weight=0.1).loss_per_row(flow, x, forces=-x)
    >>> print(f"{loss.numpy().item() + flow.log_prob(x).numpy().item():.4f}")
    0.0000
    """

    # What comes beside x with every row, under these names.
    extra_fields = ("forces",)

    def __init__(self, weight: float = 1.0) -> None:
        if not weight >= 0:
            raise ValueError(f"Expected `weight` not to be negative. Received: weight={weight!r}")
        self.weight = weight

    def loss_per_row(
        self,
        distribution: tfd.Distribution,
        x: tf.Tensor,
        context: Structure | None = None,
        seed: tf.Tensor | None = None,
        *,
        forces: tf.Tensor,
    ) -> tf.Tensor:
        """The loss of every row, `[n]`, for x and forces `[n, D]`; it draws nothing, so the seed has no part in it."""
        x = tf.identity(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = distribution.log_prob(x, **context_arguments(distribution, context))
        difference = tape.gradient(log_prob, x) - tf.cast(forces, x.dtype)
        return self.weight * tf.reduce_sum(difference**2, -1) - log_prob

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ForceMatching:
        return cls(**config)
