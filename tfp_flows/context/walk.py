"""The path of data through a composition of bijectors, part by part, from the data to the base."""

import tensorflow as tf
from tensorflow_probability.python.bijectors import blockwise, chain, invert, joint_map

from tfp_flows.context.context_bijector import ContextBijector
from tfp_flows.context.route import context_arguments, context_shape_of

# Where a part is no composite tensor, `tfb.Chain(...)` gives a `_Chain`, of which `tfb.Chain` is a subclass.


def walk(bijector, x, context=None, inverted=False):
    """Yields (part, x, context, inverted) for every innermost part, in the order in which data meets them.

    x is what reaches the part; the context is the part's own, after any embedding, or None where it takes none. An
    `inverted` part stands inside a `tfb.Invert`: data enters where it usually leaves, so that z = part.forward(x). A
    part is called after it was yielded, with the parameters it then has, so a caller can adapt it to x first.

    It goes through `tfb.Chain`, `Invert`, `Blockwise` and `JointMap`, and every bijector that has a method `walk` of
    its own, with these arguments. A `ContextBijector` is yielded before what is inside it.

    Returns, as a generator does, what reaches the base.
    """
    if hasattr(bijector, "walk"):
        return (yield from bijector.walk(x, context, inverted))
    # Where a part is no composite tensor, as none of ours is, TFP makes these classes of the public ones.
    if isinstance(bijector, chain._Chain):
        for part in bijector.bijectors[::-1] if inverted else bijector.bijectors:
            x = yield from walk(part, x, context, inverted)
        return x
    if isinstance(bijector, invert._Invert):
        return (yield from walk(bijector.bijector, x, context, not inverted))
    if isinstance(bijector, ContextBijector):
        yield bijector, x, context, inverted
        return (yield from walk(bijector.bijector, x, bijector.inner_context(context), inverted))
    if isinstance(bijector, blockwise._Blockwise):
        sizes = bijector.block_sizes if inverted else bijector.inverse_block_sizes
        blocks = []
        for part, block in zip(bijector.bijectors, tf.split(x, sizes, -1), strict=True):
            blocks.append((yield from walk(part, block, context, inverted)))
        return tf.concat(blocks, -1)
    if isinstance(bijector, joint_map._JointMap):
        blocks = []
        for part, block in zip(tf.nest.flatten(bijector.bijectors), tf.nest.flatten(x), strict=True):
            blocks.append((yield from walk(part, block, context, inverted)))
        return tf.nest.pack_sequence_as(bijector.bijectors, blocks)
    if context_shape_of(bijector) is None:
        context = None
    yield bijector, x, context, inverted
    to_base = bijector.forward if inverted else bijector.inverse
    # A new tensor, unknown to TFP's cache: parameters may change between two parts.
    return tf.identity(to_base(x, **context_arguments(bijector, context)))
