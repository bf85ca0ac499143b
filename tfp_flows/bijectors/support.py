"""Euclidean space mapped onto the support of a prior, such that a uniform prior becomes a standard normal."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.bijector import Bijector

# Where a bijector of TFP's is at its limits: further out than any support, and with room for its arithmetic.
_FAR = 1e20


class Support(Bijector):
    """Euclidean space onto the support of a prior: nothing that comes out of it lies outside.

    Forward: x = b(v) with b the prior's `experimental_default_event_space_bijector()`. For coordinates bounded on both
    sides, where b is a sigmoid, v = log Φ(z) - log Φ(-z), so that x = low + (high - low) Φ(z); for the others v = z.
    Inverse: z = Φ⁻¹(σ(v)) or v, v = b⁻¹(x). log|det ∂x/∂z| = log|det ∂b/∂v| + Σ (log φ(z) - log Φ(z) - log Φ(-z)).
    Both directions are cheap. Outside the support the log-determinant of the inverse is -∞, and so is a log-density.

    A density that is finite at an edge of its support has, seen from Euclidean space, the tail of φ; through a sigmoid
    it would have the tail of a logistic distribution, which no flow over a normal base has that ends in linear tails.

    Shapes: z `[..., d]`, x `[..., D]`, log-determinants `[...]`, in nats; d is D but for supports such as a simplex.

    Arguments:
      prior: a `tfd.Distribution` whose events are one vector; `tfd.Blockwise` makes one of several distributions, or
        of a `tfd.JointDistribution`.
      validate_args, name: see `Bijector`.

    Raises: TypeError for a prior that is no distribution, or of integers; ValueError for one whose events are no
      vector, or with a batch shape, and where TFP knows no bijector onto its support.

    Source: the bijectors: Kucukelbir et al. 2017, arXiv 1603.00788, section 2.3, which has the sigmoid as well.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> from tensorflow_probability import distributions as tfd
    >>> support = tff.bijectors.Support(tfd.Independent(tfd.Uniform([0.0, -10.0], [1.0, 10.0]), 1))
    >>> support.forward([[0.0, 0.0], [-1e9, 1e9]]).numpy().round(3).tolist()
    [[0.5, 0.0], [0.0, 10.0]]
    >>> support.inverse_log_det_jacobian([[2.0, 0.0]]).numpy().tolist()
    [-inf]
    """

    def __init__(self, prior: tfd.Distribution, *, validate_args: bool = False, name: str | None = None) -> None:
        _check_prior(prior)
        # The parts of a TFP object may stand under keys that no SavedModel can write; nothing in a prior is trained.
        self._prior = self._no_dependency(prior)
        self._bijector = self._no_dependency(_default_bijector(prior))
        # The bijector of a `Blockwise` is that of its parts, which stand side by side in the vector.
        self._shapes = self._no_dependency(_shapes_of_parts(prior))
        self._base_shapes = self._no_dependency(self._bijector.inverse_event_shape(self._shapes))
        size, base_size = _size(self._shapes), _size(self._base_shapes)
        super().__init__(size, base_shape=base_size, dtype=prior.dtype, validate_args=validate_args, name=name)
        # Φ(±limit) is as near to 0 and 1 as the dtype can tell from 1.
        self._limit = 5.0 if self.dtype == tf.float32 else 8.0
        ends = [self._through(tf.fill([base_size], tf.constant(sign * _FAR, self.dtype))) for sign in (-1, 1)]
        ends = [np.abs(end) < 0.1 * _FAR for end in ends]
        if size != base_size:
            self._bounded = self._half_bounded = np.zeros(base_size, bool)
        else:
            self._bounded, self._half_bounded = ends[0] & ends[1], ends[0] ^ ends[1]

    def _forward_and_log_det(self, z, context):
        v, log_det = self._to_default(z)
        return self._through(v), log_det + self._default_log_det(v)

    def _inverse_and_log_det(self, x, context):
        # TFP's inverse is infinite at an edge and NaN outside. There it gets a point inside: no gradient is NaN then.
        v = tf.stop_gradient(self._back(x))
        ordinary = tf.reduce_all(tf.math.is_finite(v), -1, keepdims=True)
        outside = tf.reduce_any(tf.math.is_nan(v), -1)
        inner = self._back(tf.where(ordinary, x, self._through(tf.zeros_like(v))))
        at_edge = tf.where(tf.math.is_nan(v), tf.zeros_like(v), v)
        z = self._from_default(tf.where(ordinary, inner, tf.clip_by_value(at_edge, -_FAR, _FAR)))
        v, log_det = self._to_default(z)
        log_det = -log_det - self._default_log_det(v)
        return z, tf.where(outside, tf.constant(-math.inf, z.dtype), log_det)

    def _to_default(self, z):
        """v and log|det ∂v/∂z|."""
        near, normal = tf.clip_by_value(z, -self._limit, self._limit), _standard_normal(z.dtype)
        log_below, log_above = normal.log_cdf(near), normal.log_survival_function(near)
        log_slope = normal.log_prob(near) - log_below - log_above
        v = tf.where(self._bounded, log_below - log_above, z)
        # exp(±80) fits float32.
        v = tf.where(self._half_bounded, tf.clip_by_value(v, -80, 80), v)
        return v, tf.reduce_sum(tf.where(self._bounded, log_slope, tf.zeros_like(z)), -1)

    def _from_default(self, v):
        """z of v. By symmetry the smaller of the two tails, which loses no digits."""
        near = tf.where(self._bounded, tf.clip_by_value(v, -80, 80), tf.zeros_like(v))
        below = near < 0
        tail = tf.math.ndtri(tf.sigmoid(tf.where(below, near, -near)))
        bounded = tf.clip_by_value(tf.where(below, tail, -tail), -self._limit, self._limit)
        v = tf.where(self._half_bounded, tf.clip_by_value(v, -80, 80), v)
        return tf.where(self._bounded, bounded, v)

    # TFP's bijector, with vectors for the structure of its parts.

    def _through(self, v):
        return _join(self._bijector.forward(_split(v, self._base_shapes)), self._shapes)

    def _back(self, x):
        return _join(self._bijector.inverse(_split(x, self._shapes)), self._base_shapes)

    def _default_log_det(self, v):
        ranks = tf.nest.map_structure(lambda shape: shape.rank, self._base_shapes)
        return self._bijector.forward_log_det_jacobian(_split(v, self._base_shapes), event_ndims=ranks)


def _check_prior(prior):
    if not isinstance(prior, tfd.Distribution):
        raise TypeError(f"Expected a `tfd.Distribution`. Received: {prior!r}")
    if tf.nest.is_nested(prior.dtype):
        raise ValueError(
            f"Expected a prior whose events are one vector, as `tfd.Blockwise` makes it. Received: {prior}"
        )
    if not prior.dtype.is_floating:
        raise TypeError(f"Expected a prior of floating-point numbers. Received: {prior}")
    if prior.event_shape.rank != 1 or prior.batch_shape.rank != 0:
        raise ValueError(
            "Expected a prior whose events are one vector, without a batch shape; of a batch of numbers "
            f"`tfd.Independent(prior, 1)` makes one. Received: {prior}"
        )


def _default_bijector(prior):
    try:
        bijector = prior.experimental_default_event_space_bijector()
    except (AttributeError, NotImplementedError):  # of a mixture, for one
        bijector = None
    if bijector is None:
        raise ValueError(f"Expected a prior to whose support TFP knows a bijector. Received: {prior}")
    return bijector


def _standard_normal(dtype):
    return tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype))


def _shapes_of_parts(prior):
    """The event shape of a prior or, for a `tfd.Blockwise`, the structure of its parts' event shapes."""
    if not isinstance(prior, tfd.Blockwise):
        return prior.event_shape
    parts = prior.parameters["distributions"]
    return parts.event_shape if isinstance(parts, tfd.Distribution) else [part.event_shape for part in parts]


def _is_shape(value):
    return isinstance(value, tf.TensorShape)


def _size(shapes):
    return sum(shape.num_elements() for shape in _flat(shapes))


def _flat(shapes):
    return [shapes] if _is_shape(shapes) else tf.nest.flatten(shapes)


def _split(vector, shapes):
    """The parts `[..., *shape]` of vectors `[..., D]`."""
    if _is_shape(shapes) and shapes.rank == 1:
        return vector
    blocks = tf.split(vector, [shape.num_elements() for shape in _flat(shapes)], -1)
    batch = tf.shape(vector)[:-1]
    parts = [
        tf.reshape(block, tf.concat([batch, shape], 0)) for block, shape in zip(blocks, _flat(shapes), strict=True)
    ]
    return parts[0] if _is_shape(shapes) else tf.nest.pack_sequence_as(shapes, parts)


def _join(parts, shapes):
    """Vectors `[..., D]` of parts `[..., *shape]`."""
    if _is_shape(shapes) and shapes.rank == 1:
        return parts
    blocks = []
    for part, shape in zip(tf.nest.flatten(parts), _flat(shapes), strict=True):
        batch = tf.shape(part)[: part.shape.rank - shape.rank]
        blocks.append(tf.reshape(part, tf.concat([batch, [shape.num_elements()]], 0)))
    return tf.concat(blocks, -1)
