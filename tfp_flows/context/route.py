"""How a context reaches the bijectors inside a distribution, by TFP's keyword arguments; and its shape."""

import inspect
import typing

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

PARTS = (tfb.Bijector, tfd.Distribution)
# By which keyword a bijector takes its context: ours, and TFP's with a network that has such an argument.
_KEYWORDS = ("context", "conditional_input")
_NETWORKS = ("shift_and_log_scale_fn", "bijector_fn")


def context_shape_of(part):
    """The shape of a single context of a distribution or bijector; None if it takes none.

    A `tf.TensorShape`, or a structure of them where an embedding takes a structure of tensors. A size is None where
    any size is accepted, and where TFP does not know it.
    """
    return next((own_context(conditional).shape for conditional in conditional_parts(part)), None)


def context_batch_shape(context, context_shape):
    """The batch shape of a context in the form of a `tf.TensorShape`, the dimensions of one context left out."""
    first, shape = tf.nest.flatten(context)[0], tf.nest.flatten(context_shape)[0]
    return first.shape[: first.shape.rank - shape.rank]


def context_arguments(part, context):
    """The keyword arguments that pass a context to every conditional bijector inside a distribution or bijector.

    A `tfb.Chain` passes `{name: arguments}` to its parts, a `tfb.Invert` and most distributions pass on what they get,
    and a `tfd.TransformedDistribution` takes `bijector_kwargs` and `distribution_kwargs`.
    """
    if context is None or context_shape_of(part) is None:
        return {}
    if own_context(part) is not None:
        return {own_context(part).keyword: context}
    if isinstance(part, tfd.Distribution) and hasattr(part, "bijector"):
        return _by_name(context, bijector_kwargs=part.bijector, distribution_kwargs=part.distribution)
    if hasattr(part, "bijectors"):  # Chain, Blockwise, JointMap
        return _by_name(context, **{bijector.name: bijector for bijector in part.bijectors})
    # Invert; Independent, Sample
    return context_arguments(part.bijector if isinstance(part, tfb.Bijector) else part.distribution, context)


def _by_name(context, **parts):
    arguments = {name: context_arguments(part, context) for name, part in parts.items()}
    return {name: value for name, value in arguments.items() if value}


def conditional_parts(part):
    """The bijectors, inside a distribution or bijector, that take the context as it comes from outside."""
    if own_context(part) is not None:
        yield part
    elif not getattr(part, "has_its_context", False):  # then no part inside that bijector needs one
        for child in part._flatten(recursive=False, predicate=lambda leaf: isinstance(leaf, PARTS)):
            yield from conditional_parts(child)


class _Context(typing.NamedTuple):
    """How a bijector takes its context: under which keyword, the shape of a single one, and its dtype if known."""

    keyword: str
    shape: tf.TensorShape
    dtype: tf.DType


def own_context(part):
    """How a part itself takes a context; None if it takes none."""
    shape = getattr(part, "context_shape", None)
    if shape is None and getattr(part, "context_size", 0):
        shape = tf.TensorShape([part.context_size])
    if shape is not None:
        return _Context("context", shape, part.inverse_dtype() if isinstance(part, tfb.Bijector) else part.dtype)
    if isinstance(part, (tfb.MaskedAutoregressiveFlow, tfb.RealNVP)):
        networks = [part.parameters.get(name) for name in _NETWORKS]
        return next((_context_of(network) for network in networks if network is not None), None)
    return None


def _context_of(network):
    """How the network of a bijector of TFP's takes a context; None if it takes none."""
    if isinstance(network, tfb.AutoregressiveNetwork):
        size = network._conditional_event_shape
        return None if size is None else _Context("conditional_input", tf.TensorShape(size), network.dtype)
    parameters = inspect.signature(getattr(network, "call", network)).parameters
    dtype = getattr(network, "dtype", None)
    return next((_Context(name, tf.TensorShape([None]), dtype) for name in _KEYWORDS if name in parameters), None)


def checked_context(name, expected, context):
    """A context as a tensor or structure of them; ValueError, with a bijector's name, unless its shape ends so."""
    if context is None:
        raise ValueError(f"`{name}` expected a context of shape {shapes(expected)}. Received: context=None")
    try:
        tensors = tf.convert_to_tensor(context) if isinstance(expected, tf.TensorShape) else context
        tf.nest.assert_same_structure(expected, tensors)
        tensors = tf.nest.map_structure(tf.convert_to_tensor, tensors)
        pairs = zip(tf.nest.flatten(expected), tf.nest.flatten(tensors), strict=True)
        fits = all(
            shape.is_compatible_with(leaf.shape[max(0, leaf.shape.rank - shape.rank) :]) for shape, leaf in pairs
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` expected a context of shape {shapes(expected)}, after any batch shape. "
            f"Received: shape {shapes(context)}"
        )
    # A plain dictionary, whatever kind tracks those that are attributes: Keras compares the types.
    return dict(tensors) if isinstance(tensors, dict) else tensors


def shapes(structure):
    """The shape, or the structure of shapes, as an error shows it."""

    def shape(leaf):
        return tuple(leaf if isinstance(leaf, tf.TensorShape) else tf.convert_to_tensor(leaf).shape)

    if tf.nest.is_nested(structure) and isinstance(structure, dict):
        return {name: shape(leaf) for name, leaf in structure.items()}
    return shape(structure)
