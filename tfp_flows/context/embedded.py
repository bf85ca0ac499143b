"""A network that compresses the context before it reaches the bijectors."""

from __future__ import annotations

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows._types import Context
from tfp_flows.context.context_bijector import ContextBijector
from tfp_flows.context.route import checked_context, context_shape_of
from tfp_flows.tracking import weights_of


class Embedded(ContextBijector):
    """A conditional bijector whose context is the output of a Keras layer e: f(z; e(c)) for the inner bijector f(z; c).

    e runs once per call, not once per inner bijector, and is trained and saved with them. Where one c belongs to many z
    (contexts `[B, ...]`, events `[n, B, D]`), e evaluates B rows only.

    Shapes: z and x `[..., D]`; context `[..., *S]` with S the shape of e's input, of any rank, or a structure of
    tensors for an e that takes a structure; e(c) `[..., C]`.

    Arguments:
      bijector: the inner bijector, any composition, with a context of size C.
      embedding: e, a Keras layer or model from S to C, with a batch dimension first. Its input's shape must be known:
        from a `keras.Input`, or because it was built.
      name: the key under which `tfb.Chain` passes the context.

    Raises: ValueError for an embedding that is not built or whose output has the wrong size, and on calls for a context
      that is missing or of the wrong shape; TypeError for an embedding that is no Keras layer.

    Source: Radev et al. 2020, arXiv 2003.06281; e is their summary network.

    Example: a time series of 100 steps in 2 channels, compressed to 8 numbers.

    >>> import keras, tensorflow as tf, tfp_flows as tff
    >>> convolutions = keras.Sequential(
    ...     [keras.Input((100, 2)), keras.layers.Conv1D(8, 5, strides=4), keras.layers.GlobalMaxPooling1D()]
    ... )
    >>> bijector = tff.bijectors.Embedded(tff.bijectors.RealNVP(3, context_size=8), convolutions)
    >>> bijector.forward(tf.ones([5, 3]), context=tf.ones([5, 100, 2])).shape
    TensorShape([5, 3])
    """

    def __init__(self, bijector: tfb.Bijector, embedding: keras.layers.Layer, name: str = "embedded") -> None:
        parameters = dict(locals())
        expected = context_shape_of(bijector)
        self.context_shape, size = input_and_output(embedding)
        if expected is None or not expected.is_compatible_with([size]):
            raise ValueError(
                f"Expected an embedding whose output is what `{bijector.name}` takes as context, of shape "
                f"{expected and tuple(expected)}. Received: output of size {size}"
            )
        self.embedding = embedding
        self._weights = weights_of(embedding)
        super().__init__(bijector, parameters, name)

    def inner_context(self, context: Context | None) -> tf.Tensor:
        """e(c): the context of the inner bijector, `[..., C]`."""
        context = checked_context(self.name, self.context_shape, context)
        first, shape = tf.nest.flatten(context)[0], tf.nest.flatten(self.context_shape)[0]
        rank = first.shape.rank - shape.rank
        batch_shape = tf.shape(first)[:rank]
        rows = tf.nest.map_structure(
            lambda leaf: leaf if rank == 1 else tf.reshape(leaf, tf.concat([[-1], tf.shape(leaf)[rank:]], 0)), context
        )
        embedded = self.embedding(rows)
        if rank != 1:
            embedded = tf.reshape(embedded, tf.concat([batch_shape, embedded.shape[1:]], 0))
        return tf.cast(embedded, self.bijector.inverse_dtype() or embedded.dtype)


def embedded(distribution, embedding):
    """A conditional distribution made by a bijector, with an embedding of its context: see `Embedded`.

    Raises: TypeError for a distribution without a bijector; else as `Embedded`.
    """
    if not isinstance(getattr(distribution, "bijector", None), tfb.Bijector):
        raise TypeError(
            "Expected a distribution with a bijector, as `tfd.TransformedDistribution`, to bring it an embedding. "
            f"Received: {distribution}"
        )
    # Not by `copy`, which slices the arguments, and a slice of a variable is a variable no more.
    arguments = {**distribution.parameters, "bijector": Embedded(distribution.bijector, embedding)}
    return type(distribution)(**arguments)


def input_and_output(embedding):
    """The shape, or structure of shapes, of an embedding's input without the batch, and the size of its output.

    Raises: TypeError for what is no Keras layer; ValueError where the shapes are not known, or the output no vector.
    """
    if not callable(embedding) or not hasattr(embedding, "compute_output_shape"):
        raise TypeError(f"Expected `embedding` to be a Keras layer. Received: {embedding!r}")
    try:
        shapes = tf.nest.map_structure(lambda tensor: tuple(tensor.shape), embedding.input)
    except (AttributeError, ValueError):  # not called on a `keras.Input`
        shapes = (embedding.get_build_config() or {}).get("input_shape")
    if not embedding.built or shapes is None:
        raise ValueError(
            "Expected an embedding whose input's shape is known: begin it with `keras.Input(shape)`, or call its "
            f"method `build`. Received: {embedding!r}"
        )
    output = embedding.compute_output_shape(shapes)
    if len(output) != 2 or output[-1] is None:
        raise ValueError(f"Expected an embedding whose output is `[batch, size]`. Received: output shape {output}")
    if isinstance(shapes, dict):
        return {name: tf.TensorShape(shape[1:]) for name, shape in shapes.items()}, int(output[-1])
    return tf.TensorShape(shapes[1:]), int(output[-1])
