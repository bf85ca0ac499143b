"""A dense conditioner of angles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows._types import Activation
from tfp_flows.conditioners.mlp import MLP


@keras.saving.register_keras_serializable("tfp_flows")
class PeriodicMLP(MLP):
    """An `MLP` of angles, which sees them as (cos x, sin x): its output has the period 2π in each.

    Shapes, arguments and errors: as in `MLP`; `input_size` is the number of angles.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> network = tff.conditioners.PeriodicMLP(input_size=2, output_size=4)
    >>> _ = network.output_layer.kernel.assign(np.ones([64, 4]))
    >>> bool(np.allclose(network(np.float32([[1.0, -np.pi]])), network(np.float32([[1.0, np.pi]])), atol=1e-5))
    True
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(2 * input_size, output_size, hidden_units, activation, **kwargs)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        return super().call(cos_and_sin(x), context)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_size": self.input_size // 2}


def cos_and_sin(angles):
    """(cos x₁, sin x₁, cos x₂, sin x₂, ...): `[..., D]` to `[..., 2 D]`."""
    pairs = tf.stack([tf.cos(angles), tf.sin(angles)], -1)
    return tf.reshape(pairs, tf.concat([tf.shape(angles)[:-1], [2 * angles.shape[-1]]], 0))
