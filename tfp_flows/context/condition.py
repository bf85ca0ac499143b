"""A flow bound to a context: an object of the same kind that no longer needs a context."""

from __future__ import annotations

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability.python.distributions import mixture

from tfp_flows._types import Context, Part
from tfp_flows.context.context_bijector import ContextBijector
from tfp_flows.context.route import (
    PARTS,
    checked_context,
    conditional_parts,
    context_shape_of,
    own_context,
    shapes,
)


@keras.saving.register_keras_serializable("tfp_flows")
class Conditioned(ContextBijector):
    """A bijector bound to a context; `tff.condition` makes it.

    Shapes: z and x `[..., D]`; a context of batch shape `[B]` makes it the bijector's batch shape. Slices of it, and of
    distributions made by it, are bound to slices of the context and share the variables.

    Arguments:
      bijector: a conditional bijector.
      context: a tensor, or a structure of tensors, of its context's shape after any batch shape.
      name: None for the name of `bijector`.
    """

    has_its_context = True

    def __init__(self, bijector, context, name=None):
        parameters = dict(locals())
        self.context = context
        super().__init__(bijector, parameters, name or bijector.name)

    def inner_context(self, context):
        if context is not None:
            raise ValueError(
                f"`{self.name}` takes no context, since it is already bound to one. "
                f"Received: a context of shape {shapes(context)}"
            )
        return self.context

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        # The dimensions before a single context's are a batch shape: TFP infers ours from it, and slices along it.
        return {"context": tfp.util.ParameterProperties(event_ndims=_context_ndims)}


def _context_ndims(bijector, x_event_ndims):
    """How many dimensions of a bound context belong to one event of rank `x_event_ndims`.

    Those of a single context, and as many more as the event has beyond the minimum that the bijector needs.
    """
    further = tf.nest.flatten(x_event_ndims)[0] - tf.nest.flatten(bijector.forward_min_event_ndims)[0]
    return tf.nest.map_structure(lambda shape: shape.rank + further, context_shape_of(bijector.bijector))


def condition(distribution_or_bijector: Part, context: Context) -> Part:
    """A distribution or bijector bound to a context: an object of the same kind that no longer needs a context.

    It shares its variables with the original. Contexts of batch shape `[B]` make it a distribution of batch shape
    `[B]`: `sample(n)` is `[n, B, D]`, and `log_prob(x)` broadcasts x against the contexts. `bound[0]` is bound to
    the first of them, `bound[1:3]` to two.

    It works on any composition of TFP's, and on TFP's own conditional bijectors: a
    `tfb.MaskedAutoregressiveFlow` over an `AutoregressiveNetwork` with `conditional=True`, and a `tfb.RealNVP` whose
    function has an argument `context` or `conditional_input`. Distributions are constructed again, from their
    original keyword arguments. A part that a `tfd.JointDistribution` makes by a function of other parts is bound there.

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
    if not isinstance(part, PARTS):
        raise TypeError(f"Expected a `tfd.Distribution` or `tfb.Bijector`. Received: {part}")
    parts = list(conditional_parts(part))
    if not parts:
        raise ValueError(f"Expected a distribution or bijector that takes a context. Received: {part}")
    inputs = {conditional.name: own_context(conditional) for conditional in parts}
    for name, expected in inputs.items():
        tensors = checked_context(name, expected.shape, context)
    dtype = next((expected.dtype for expected in inputs.values() if expected.dtype is not None), tf.float32)
    # One tensor for all calls: TFP's caches recognize it by identity.
    return _bind(part, tf.nest.map_structure(lambda leaf: tf.cast(leaf, dtype), tensors))


def _bind(value, context):
    """A part with the context; a list, tuple or dictionary of parts with it; anything else as it is."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_bind(item, context) for item in value)
    if isinstance(value, dict):
        return type(value)((name, _bind(item, context)) for name, item in value.items())
    if not isinstance(value, PARTS) or context_shape_of(value) is None:
        return value
    if isinstance(value, tfb.Bijector):
        return Conditioned(value, context)
    if own_context(value) is not None:  # a distribution that brings its context to its parts itself
        return value.bound_to(context)
    # Not by `copy`, which slices the arguments, and a slice of a variable is a variable no more.
    arguments = {name: _bind(argument, context) for name, argument in value.parameters.items()}
    if isinstance(value, mixture._Mixture):
        arguments["cat"] = _one_per_context(value.cat, arguments["components"][0])
    return type(value)(**arguments)


def _one_per_context(categorical, component):
    """The categorical of a mixture in the batch shape of its bound components, to which TFP does not broadcast it."""
    if categorical.batch_shape.rank == component.batch_shape.rank:
        return categorical
    name = "probs" if categorical.logits is None else "logits"
    parameter = tf.convert_to_tensor(getattr(categorical, name))
    shape = tf.concat([component.batch_shape_tensor(), tf.shape(parameter)[-1:]], 0)
    static = component.batch_shape.concatenate(parameter.shape[-1:])
    deferred = tfp.util.DeferredTensor(
        getattr(categorical, name), lambda value: tf.broadcast_to(value, shape), shape=static
    )
    return tfd.Categorical(**{name: deferred}, dtype=categorical.dtype)
