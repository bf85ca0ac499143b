"""What comes before the first step of training: parts that start from data, and checks of the arrays."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.context import ContextBijector, context_arguments, walk


def adaptable(distribution, only_new=False):
    """The parts of a distribution that start from data; with `only_new` those that have not yet."""
    parts = [part for flow in _flows(distribution) for part in (flow.bijector, *flow.bijector.submodules)]
    parts += [layer for part in parts if hasattr(part, "walk") for layer in part.layers]  # a stack's are no submodules
    parts = [part for part in parts if hasattr(part, "adapt")]
    return [part for part in parts if not (only_new and getattr(part, "is_adapted", False))]


def adapt(distribution, x, context, only_new=False):
    """Has every part that starts from data do so, from the data's end to the base's; `only_new`: if it has not yet."""
    left = adaptable(distribution, only_new)
    for flow in _flows(distribution):
        for part, reached, own_context, inverted in walk(flow.bijector, x, context):
            if not left:
                return
            if not inverted and any(part is other for other in left):
                part.adapt(reached, own_context)
                left = [other for other in left if other is not part]


def _flows(distribution):
    """The distributions made by a bijector to which data comes as it is: itself, or the components of a mixture."""
    if isinstance(distribution, tfd.Mixture):
        return [flow for component in distribution.components for flow in _flows(component)]
    return [distribution] if isinstance(getattr(distribution, "bijector", None), tfb.Bijector) else []


def check_support(distribution, x, context):
    """Raises ValueError, with row and column, where x lies outside the support of the distribution.

    Of the bijectors those of TFP can have less than all numbers for their support. x is followed up to the last of
    them. A distribution without a bijector is asked for its log-densities.
    """
    if not isinstance(getattr(distribution, "bijector", None), tfb.Bijector):
        log_prob = distribution.log_prob(x, **context_arguments(distribution, context))
        rows = np.flatnonzero(~np.isfinite(np.asarray(log_prob)))
        if rows.size:
            raise ValueError(
                f"Expected data inside the support of `{distribution.name}`. Received: {rows.size} rows with a "
                f"non-finite log-density, the first of them row {rows[0]}: {_row(x, rows[0])}"
            )
        return
    bounded_parts = sum(map(_may_have_support, distribution.bijector.submodules)) + _may_have_support(
        distribution.bijector
    )
    for part, reached, own_context, inverted in walk(distribution.bijector, x, context) if bounded_parts else ():
        if not _may_have_support(part):
            continue
        to_base = part.forward if inverted else part.inverse
        values = to_base(reached, **context_arguments(part, own_context))
        for given, value in zip(tf.nest.flatten(reached), tf.nest.flatten(values), strict=False):
            wrong = np.argwhere(~np.isfinite(np.asarray(value)))
            if wrong.size:
                place = tuple(wrong[0])
                column = f", column {place[1]}" if len(place) > 1 else ""
                more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
                at = np.asarray(given)[place] if given.shape == value.shape else _row(given, place[0])
                raise ValueError(
                    f"Expected data inside the support of `{part.name}` ({type(part).__name__}). "
                    f"Received: {at} in row {place[0]}{column}{more}"
                )
        bounded_parts -= 1
        if not bounded_parts:
            return


def _may_have_support(part):
    """Whether a part is a bijector of TFP's that is not linear; linear ones take all numbers."""
    is_container = hasattr(part, "bijectors") or hasattr(part, "bijector")
    of_tfp = isinstance(part, tfb.Bijector) and type(part).__module__.startswith("tensorflow_probability")
    return of_tfp and not is_container and not part.is_constant_jacobian


def _row(x, number):
    return tf.nest.map_structure(lambda leaf: np.asarray(leaf)[number], x)


def check_gradient(model, x, context):
    """Raises ValueError where arrays are so large that the loss or its gradient does not fit the dtype.

    A step would make every weight NaN. The gradient is that of the mean log-density of the largest rows, and nothing is
    computed where all numbers that reach a trained part are of ordinary size.
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
    """The largest number in every row, as it reaches the first part that is trained."""
    if isinstance(getattr(distribution, "bijector", None), tfb.Bijector):
        for part, reached, own_context, _ in walk(distribution.bijector, x, context):
            if not isinstance(part, ContextBijector):
                x, context = reached, own_context
                if part.trainable_variables:
                    break
    parts = [np.abs(np.asarray(part, np.float64)) for part in tf.nest.flatten((x, context)) if part is not None]
    # A context without a batch dimension of its own, bound by `condition`, belongs to every row.
    count = max(len(part) for part in parts)
    parts = [part.reshape(len(part), -1).max(1) for part in parts if len(part) == count]
    return np.max(parts, 0)
