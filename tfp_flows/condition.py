"""How a context reaches the bijectors inside a distribution: TFP's own route of keyword arguments, or bound to it."""

import abc
import inspect
import typing

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability.python.internal import cache_util

_PARTS = (tfb.Bijector, tfd.Distribution)
# By which keyword a bijector takes its context: ours, and TFP's with a network that has such an argument.
_KEYWORDS = ("context", "conditional_input")
_NETWORKS = ("shift_and_log_scale_fn", "bijector_fn")


def context_shape_of(part):
    """The shape of a single context of a distribution or bijector; None if it takes none.

    A `tf.TensorShape`, or a structure of them where an embedding takes a structure of tensors. A size is None where
    any will do, and where TFP does not know.
    """
    return next((_own_context(conditional).shape for conditional in _conditional_parts(part)), None)


def context_batch_shape(context, context_shape):
    """The batch shape of a context in the form of a `tf.TensorShape`, the dimensions of one context left out."""
    first, shape = tf.nest.flatten(context)[0], tf.nest.flatten(context_shape)[0]
    return first.shape[: first.shape.rank - shape.rank]


def context_arguments(part, context):
    """The keyword arguments that bring a context to every conditional bijector inside a distribution or bijector.

    A `tfb.Chain` hands `{name: arguments}` to its parts, a `tfb.Invert` and most distributions hand on what they get,
    and a `tfd.TransformedDistribution` takes `bijector_kwargs` and `distribution_kwargs`.
    """
    if context is None or context_shape_of(part) is None:
        return {}
    if _own_context(part) is not None:
        return {_own_context(part).keyword: context}
    if isinstance(part, tfd.Distribution) and hasattr(part, "bijector"):
        return _by_name(context, bijector_kwargs=part.bijector, distribution_kwargs=part.distribution)
    if hasattr(part, "bijectors"):  # Chain, Blockwise, JointMap
        return _by_name(context, **{bijector.name: bijector for bijector in part.bijectors})
    # Invert; Independent, Sample
    return context_arguments(part.bijector if isinstance(part, tfb.Bijector) else part.distribution, context)


def _by_name(context, **parts):
    arguments = {name: context_arguments(part, context) for name, part in parts.items()}
    return {name: value for name, value in arguments.items() if value}


def _conditional_parts(part):
    """The bijectors, inside a distribution or bijector, that take the context as it comes from outside."""
    if _own_context(part) is not None:
        yield part
    elif not isinstance(part, Conditioned):  # what is inside that one has its context
        for child in part._flatten(recursive=False, predicate=lambda leaf: isinstance(leaf, _PARTS)):
            yield from _conditional_parts(child)


class _Context(typing.NamedTuple):
    """How a bijector takes its context: under which keyword, the shape of a single one, and its dtype if known."""

    keyword: str
    shape: tf.TensorShape
    dtype: tf.DType


def _own_context(part):
    """How a part takes a context for itself; None if it takes none."""
    shape = getattr(part, "context_shape", None)
    if shape is None and getattr(part, "context_size", 0):
        shape = tf.TensorShape([part.context_size])
    if shape is not None:
        return _Context("context", shape, part.inverse_dtype())
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


class ContextBijector(tfb.Bijector, abc.ABC):
    """A bijector around another one, to which it brings a context: the common part of `Conditioned` and `Embedded`.

    As in every bijector of ours, TFP's cache keeps the log-determinant beside the value. Both come from the public
    methods of the inner bijector, so that its own cache serves and its networks run once.

    Arguments:
      bijector: the inner bijector.
      parameters: the constructor's arguments, by name.
      name: the name of the whole.
    """

    _cache = cache_util.BijectorCacheWithGreedyAttrs(forward_name="_cached_forward", inverse_name="_cached_inverse")

    def __init__(self, bijector, parameters, name):
        self.bijector = bijector
        super().__init__(
            forward_min_event_ndims=bijector.forward_min_event_ndims,
            inverse_min_event_ndims=bijector.inverse_min_event_ndims,
            dtype=bijector.dtype,
            parameters=parameters,
            name=name,
        )

    @abc.abstractmethod
    def _arguments(self, context):
        """The keyword arguments of the inner bijector for the context that came from outside, or None."""

    def _cached_forward(self, z, context=None):
        arguments = self._arguments(context)
        return self.bijector.forward(z, **arguments), {"ildj": -self.bijector.forward_log_det_jacobian(z, **arguments)}

    def _cached_inverse(self, x, context=None):
        arguments = self._arguments(context)
        return self.bijector.inverse(x, **arguments), {"ildj": self.bijector.inverse_log_det_jacobian(x, **arguments)}

    def _forward_log_det_jacobian(self, z, context=None):
        return self.bijector.forward_log_det_jacobian(z, **self._arguments(context))

    def _inverse_log_det_jacobian(self, x, context=None):
        return self.bijector.inverse_log_det_jacobian(x, **self._arguments(context))

    def _forward_event_shape(self, shape):
        return self.bijector.forward_event_shape(shape)

    def _forward_event_shape_tensor(self, shape):
        return self.bijector.forward_event_shape_tensor(shape)

    def _inverse_event_shape(self, shape):
        return self.bijector.inverse_event_shape(shape)

    def _inverse_event_shape_tensor(self, shape):
        return self.bijector.inverse_event_shape_tensor(shape)

    def _forward_dtype(self, dtype, **kwargs):
        return self.bijector.forward_dtype(dtype)

    def _inverse_dtype(self, dtype, **kwargs):
        return self.bijector.inverse_dtype(dtype)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}

    def _get_parameterization(self):
        # TFP lets bijectors with equal arguments share a cache; the inner one has weights of its own.
        return id(self)

    def get_config(self):
        return dict(self.parameters)


@keras.saving.register_keras_serializable("tfp_flows")
class Conditioned(ContextBijector):
    """A bijector bound to a context; `tff.condition` makes it.

    Shapes: z and x `[..., D]`; a context of batch shape `[B]` makes it the bijector's batch shape.

    Arguments:
      bijector: a conditional bijector.
      context: a tensor, or a structure of tensors, of its context's shape after any batch shape.
      name: None for the name of `bijector`.
    """

    def __init__(self, bijector, context, name=None):
        parameters = dict(locals())
        self.context = context
        self._batch = context_batch_shape(context, context_shape_of(bijector))
        super().__init__(bijector, parameters, name or bijector.name)

    def _arguments(self, context):
        if context is not None:
            raise ValueError(
                f"`{self.name}` takes no context, for it is bound to one already. "
                f"Received: a context of shape {_shapes(context)}"
            )
        return context_arguments(self.bijector, self.context)

    # Bijectors have a batch shape for every rank of the event: further dimensions of an event are taken from the right.

    def _batch_shape(self, x_event_ndims):
        further = tf.nest.flatten(x_event_ndims)[0] - tf.nest.flatten(self.forward_min_event_ndims)[0]
        return self._batch[: max(0, self._batch.rank - further)]

    def _batch_shape_tensor(self, x_event_ndims):
        return tf.shape(tf.nest.flatten(self.context)[0])[: self._batch_shape(x_event_ndims).rank]


def condition(distribution_or_bijector, context):
    """A distribution or bijector bound to a context: the same kind of object, which needs no context any more.

    It shares its variables with what it was made from. Contexts of batch shape `[B]` make it a distribution of batch
    shape `[B]`: `sample(n)` is `[n, B, D]`, and `log_prob(x)` broadcasts x against the contexts.

    It goes through any composition of TFP's, and takes TFP's own conditional bijectors as well: a
    `tfb.MaskedAutoregressiveFlow` over an `AutoregressiveNetwork` with `conditional=True`, and a `tfb.RealNVP` whose
    function has an argument `context` or `conditional_input`. Distributions are made anew, with the keyword arguments
    they were made with. A part that a `tfd.JointDistribution` makes by a function of other parts is bound there.

    Shapes: context `[C]`, or `[..., C]` with a batch shape; with an embedding the shape of its input in place of `[C]`.

    Arguments:
      distribution_or_bijector: a `tfd.Distribution` or `tfb.Bijector` that takes a context.
      context: an array or tensor, or a structure of them where an embedding takes a structure.

    Returns: a `tfd.Distribution` of the same class, or a `tfb.Bijector`.

    Raises: TypeError for anything but a distribution or bijector; ValueError, with the name of the bijector, for a
      context of the wrong shape, for one that is missing, and where nothing takes a context.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.realnvp(2, num_layers=2, context_size=3)
    >>> posterior = tff.condition(flow, np.zeros([5, 3]))
    >>> posterior.batch_shape, posterior.sample(1000).shape
    (TensorShape([5]), TensorShape([1000, 5, 2]))
    """
    part = distribution_or_bijector
    if not isinstance(part, _PARTS):
        raise TypeError(f"Expected a `tfd.Distribution` or `tfb.Bijector`. Received: {part}")
    parts = list(_conditional_parts(part))
    if not parts:
        raise ValueError(f"Expected a distribution or bijector that takes a context. Received: {part}")
    inputs = {conditional.name: _own_context(conditional) for conditional in parts}
    for name, expected in inputs.items():
        tensors = checked_context(name, expected.shape, context)
    dtype = next((expected.dtype for expected in inputs.values() if expected.dtype is not None), tf.float32)
    # Once a tensor, it is the same tensor in every call, by which TFP's caches know it.
    return _bind(part, tf.nest.map_structure(lambda leaf: tf.cast(leaf, dtype), tensors))


def checked_context(name, expected, context):
    """A context as a tensor or structure of them; ValueError, with a bijector's name, unless its shape ends so."""
    if context is None:
        raise ValueError(f"`{name}` expected a context of shape {_shapes(expected)}. Received: context=None")
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
            f"`{name}` expected a context of shape {_shapes(expected)}, after any batch shape. "
            f"Received: shape {_shapes(context)}"
        )
    # A plain dictionary, whatever kind tracks those that are attributes: Keras compares the types.
    return dict(tensors) if isinstance(tensors, dict) else tensors


def _shapes(structure):
    """The shape, or the structure of shapes, as an error shows it."""

    def shape(leaf):
        return tuple(leaf if isinstance(leaf, tf.TensorShape) else tf.convert_to_tensor(leaf).shape)

    if tf.nest.is_nested(structure) and isinstance(structure, dict):
        return {name: shape(leaf) for name, leaf in structure.items()}
    return shape(structure)


def _bind(value, context):
    """A part with the context; a list, tuple or dictionary of parts with it; anything else as it is."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_bind(item, context) for item in value)
    if isinstance(value, dict):
        return type(value)((name, _bind(item, context)) for name, item in value.items())
    if not isinstance(value, _PARTS) or context_shape_of(value) is None:
        return value
    if isinstance(value, tfb.Bijector):
        return Conditioned(value, context)
    # Not by `copy`, which slices the arguments, and a slice of a variable is a variable no more.
    return type(value)(**{name: _bind(argument, context) for name, argument in value.parameters.items()})
