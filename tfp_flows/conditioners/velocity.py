"""The velocity of a continuous flow: a dense network of place, time and context whose divergence has a closed form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_context_size, check_hidden_units, check_positive_integers, draw_seed, split_seed
from tfp_flows._types import Activation
from tfp_flows.conditioners._initializers import hidden_bias, hidden_kernel


@keras.saving.register_keras_serializable("tfp_flows")
class Velocity(keras.layers.Layer):
    """v(z, t, c): a dense network whose divergence costs little more than its value.

    h₁ = W₁ z + V c + T₁ τ(t) + b₁, hₖ = Wₖ φ(hₖ₋₁) + Tₖ τ(t) + bₖ, v = W φ(h) + b, with the time as
    τ(t) = (t, cos πt, cos 2πt, ...) and W = 0 at the start: a new flow is the identity.

    The divergence Σ_i ∂v_i/∂z_i, for two hidden layers: φ'(h₁)ᵀ [W₂ᵀ ∘ (W₁ W)] φ'(h₂), one more product whatever D is.
    For another number of layers D tangents are pushed through, which costs D evaluations.

    Shapes: z `[n, D]`, time `[n, 1]` or `[1, 1]`, context `[n, C]` or `[1, C]`; v `[n, D]`, divergence `[n]`.

    Arguments:
      event_size: D.
      hidden_units: the widths of the hidden layers, at least one; two for the closed divergence.
      activation: φ, anything `keras.activations.get` takes. It should be smooth, for a solver's steps to be long.
      context_size: C, the length of a context vector; 0 for none.
      num_frequencies: how many cosines of the time there are.
      seed: an integer that fixes every weight; drawn if None.
      **kwargs: `name`, `dtype`, `trainable`, as every Keras layer has them.

    Raises: ValueError for sizes that are not positive integers.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> velocity = tff.conditioners.Velocity(3, context_size=2)
    >>> velocity(tf.ones([5, 3]), tf.zeros([1, 1]), tf.ones([1, 2])).shape
    TensorShape([5, 3])
    """

    def __init__(
        self,
        event_size: int,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "silu",
        context_size: int = 0,
        num_frequencies: int = 4,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integers(event_size=event_size, num_frequencies=num_frequencies)
        check_hidden_units(hidden_units)
        check_context_size(context_size)
        self.event_size = event_size
        self.hidden_units = tuple(hidden_units)
        self.activation = keras.activations.get(activation)
        self.context_size = context_size
        self.num_frequencies = num_frequencies
        self.seed = draw_seed(seed)

        sizes = [event_size, *self.hidden_units]
        depth = len(self.hidden_units)
        context_seed, *seeds = split_seed(self.seed, 1 + 3 * depth)
        kernel_seeds, time_seeds, bias_seeds = seeds[:depth], seeds[depth : 2 * depth], seeds[2 * depth :]
        self.kernels = [
            self._weight(f"kernel_{k}", shape, hidden_kernel(seed))
            for k, (shape, seed) in enumerate(zip(itertools.pairwise(sizes), kernel_seeds, strict=True))
        ]
        self.time_kernels = [
            self._weight(f"time_kernel_{k}", (1 + num_frequencies, units), hidden_kernel(seed))
            for k, (units, seed) in enumerate(zip(self.hidden_units, time_seeds, strict=True))
        ]
        self.biases = [
            self._weight(f"bias_{k}", (units,), hidden_bias(fan_in, seed))
            for k, (fan_in, units, seed) in enumerate(zip(sizes[:-1], self.hidden_units, bias_seeds, strict=True))
        ]
        self.context_kernel = None
        if context_size:
            self.context_kernel = self._weight(
                "context_kernel", (context_size, self.hidden_units[0]), hidden_kernel(context_seed)
            )
        self.output_kernel = self._weight("output_kernel", (sizes[-1], event_size))
        self.output_bias = self._weight("output_bias", (event_size,))
        self.built = True

    def _weight(self, name, shape, initializer="zeros"):
        return self.add_weight(shape=shape, initializer=initializer, name=name)

    def call(self, z: tf.Tensor, time: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        return self.value(z, time, self.constants(context))

    # A solver calls these: what depends on neither place nor time is computed once, and then the rest many times.

    @property
    def has_closed_divergence(self) -> bool:
        """Whether the divergence costs one product, and not D evaluations."""
        return len(self.hidden_units) == 2

    def constants(self, context: tf.Tensor | None) -> list[tf.Tensor]:
        """All that is the same at every place and time, as a list of tensors."""
        shift = self.biases[0] if context is None else self.biases[0] + tf.matmul(context, self.context_kernel)
        shifts = [shift, *self.biases[1:]]
        weights = [*self.kernels, *self.time_kernels, *shifts, self.output_kernel, self.output_bias]
        weights = [tf.convert_to_tensor(weight) for weight in weights]
        if self.has_closed_divergence:
            weights.append(weights[1] * tf.matmul(weights[0], self.output_kernel, transpose_a=True, transpose_b=True))
        return weights

    def value(self, z: tf.Tensor, time: tf.Tensor, constants: list[tf.Tensor]) -> tf.Tensor:
        """v, from `constants`."""
        return self._evaluate(z, time, constants)[0]

    def value_and_divergence(
        self, z: tf.Tensor, time: tf.Tensor, constants: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """v and its divergence, from `constants`."""
        v, slopes = self._evaluate(z, time, constants)
        if self.has_closed_divergence:
            first, second = slopes
            return v, tf.reduce_sum(tf.matmul(first, constants[-1]) * second, -1)
        depth = len(self.hidden_units)
        tangents = constants[0][:, tf.newaxis] * slopes[0]  # [D, n, units]
        for kernel, slope in zip(constants[1:depth], slopes[1:], strict=True):
            tangents = tf.matmul(tangents, kernel) * slope
        return v, tf.einsum("inh,hi->n", tangents, constants[3 * depth])

    def _evaluate(self, z, time, constants):
        """v, and φ' of every hidden layer."""
        depth = len(self.hidden_units)
        kernels, time_kernels, shifts = (constants[k * depth : (k + 1) * depth] for k in range(3))
        kernel, bias = constants[3 * depth : 3 * depth + 2]
        angles = np.pi * np.arange(1, self.num_frequencies + 1)
        times = tf.concat([time, tf.cos(time * tf.constant(angles, time.dtype))], -1)
        slopes = []
        for k in range(depth):
            hidden = tf.matmul(z, kernels[k]) + (tf.matmul(times, time_kernels[k]) + shifts[k])
            with tf.GradientTape() as tape:
                tape.watch(hidden)
                z = self.activation(hidden)
            slopes.append(tape.gradient(z, hidden))
        return tf.matmul(z, kernel) + bias, slopes

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "event_size": self.event_size,
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "context_size": self.context_size,
            "num_frequencies": self.num_frequencies,
            "seed": self.seed,
        }
