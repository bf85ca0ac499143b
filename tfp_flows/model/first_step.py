"""What happens before the first training step: initialization from data, and checks of the arrays."""

import contextlib

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability.python.distributions import mixture

from tfp_flows.context import ContextBijector, condition, context_arguments, walk
from tfp_flows.model import pipelines


def prepare(model, rows, data, adapt_new):
    """Adapts what has not been adapted before a model's first step of training, and checks rows before any.

    Rows that are refused leave every variable as it was.

    Arguments:
      rows: (context, x, weight), or None where `data`, a pipeline, brings them.
      adapt_new: whether to adapt what has not been adapted.

    Returns: the pipeline, which peeking may have replaced.
    """
    spec = model.training_spec
    is_new = model.optimizer.iterations == 0

    def x_and_context(rows):
        context, x, _ = spec.tensors(*rows)
        return spec.x_and_fields(x)[0], context

    new = adaptable(model.distribution, only_new=True) if is_new and adapt_new else []
    with _restored_on_error(model.distribution.variables if new else ()):
        if new:
            first, data = (rows, data) if rows else pipelines.peek(spec, data)
            if first:
                adapt(model.distribution, *x_and_context(first), only_new=True)
        if rows:
            x, context = x_and_context(rows)
            check_support(model.distribution, x, context)
            if is_new:
                check_gradient(model, x, context)
    return data


@contextlib.contextmanager
def _restored_on_error(variables):
    """Gives variables their values back where an error ends the block."""
    kept = [(variable, variable.numpy()) for variable in variables]
    try:
        yield
    except Exception:
        for variable, value in kept:
            variable.assign(value)
        raise


def adaptable(distribution, only_new=False):
    """The parts of a distribution that adapt to data; with `only_new` those that have not been adapted."""
    parts = [part for flow in _flows(distribution) for part in _parts(flow) if hasattr(part, "adapt")]
    return [part for part in parts if not (only_new and getattr(part, "is_adapted", False))]


def adapt(distribution, x, context, only_new=False):
    """Adapts every part that adapts to data, from the data to the base; with `only_new` those that have not been."""
    left = adaptable(distribution, only_new)
    for flow in _flows(distribution):
        for part, reached, own_context, inverted in _way(flow, x, context):
            if not left:
                return
            if not inverted and any(part is other for other in left):
                part.adapt(reached, own_context)
                left = [other for other in left if other is not part]


def _flows(distribution):
    """The distributions made by a bijector that receive the data unchanged: itself, or the components of a mixture."""
    if isinstance(distribution, mixture._Mixture):
        return [flow for component in distribution.components for flow in _flows(component)]
    return [distribution] if _has_a_way(distribution) else []


def _has_a_way(distribution):
    return hasattr(distribution, "walk") or isinstance(getattr(distribution, "bijector", None), tfb.Bijector)


def _way(flow, x, context):
    """`walk` through the bijector of a flow, or as a distribution has it that brings data there by a way of its own."""
    return walk(flow if hasattr(flow, "walk") else flow.bijector, x, context)


def check_support(distribution, x, context):
    """Raises ValueError, with row and column, where x lies outside the support of the distribution.

    Those that can have a support other than all numbers are TFP's bijectors, and ours that have a method `supports`; x
    is followed up to the last of them. A distribution without a bijector is checked by its log-densities; one with a
    `walk` of its own checks data as it begins to walk.
    """
    if hasattr(distribution, "walk"):
        next(distribution.walk(x, context), None)
        return
    if not isinstance(getattr(distribution, "bijector", None), tfb.Bijector):
        bound = distribution if context is None else condition(distribution, context)
        log_prob = bound.log_prob(x)
        rows = np.flatnonzero(~np.isfinite(np.asarray(log_prob)))
        if rows.size:
            raise ValueError(
                f"Expected data inside the support of `{distribution.name}`. Received: {rows.size} rows with a "
                f"non-finite log-density, the first of them row {rows[0]}: {_row(x, rows[0])}"
            )
        return
    left = _bounded_parts(distribution.bijector)
    for part, reached, own_context, inverted in walk(distribution.bijector, x, context) if left else ():
        if not any(part is other for other in left):
            continue
        if hasattr(part, "supports"):
            if not inverted:  # else it takes all numbers
                _check_supported(part, reached, part.supports(reached))
        else:
            to_base = part.forward if inverted else part.inverse
            values = to_base(reached, **context_arguments(part, own_context))
            for given, value in zip(tf.nest.flatten(reached), tf.nest.flatten(values), strict=False):
                _check_supported(part, given, np.isfinite(np.asarray(value)))
        left = [other for other in left if other is not part]
        if not left:
            return


def _check_supported(part, x, supported):
    """Raises ValueError with the first row, and column, at which a part does not support x."""
    wrong = np.argwhere(~np.asarray(supported))
    if wrong.size:
        place = tuple(wrong[0])
        column = f", column {place[1]}" if len(place) > 1 else ""
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        at = np.asarray(x)[place] if x.shape == np.shape(supported) else _row(x, place[0])
        raise ValueError(
            f"Expected data inside the support of `{part.name}` ({type(part).__name__}). "
            f"Received: {at} in row {place[0]}{column}{more}"
        )


def _parts(module):
    """A bijector or distribution, and all that is in it; the layers of a `Stack` are none of its submodules."""
    parts = [module, *module.submodules]
    return parts + [layer for part in parts if isinstance(part, tfb.Bijector) for layer in getattr(part, "layers", ())]


def _bounded_parts(bijector):
    """The parts that may have a support; of the layers of a `Stack`, which have the same, the one next to the data."""
    modules = [bijector, *bijector.submodules]
    stacks = [list(filter(_may_have_support, getattr(module, "first_turn", ()))) for module in modules]
    return [module for module in modules if _may_have_support(module)] + [layers[0] for layers in stacks if layers]


def _may_have_support(part):
    """Whether a part says what it supports, or is a nonlinear bijector of TFP's; linear ones are defined everywhere."""
    if hasattr(part, "supports"):
        return True
    is_container = hasattr(part, "bijectors") or hasattr(part, "bijector")
    of_tfp = isinstance(part, tfb.Bijector) and type(part).__module__.startswith("tensorflow_probability")
    return of_tfp and not is_container and not part.is_constant_jacobian


def _row(x, number):
    return tf.nest.map_structure(lambda leaf: np.asarray(leaf)[number], x)


def check_gradient(model, x, context):
    """Raises ValueError where arrays are so large that the loss or its gradient does not fit the dtype.

    A step would turn every weight into NaN. The gradient is that of the mean log-density of the largest rows; nothing
    is computed where all numbers that reach a trained part are of ordinary size.
    """
    sizes = _sizes(model.distribution, x, context)
    if sizes.max() < 100:  # contexts of 3000 have overflowed, by way of a scale; smaller ones than 100 have not
        return
    rows = np.argsort(sizes)[-256:]  # of one batch
    x, context = tf.nest.map_structure(lambda part: None if part is None else np.asarray(part)[rows], (x, context))
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(model.methods.bound(context).log_prob(x))
    gradients = tape.gradient(mean, [variable.value for variable in model.trainable_variables])
    found = [mean, *(tf.reduce_max(tf.abs(gradient)) for gradient in gradients if gradient is not None)]
    if not np.isfinite([np.asarray(value) for value in found]).all():
        raise ValueError(
            f"Expected data of a size at which the likelihood and its gradient fit {mean.dtype.name}: take other "
            "units, or put a `Standardize` next to the data (presets do, with `standardize=True`). "
            f"Received: values up to {sizes.max():.2g}"
        )


def _sizes(distribution, x, context):
    """The largest absolute value in every row, as it reaches the first trained part."""
    if _has_a_way(distribution):
        for part, reached, own_context, _ in _way(distribution, x, context):
            if not isinstance(part, ContextBijector):
                x, context = reached, own_context
                if part.trainable_variables:
                    break
    parts = [np.abs(np.asarray(part, np.float64)) for part in tf.nest.flatten((x, context)) if part is not None]
    # A context without a batch dimension of its own, bound by `condition`, belongs to every row.
    count = max(len(part) for part in parts)
    parts = [part.reshape(len(part), -1).max(1) for part in parts if len(part) == count]
    return np.max(parts, 0)
