"""Where the first non-finite value comes from."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._types import Array, Context
from tfp_flows.context import ContextBijector, context_arguments, walk
from tfp_flows.model import FlowModel
from tfp_flows.model.inputs import DataSpec


@dataclasses.dataclass(frozen=True)
class Finding:
    """The first place, from the data to the base and back along the gradient, where something is non-finite.

    Attributes:
      place: a bijector, by its number from the data's end, name and class; or the data, the context, the base.
      what: its values, its log-determinant, the gradient of a weight, or the gradient it passes towards the data.
      rows: the indices of the rows for which it happens, `[m]`.
    """

    place: str
    what: str
    rows: np.ndarray

    def __str__(self):
        return f"{self.what} of {self.place}"


def diagnose(flow: FlowModel | tfd.Distribution, x: Array, context: Context | None = None) -> Finding | None:
    """Finds the first bijector with non-finite values, log-determinants or gradients of log p(x).

    It follows x through the bijectors, from the data to the base, and then the gradient of the mean log-density on its
    way back. For a distribution without a bijector, or of a structure of tensors, it only checks that log p(x) is
    finite.

    Arguments:
      flow: a `FlowModel` or a `tfd.Distribution`.
      x: events `[n, D]`.
      context: `[n, C]`, for a conditional flow.

    Returns: a `Finding`, or None if all is finite.

    Example: an event so far out that its square overflows float32.

    >>> import tfp_flows as tff
    >>> print(tff.callbacks.diagnose(tff.flows.realnvp(2, num_layers=2, seed=0), [[0.0, 1.0], [1e30, 0.0]]))
    log-density of the base `base`
    """
    distribution = flow.distribution if isinstance(flow, FlowModel) else flow
    x = DataSpec(distribution, None).event(x)
    context = None if context is None else tf.nest.map_structure(tf.convert_to_tensor, context)
    for place, data in (("the data", x), ("the context", context)):
        rows = _rows_not_finite(data)
        if rows.size:
            return Finding(place, "values", rows)
    if not (hasattr(distribution, "bijector") and isinstance(distribution.event_shape, tf.TensorShape)):
        rows = _rows_not_finite(distribution.log_prob(x, **context_arguments(distribution, context)))
        return Finding(f"`{distribution.name}`", "log-density", rows) if rows.size else None
    path = _Path(distribution, x, context)
    return path.first_value() or path.first_gradient()


class _Path:
    """The path of x from the data to the base: what each part computes, and the gradients on the way back.

    Attributes:
      parts: the bijectors in the order in which data meets them, and
      inputs: the values that come into each.
      made: (maker, what, value) for all that is made, in order.
      gradients: of the mean log-density, to the input and to the weights of each part.
    """

    def __init__(self, distribution, x, context):
        self.distribution, self.x, self.context = distribution, x, context
        self.parts, self.inputs, self.made, log_dets = [], [], [], []
        base = distribution.distribution
        with tf.GradientTape() as tape:
            x = tf.nest.map_structure(tf.identity, x)
            tape.watch(x)
            for part, reached, own_context, inverted in self._walk(x, context):
                if isinstance(part, ContextBijector):
                    continue
                if own_context is not context:  # it comes from an embedding
                    self.made.append((None, "values", own_context))
                self.parts.append(part)
                self.inputs.append(reached)
                arguments = context_arguments(part, own_context)
                to_base, log_det = part.inverse, part.inverse_log_det_jacobian
                if inverted:
                    to_base, log_det = part.forward, part.forward_log_det_jacobian
                # The value first, as in `log_prob`: it leaves the log-determinant in TFP's cache.
                self.made.append((part, "values", to_base(reached, **arguments)))
                log_dets.append(log_det(reached, reached.shape.rank - 1, **arguments))
                self.made.append((part, "log-determinant", log_dets[-1]))
            base_arguments = context_arguments(distribution, context).get("distribution_kwargs", {})
            self.made.append((base, "log-density", base.log_prob(self.z, **base_arguments)))
            loss = -tf.reduce_mean(self.made[-1][-1] + sum(log_dets))
        weights = [part.trainable_variables for part in self.parts]
        self.gradients = tape.gradient(loss, list(zip(self.inputs, weights, strict=True)))

    def _walk(self, x, context):
        self.z = yield from walk(self.distribution.bijector, x, context)

    def first_value(self):
        for maker, what, value in self.made:
            rows = _rows_not_finite(value, self._count)
            if rows.size:
                return Finding(self._place(maker), what, rows)
        return None

    def first_gradient(self):
        for part, (to_input, to_weights) in reversed(list(zip(self.parts, self.gradients, strict=True))):
            for weight, gradient in zip(part.trainable_variables, to_weights, strict=True):
                if not _is_finite(gradient):
                    return Finding(self._place(part), f"gradient of the weight `{weight.name}`", self._guilty(part))
            rows = _rows_not_finite(to_input)
            if rows.size:
                return Finding(self._place(part), "gradient, with respect to the input,", rows)
        return None

    def _guilty(self, part):
        """The rows for which a part's gradient is non-finite, each tried alone."""
        number = self.parts.index(part)
        found = []
        for row in range(self._count):
            x, context = tf.nest.map_structure(
                lambda leaf, row=row: None if leaf is None else leaf[row : row + 1], (self.x, self.context)
            )
            gradients = _Path(self.distribution, x, context).gradients[number]
            if not all(map(_is_finite, tf.nest.flatten(gradients))):
                found.append(row)
        return np.array(found, int)

    @property
    def _count(self):
        return len(tf.nest.flatten(self.x)[0])

    def _place(self, maker):
        if maker is self.distribution.distribution:
            return f"the base `{maker.name}`"
        if maker is None:
            return "the embedding"
        number = self.parts.index(maker) + 1
        return f"bijector {number} of {len(self.parts)} from the data, `{maker.name}` ({type(maker).__name__})"


def _rows_not_finite(data, count=None):
    """The indices of the rows with a non-finite value; all `count` rows if one value holds for all of them."""
    found = np.array([], int)
    for leaf in tf.nest.flatten(data):
        if leaf is None or not tf.as_dtype(leaf.dtype).is_floating:
            continue
        finite = np.isfinite(np.asarray(leaf))
        if finite.ndim == 0:
            finite = np.full(count or 1, finite)
        found = np.union1d(found, np.flatnonzero(~finite.reshape(len(finite), -1).all(1)))
    return found


def _is_finite(gradient):
    """Whether the sum of squares is finite: clipping and most optimizers compute squares."""
    return gradient is None or bool(tf.math.is_finite(tf.linalg.global_norm([gradient])))
