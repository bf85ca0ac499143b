"""Coupling flows on images: some pixels, or some channels, pass unchanged and say how the others are transformed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_image_shape
from tfp_flows._types import Activation, Array, Context, Shape
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.coupling import take
from tfp_flows.conditioners.convolutional import ConvNet
from tfp_flows.transformers.transformer import Transformer


def image_mask(mask, image_shape):
    """The boolean `[H, W, C]` mask of what passes unchanged: the b of Dinh et al. 2017.

    Arguments:
      mask: "checkerboard", every other pixel from the first; "channel", the first half of the channels; or booleans
        that broadcast to `[H, W, C]`.

    Raises: ValueError for anything else, or where all or nothing passes.
    """
    rows, columns, channels = np.ogrid[tuple(slice(size) for size in image_shape)]
    if isinstance(mask, str) and mask == "checkerboard":
        array = (rows + columns) % 2 == 0
    elif isinstance(mask, str) and mask == "channel":
        array = channels < image_shape[-1] // 2
    else:
        array = np.asarray(mask)
    try:
        array = np.broadcast_to(array, image_shape)
    except ValueError:
        array = np.zeros(0)
    if array.dtype != bool:
        raise ValueError(
            f'Expected `mask` to be "checkerboard", "channel" or booleans that broadcast to {list(image_shape)}. '
            f"Received: mask={mask!r}"
        )
    if array.all() or not array.any():
        raise ValueError(
            "Expected a coupling to leave some of an image unchanged and to transform the rest: at least 2 pixels for "
            f'"checkerboard", at least 2 channels for "channel". Received: image_shape={list(image_shape)}, mask={mask}'
        )
    return array


class ImageCoupling(Bijector):
    """A coupling layer of images: a transformer of some pixels or channels, conditioned on the others.

    Forward: x_a = z_a, x_b = g(z_b; θ(z_a, c)), log|det ∂x/∂z| = Σ_b log g'(z_b).
    Inverse: z_a = x_a, z_b = g⁻¹(x_b; θ(x_a, c)), log|det ∂z/∂x| = -Σ_b log g'(z_b).
    Both directions cost one pass of the conditioner θ. Where whole channels pass (a mask that is the same at every
    pixel), θ sees those channels and gives the parameters of the others; else it sees the whole image with zeros at b.

    Shapes: z and x `[..., H, W, C]`, context `[..., context_size]` or `[..., *context_shape]`, log-determinants
    `[...]`, in nats.

    Arguments:
      image_shape: `[H, W, C]`.
      transformer: g, a `tff.transformers.Transformer`.
      mask: what passes unchanged: "checkerboard" (every other pixel), "channel" (the first half of the channels), or
        booleans that broadcast to `[H, W, C]`; `~coupling.mask` is the complement.
      conditioner: θ, any Keras layer that maps `[n, H, W, C_a]` to `[n, H, W, P * C_b]`, parameter by parameter, with P
        parameters a coordinate; C_a and C_b are C unless whole channels pass. If its `call` has an argument `context`
        it gets the context there, else as further channels. None makes a `ConvNet`, which starts the layer at the
        transformer's initial parameters, so as the identity.
      context_shape: of a context that is an image: `[k H, k W, channels]`, for a k of 1 or more.
      hidden_channels, num_hidden_layers, activation, residual, normalization: see `tff.conditioners.ConvNet`.
      context_size, dtype, seed, validate_args, name: see `Bijector`.

    Raises: ValueError for a bad mask or shape, or a conditioner whose output has the wrong shape.

    Source: Dinh et al. 2017, arXiv 1605.08803, section 3.4.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> coupling = tff.bijectors.ImageCoupling([4, 4, 1], tff.transformers.Affine())
    >>> coupling.forward(tf.ones([2, 4, 4, 1])).shape
    TensorShape([2, 4, 4, 1])
    """

    # On a CPU, XLA runs convolutions of more than about 14 pixels two to three times slower than TensorFlow does.
    prefers_graph_on_cpu = True

    def __init__(
        self,
        image_shape: Sequence[int],
        transformer: Transformer,
        mask: str | Array = "checkerboard",
        conditioner: keras.layers.Layer | None = None,
        *,
        context_shape: Shape | None = None,
        hidden_channels: int = 32,
        num_hidden_layers: int = 2,
        activation: Activation = "relu",
        residual: bool = False,
        normalization: str | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(check_image_shape(image_shape), context_shape=context_shape, **shared)
        self.transformer = transformer
        self.mask = image_mask(mask, tuple(self.event_shape))
        channels = self.mask[0, 0]
        self._by_channel = np.array_equal(self.mask, np.broadcast_to(channels, self.mask.shape))
        if self._by_channel:
            self._unchanged, self._transformed = np.flatnonzero(channels), np.flatnonzero(~channels)
            self._order = np.argsort(np.concatenate([self._unchanged, self._transformed]))
        else:
            self._unchanged = self._transformed = np.arange(len(channels))
        self._shape = [*self.event_shape[:2], transformer.num_parameters, len(self._transformed)]
        if conditioner is None:
            conditioner = ConvNet(
                [*self.event_shape[:2], len(self._unchanged)],
                self._shape[2] * self._shape[3],
                hidden_channels,
                num_hidden_layers,
                activation,
                residual=residual,
                normalization=normalization,
                context_shape=self.context_shape,
                output_bias=np.repeat(transformer.initial_parameters(), self._shape[3]),
                seed=self.seed,
                dtype=self._network_dtype,
            )
        else:
            self._check_conditioner(conditioner)
        self.conditioner = conditioner

    def _forward_and_log_det(self, z, context):
        return self._transform(self.transformer.forward, z, context)

    def _inverse_and_log_det(self, x, context):
        return self._transform(self.transformer.inverse, x, context)

    def _transform(self, transform, event, context):
        a, b = self._split(event)
        b, log_derivative = transform(b, self._theta(a, context))
        if not self._by_channel:
            log_derivative = tf.where(self.mask, tf.zeros([], self.dtype), log_derivative)
        return self._join(a, b), tf.reduce_sum(log_derivative, [-3, -2, -1])

    def _split(self, event):
        """What passes, and what is transformed: channels, or the image with zeros in place of the other pixels."""
        if self._by_channel:
            return take(event, self._unchanged), take(event, self._transformed)
        zero = tf.zeros([], self.dtype)
        return tf.where(self.mask, event, zero), tf.where(self.mask, zero, event)

    def _join(self, a, b):
        if self._by_channel:
            return take(tf.concat([a, b], -1), self._order)
        return tf.where(self.mask, a, b)

    def _theta(self, a, context):
        """θ(a, c) as `[..., H, W, P, C_b]`."""
        batch = tf.shape(a)[:-3]
        parameters = tf.cast(call_on_images(self.conditioner, *self._as_rows(a, context)), self.dtype)
        return tf.reshape(parameters, tf.concat([batch, self._shape], 0))

    def _as_rows(self, a, context):
        """a and the context with one batch dimension, as Keras layers take them."""
        batch = tf.shape(a)[:-3]
        rows = tf.reshape(a, tf.concat([[-1], a.shape[-3:]], 0))
        if context is not None:
            context = tf.broadcast_to(context, tf.concat([batch, self.context_shape], 0))
            context = tf.reshape(context, tf.concat([[-1], self.context_shape], 0))
        return rows, context

    def adapt(self, x: Array, context: Context | None = None) -> None:
        """Lets the conditioner start from data, `[n, H, W, C]`, where it has normalized layers: see `ConvNet`."""
        if isinstance(self.conditioner, ConvNet):
            x, context = self._checked(tf.cast(x, self.dtype), context, 3)
            self.conditioner.adapt(*self._as_rows(self._split(x)[0], context))

    @property
    def is_adapted(self) -> bool:
        """Whether the conditioner has nothing, or nothing more, to take from data."""
        return not isinstance(self.conditioner, ConvNet) or self.conditioner.is_adapted

    def _check_conditioner(self, layer):
        """Builds the user's own layer by calling it on one image, and checks what comes out."""
        height, width, num_parameters, channels = self._shape
        image = tf.zeros([1, height, width, len(self._unchanged)], self.dtype)
        context = None if self.context_shape is None else tf.zeros([1, *self.context_shape], self.dtype)
        output = call_on_images(layer, image, context)
        if output.shape != (1, height, width, num_parameters * channels):
            raise ValueError(
                f"`{self.name}` expected a conditioner that maps shape {tuple(image.shape)} to (1, {height}, {width}, "
                f"{num_parameters} * {channels}), for {num_parameters} parameters a coordinate of {channels} channels. "
                f"Received: output shape {tuple(output.shape)}"
            )
        if self.dtype == tf.float64 and output.dtype != tf.float64:
            raise ValueError(
                f'`{self.name}` expected a conditioner of dtype float64 (build it with dtype="float64"). '
                f"Received: output dtype {output.dtype.name}"
            )


def call_on_images(layer, images, context):
    """Calls any Keras layer on images `[n, H, W, C]`, with the context in its argument `context` or as channels."""
    if "context" in inspect.signature(layer.call).parameters:
        return layer(images, context=context)
    if context is not None:
        if context.shape.rank == 2:
            context = context[:, tf.newaxis, tf.newaxis]
        shape = tf.concat([tf.shape(images)[:3], context.shape[-1:]], 0)
        images = tf.concat([images, tf.broadcast_to(context, shape)], -1)
    return layer(images)
