"""Convolutional conditioners whose last layer starts at zero, so that a new flow starts at its initial parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_one_of, check_positive_integers, draw_seed, is_integer, split_seed
from tfp_flows._math.standardization import location_and_scale
from tfp_flows._types import Activation, Array


@keras.saving.register_keras_serializable("tfp_flows")
class ConvNet(keras.layers.Layer):
    """A convolutional network from the untouched part of an image and the context to a transformer's parameters.

    h₁ = W₁ * x + V₁ c + b₁, hₖ = Wₖ * φ(hₖ₋₁) + Vₖ c + bₖ, output = W * φ(h) + b, where W = 0 at the start and * is a
    convolution that pads with zeros: 3x3 in the first and the last layer, 1x1 between. If `residual`, every hidden
    layer after the first is a block hₖ = hₖ₋₁ + Bₖ * φ(Aₖ * φ(hₖ₋₁) + aₖ) + Vₖ c + bₖ of 3x3 convolutions.

    A context vector is the same at every pixel. A context image enters by 3x3 convolutions; one whose sides are k times
    those of x is squeezed to the size of x first.

    Shapes: x `[n, H, W, C]`, context `[n, context_size]` or `[n, *context_shape]`, output `[n, H, W, output_channels]`.

    Arguments:
      image_shape: `[H, W, C]`.
      output_channels: the number of parameters of a pixel.
      hidden_channels: the width of every hidden layer.
      num_hidden_layers: how many there are; with 0 the network is the last layer alone, and takes no context.
      activation: φ, anything `keras.activations.get` takes.
      residual: whether the hidden layers after the first are residual blocks.
      normalization: None; "weight" for kernels exp(s) v / |v| (weight normalization); "act" for kernels exp(s) v (an
        ActNorm after each convolution). s is one number an output channel; `adapt` sets s and b so that the h of data
        have mean 0 and variance 1.
      context_shape: the shape of a context, `[size]` or `[k H, k W, channels]`; None for none.
      output_bias: the b of the last layer to start from, `[output_channels]`; zeros if None.
      seed: an integer that fixes every weight; drawn if None.
      **kwargs: `name`, `dtype`, `trainable`, as every Keras layer has them.

    Raises: ValueError for sizes that are not positive integers, and for a context image of another size.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 4; residual with weight normalization: Dinh et al. 2017,
    arXiv 1605.08803, section 3.7; Salimans & Kingma 2016, arXiv 1602.07868.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.conditioners.ConvNet([8, 8, 2], output_channels=4)(tf.ones([5, 8, 8, 2])).shape
    TensorShape([5, 8, 8, 4])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        output_channels: int,
        hidden_channels: int = 32,
        num_hidden_layers: int = 2,
        activation: Activation = "relu",
        residual: bool = False,
        normalization: str | None = None,
        context_shape: Sequence[int] | None = None,
        output_bias: Array | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Under a mixed policy x keeps its digits in the first layer, and each layer casts what it takes.
        super().__init__(autocast=False, **kwargs)
        check_positive_integers(output_channels=output_channels, hidden_channels=hidden_channels)
        check_one_of((None, "weight", "act"), normalization=normalization)
        if not is_integer(num_hidden_layers) or num_hidden_layers < 0:
            raise ValueError(
                "Expected `num_hidden_layers` to be a non-negative integer. "
                f"Received: num_hidden_layers={num_hidden_layers!r}"
            )
        self.image_shape = [int(size) for size in image_shape]
        self.output_channels = output_channels
        self.hidden_channels = hidden_channels
        self.num_hidden_layers = num_hidden_layers
        self.activation = keras.activations.get(activation)
        self.residual = residual
        self.normalization = normalization
        self.context_shape = None if context_shape is None else [int(size) for size in context_shape]
        self._context_block = self._checked_context_block()
        self.output_bias = output_bias
        self.seed = draw_seed(seed)

        width, channels = hidden_channels, self.image_shape[-1]
        seeds = iter(split_seed(self.seed, 1 + 3 * num_hidden_layers))
        self.blocks, self.context_layers = [], []
        for k in range(num_hidden_layers):
            if k == 0:
                block = [self._convolution("input", channels, 3, next(seeds), dtype=self.variable_dtype)]
            elif residual:
                block = [self._convolution(f"{part}_{k}", width, 3, next(seeds)) for part in ("inner", "outer")]
            else:
                block = [self._convolution(f"hidden_{k}", width, 1, next(seeds))]
            self.blocks.append(block)
            if self.context_shape is not None:
                self.context_layers.append(self._context_layer(f"context_{k}", next(seeds)))
        output = keras.layers.Conv2D(
            output_channels, 3, padding="same", kernel_initializer="zeros", name="output", dtype=self.dtype_policy
        )
        output.build((None, None, None, width if num_hidden_layers else channels))
        if output_bias is not None:
            output.bias.assign(output_bias)
        self.output_layer = output
        self.built = True

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        return self._run(x, context, lambda layer, h: layer(h))

    def adapt(self, x: tf.Tensor, context: tf.Tensor | None = None) -> None:
        """Sets the scale and bias of every normalized layer so that its output on these x has mean 0 and variance 1."""

        def adapted(layer, h):
            if isinstance(layer, _NormalizedConvolution):
                layer.adapt(h)
            return layer(h)

        self._run(x, context, adapted)

    @property
    def is_adapted(self) -> bool:
        """Whether no layer is left that `adapt` would set."""
        layers = [layer for block in self.blocks for layer in block]
        return self.normalization is None or all(layer.is_adapted for layer in layers)

    def _run(self, x, context, apply):
        """The network, with `apply(layer, h)` for every convolution."""
        if self._context_block > 1:
            context = tf.nn.space_to_depth(context, self._context_block)
        h = x
        for k, block in enumerate(self.blocks):
            before = h
            for layer in block:
                h = apply(layer, self.activation(h) if k else h)
            if k and self.residual:
                h = before + tf.cast(h, before.dtype)
            if self.context_layers:
                h = h + tf.cast(self.context_layers[k](context), h.dtype)
        return apply(self.output_layer, self.activation(h) if self.blocks else h)

    def _convolution(self, name, input_channels, kernel_size, seed, **kwargs):
        """A built convolution to the hidden width, padded with zeros, of He's normal weights."""
        kind, further = keras.layers.Conv2D, {}
        if self.normalization is not None:
            kind, further = _NormalizedConvolution, {"unit_length": self.normalization == "weight"}
        layer = kind(
            self.hidden_channels,
            kernel_size,
            padding="same",
            kernel_initializer=keras.initializers.HeNormal(seed),
            name=name,
            **{"dtype": self.dtype_policy, **further, **kwargs},
        )
        layer.build((None, None, None, input_channels))
        return layer

    def _context_layer(self, name, seed):
        """What brings the context to the hidden width, the same at every pixel for a vector; without a bias."""
        options = {"use_bias": False, "name": name, "dtype": self.variable_dtype}
        initializer = keras.initializers.GlorotUniform(seed)
        if len(self.context_shape) == 1:
            dense = keras.layers.Dense(self.hidden_channels, kernel_initializer=initializer, **options)
            reshape = keras.layers.Reshape((1, 1, self.hidden_channels), dtype=self.variable_dtype)
            layer = keras.Sequential([dense, reshape], name=name)
            layer.build((None, *self.context_shape))
            return layer
        channels = self.context_shape[-1] * self._context_block**2
        layer = keras.layers.Conv2D(self.hidden_channels, 3, padding="same", kernel_initializer=initializer, **options)
        layer.build((None, None, None, channels))
        return layer

    def _checked_context_block(self):
        """k, by which the sides of a context image are longer than those of x; 1 for a vector."""
        if self.context_shape is None or len(self.context_shape) == 1:
            return 1
        height, width, _ = self.image_shape
        block = self.context_shape[0] // height
        if len(self.context_shape) != 3 or block < 1 or self.context_shape[:2] != [block * height, block * width]:
            raise ValueError(
                f"Expected a context of shape [size] or [k * {height}, k * {width}, channels]. "
                f"Received: context_shape={self.context_shape}"
            )
        return block

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "image_shape": self.image_shape,
            "output_channels": self.output_channels,
            "hidden_channels": self.hidden_channels,
            "num_hidden_layers": self.num_hidden_layers,
            "activation": keras.activations.serialize(self.activation),
            "residual": self.residual,
            "normalization": self.normalization,
            "context_shape": self.context_shape,
            "output_bias": None if self.output_bias is None else np.asarray(self.output_bias).tolist(),
            "seed": self.seed,
        }


class _NormalizedConvolution(keras.layers.Conv2D):
    """A convolution with a trainable scale exp(s) of every output channel: of v, or of v at unit length."""

    def __init__(self, *args, unit_length, **kwargs):
        super().__init__(*args, **kwargs)
        self.unit_length = unit_length

    def build(self, input_shape):
        super().build(input_shape)
        self.log_scale = self.add_weight(shape=[self.filters], initializer="zeros", name="log_scale")
        self._initial_log_scale = np.zeros(self.filters)
        if self.unit_length:
            # A new layer is the same with and without: the scale is v's own length.
            self._initial_log_scale = np.log(np.sqrt(np.sum(np.square(self.kernel.numpy()), (0, 1, 2))))
            self.log_scale.assign(self._initial_log_scale)

    def convolution_op(self, inputs, kernel):
        """Keras's hook: the convolution without the bias."""
        scale = tf.exp(tf.cast(self.log_scale, kernel.dtype))
        if self.unit_length:
            # The floor keeps the gradient finite should weight decay bring v to 0.
            scale = scale * tf.math.rsqrt(tf.maximum(tf.reduce_sum(kernel**2, [0, 1, 2]), 1e-12))
        return super().convolution_op(inputs, kernel * scale)

    def adapt(self, inputs):
        """Sets scale and bias so that the outputs have mean 0 and variance 1 in every channel."""
        outputs = np.asarray(self(inputs), np.float64).reshape([-1, self.filters])
        location, scale = location_and_scale(outputs, np.dtype(self.variable_dtype))
        self.bias.assign((self.bias.numpy() - location) / scale)
        self.log_scale.assign(self.log_scale.numpy() - np.log(scale))

    # Keras's convolution writes kernel and bias alone, and then refuses its own file for the scale that is missing.
    save_own_variables = keras.layers.Layer.save_own_variables
    load_own_variables = keras.layers.Layer.load_own_variables

    @property
    def is_adapted(self):
        return not np.allclose(self.log_scale.numpy(), self._initial_log_scale) or bool(np.any(self.bias.numpy()))
