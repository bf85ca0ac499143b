"""Dense conditioners whose last layer starts at zero, so that a new flow starts at its initial parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_context_size, check_fraction, check_positive_integers, draw_seed, split_seed
from tfp_flows._math.products import product
from tfp_flows._types import Activation, Array
from tfp_flows.conditioners._initializers import hidden_bias, hidden_kernel
from tfp_flows.context.joining import check_context_mode, gated


class Dense(keras.layers.Dense):
    """A dense layer whose matrix product the gradient of a `tff.bijectors.Stack` need not evaluate again."""

    def call(self, inputs):
        value = product(inputs, tf.convert_to_tensor(self.kernel))
        return value if self.bias is None else value + self.bias


class _DenseConditioner(keras.layers.Layer):
    """What the dense conditioners share: the layers that take x and c in, and the layer that gives parameters out."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        context_size: int = 0,
        output_bias: Array | None = None,
        seed: int | None = None,
        context_mode: str = "add",
        **kwargs: Any,
    ) -> None:
        # Under a mixed policy x keeps its digits in the first layer, and each layer casts what it takes.
        super().__init__(autocast=False, **kwargs)
        check_positive_integers(input_size=input_size, output_size=output_size, **_named(hidden_units))
        check_context_size(context_size)
        check_context_mode(context_mode)
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_units = tuple(hidden_units)
        self.activation = keras.activations.get(activation)
        self.context_size = context_size
        self.output_bias = output_bias
        self.seed = draw_seed(seed)
        self.context_mode = context_mode

        input_seed, context_seed, *seeds = split_seed(self.seed, 2 + 2 * len(self.hidden_units))
        width = self.hidden_units[0]
        self.input_layer = self._dense("input", input_size, width, input_seed, dtype=self.variable_dtype)
        self.context_layer = None
        self.gate_layers = []
        if context_size and context_mode == "add":
            self.context_layer = self._dense(
                "context", context_size, width, context_seed, use_bias=False, dtype=self.variable_dtype
            )
        elif context_size:
            self.gate_layers = [
                self._dense(f"gate_{k}", context_size, units, gate_seed, bias_initializer="zeros")
                for k, (units, gate_seed) in enumerate(
                    zip(self.hidden_units, split_seed(context_seed, len(self.hidden_units)), strict=True)
                )
            ]
        self._build_hidden_layers(seeds)
        self.output_layer = self._dense("output", self.hidden_units[-1], output_size)
        if output_bias is not None:
            self.output_layer.bias.assign(output_bias)
        self.built = True

    def _dense(self, name, input_size, units, seed=None, **kwargs):
        """A built dense layer: a hidden layer's weights from a seed, or zeros without one."""
        options = {"dtype": self.dtype_policy, "kernel_initializer": "zeros", **kwargs}
        if seed is not None:
            kernel_seed, bias_seed = split_seed(seed, 2)
            options["kernel_initializer"] = hidden_kernel(kernel_seed)
            options.setdefault("bias_initializer", hidden_bias(input_size, bias_seed))
        layer = Dense(units, name=name, **options)
        layer.build((None, input_size))
        return layer

    def _first(self, x, context):
        """W₁ x + V c + b₁: the first layer of a network of (x, c) side by side.

        Kept apart, a context with fewer batch dimensions than x (one observation, many samples) is multiplied once.
        """
        hidden = self.input_layer(x)
        return hidden if context is None or self.context_layer is None else hidden + self.context_layer(context)

    def _gated(self, hidden, k, context):
        """The hidden layer or block k, through its gate if it has one."""
        return gated(hidden, tf.cast(self.gate_layers[k](context), hidden.dtype)) if self.gate_layers else hidden

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_size": self.input_size,
            "output_size": self.output_size,
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "context_size": self.context_size,
            "output_bias": None if self.output_bias is None else np.asarray(self.output_bias).tolist(),
            "seed": self.seed,
            "context_mode": self.context_mode,
        }


@keras.saving.register_keras_serializable("tfp_flows")
class MLP(_DenseConditioner):
    """A dense network from the untouched coordinates and the context to a transformer's parameters.

    h₁ = W₁ x + V c + b₁, hₖ = Wₖ φ(hₖ₋₁) + bₖ, output = W φ(h) + b, where W = 0 at the start. If "gated", c enters
    every hidden layer by a gated linear unit in place of V c: hₖ ⊙ σ(Vₖ c + vₖ).

    Shapes: x `[..., input_size]`, context `[..., context_size]`, output `[..., output_size]`. The batch shapes of x
    and of the context broadcast.

    Arguments:
      input_size: the number of untouched coordinates.
      output_size: the number of parameters in all.
      hidden_units: the widths of the hidden layers, at least one.
      activation: φ, anything `keras.activations.get` takes.
      context_size: C, the length of a context vector; 0 for none.
      output_bias: the b to start from, `[output_size]`; zeros if None.
      seed: an integer that fixes every weight; drawn if None.
      context_mode: how the context enters, "add" or "gated".
      **kwargs: `name`, `dtype`, `trainable`, as every Keras layer has them.

    Raises: ValueError for sizes that are not positive integers, or an unknown `context_mode`.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.conditioners.MLP(input_size=3, output_size=4, context_size=2)(tf.ones([5, 3]), tf.ones([1, 2])).shape
    TensorShape([5, 4])
    """

    def _build_hidden_layers(self, seeds):
        sizes = self.hidden_units
        self.hidden_layers = [
            self._dense(f"hidden_{k}", size, units, seed)
            for k, (size, units, seed) in enumerate(zip(sizes[:-1], sizes[1:], seeds, strict=False))
        ]

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        hidden = self._gated(self._first(x, context), 0, context)
        for k, layer in enumerate(self.hidden_layers):
            hidden = self._gated(layer(self.activation(hidden)), k + 1, context)
        return self.output_layer(self.activation(hidden))


@keras.saving.register_keras_serializable("tfp_flows")
class ResidualMLP(_DenseConditioner):
    """A residual network from the untouched coordinates and the context to a transformer's parameters.

    h₀ = W x + V c + b, hₖ = hₖ₋₁ + Bₖ φ(Aₖ φ(hₖ₋₁) + aₖ) + bₖ, output = W φ(h) + b, where W = 0 and Bₖ = 0 at the
    start. Every entry of `hidden_units` is one block; they are all of one width. If "gated", c enters every block by a
    gated linear unit in place of V c: hₖ₋₁ + (Bₖ φ(...) + bₖ) ⊙ σ(Vₖ c + vₖ).

    With dropout, in training alone, what Bₖ multiplies is 0 with probability p and 1/(1 - p) times as large otherwise.
    Training is `fit`; `evaluate`, `log_prob` and `sample` use the whole network.

    Shapes, arguments and errors: as in `MLP`; ValueError also if the widths differ; and
      dropout: p, at least 0 and below 1.

    Source: He et al. 2016, arXiv 1603.05027 (activation before each matrix); as conditioner: Durkan et al. 2019,
    arXiv 1906.04032, appendix B.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.conditioners.ResidualMLP(input_size=3, output_size=4, hidden_units=(32, 32))(tf.ones([5, 3])).shape
    TensorShape([5, 4])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        *,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(input_size, output_size, hidden_units, activation, **options)
        check_fraction(dropout=dropout)
        self.dropout = float(dropout)
        # Without a probability there is no layer: its random state would be a variable of the flow.
        seeds = split_seed(split_seed(self.seed, 1)[0], len(self.blocks)) if dropout else []
        self.dropout_layers = [
            keras.layers.Dropout(dropout, seed=seed, name=f"dropout_{k}", dtype=self.dtype_policy)
            for k, seed in enumerate(seeds)
        ]

    def _build_hidden_layers(self, seeds):
        width = self.hidden_units[0]
        if set(self.hidden_units) != {width}:
            raise ValueError(
                "Expected residual blocks of one width, since each adds to the one before. "
                f"Received: hidden_units={self.hidden_units}"
            )
        self.blocks = [
            (self._dense(f"inner_{k}", width, width, seed), self._dense(f"outer_{k}", width, width))
            for k, (seed, _) in enumerate(zip(seeds, self.hidden_units, strict=False))
        ]

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        hidden = self._first(x, context)
        for k, (inner, outer) in enumerate(self.blocks):
            inside = self.activation(inner(self.activation(hidden)))
            block = outer(self.dropout_layers[k](inside) if self.dropout_layers else inside)
            hidden = hidden + tf.cast(self._gated(block, k, context), hidden.dtype)
        return self.output_layer(self.activation(hidden))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dropout": self.dropout}


def _named(hidden_units):
    """The widths under names for an error; no width at all is an error too."""
    if not hasattr(hidden_units, "__len__") or not len(hidden_units):
        raise ValueError(f"Expected `hidden_units` to hold at least one width. Received: hidden_units={hidden_units!r}")
    return {f"hidden_units[{k}]": units for k, units in enumerate(hidden_units)}
