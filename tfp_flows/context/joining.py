"""How a context enters a conditioner."""

import inspect

import tensorflow as tf


def concatenate(x, context):
    """x and the context concatenated on the last axis; their batch shapes broadcast.

    Shapes: x `[..., D]`, context `[..., C]`; the result is `[..., D + C]`.
    """
    if context is None:
        return x
    batch_shape = tf.broadcast_dynamic_shape(tf.shape(x)[:-1], tf.shape(context)[:-1])
    parts = [tf.broadcast_to(part, tf.concat([batch_shape, tf.shape(part)[-1:]], 0)) for part in (x, context)]
    joined = tf.concat(parts, -1)
    return tf.ensure_shape(joined, [*tf.broadcast_static_shape(x.shape[:-1], context.shape[:-1]), joined.shape[-1]])


def gated(hidden, gate):
    """A gated linear unit: hidden ⊙ σ(gate), with the context brought to the width of `hidden` by a linear layer.

    Source: Dauphin et al. 2017, arXiv 1612.08083, equation 1.
    """
    return hidden * tf.sigmoid(gate)


def check_context_mode(context_mode):
    """Raises ValueError unless the way a context enters is "add" or "gated"."""
    if context_mode not in ("add", "gated"):
        raise ValueError(f'Expected `context_mode` to be "add" or "gated". Received: context_mode={context_mode!r}')


def call_conditioner(layer, x, context):
    """Calls any Keras layer as a conditioner, with batch shapes that Keras layers accept.

    A layer whose `call` has an argument named `context` receives it there. To any other, a user's own, the context
    comes concatenated to x and all batch dimensions come as one, as a `keras.Input` demands.
    """
    if "context" not in inspect.signature(layer.call).parameters:
        joined = concatenate(x, context)
        rows = layer(tf.reshape(joined, [-1, joined.shape[-1]]))
        return tf.reshape(rows, tf.concat([tf.shape(joined)[:-1], rows.shape[-1:]], 0))
    if x.shape.rank == 1:  # a Keras layer requires a batch
        return call_conditioner(layer, x[tf.newaxis], context)[0]
    if context is not None and context.shape.rank == 1:
        context = context[tf.newaxis]
    return layer(x, context=context)
