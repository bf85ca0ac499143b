"""Sylvester flows: planar flows with several hidden units."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows._arguments import check_positive_integers
from tfp_flows._math.constraints import above_minus_one, positive
from tfp_flows._math.matrices import with_diagonal
from tfp_flows.bijectors.hidden_unit import hidden_unit
from tfp_flows.bijectors.linear import reflect, unit_vectors
from tfp_flows.bijectors.parametric import ParametricBijector


class Sylvester(ParametricBijector):
    """A Sylvester flow, orthogonal variant, invertible in both directions.

    Forward: x = z + Q R h(R~ Qᵀ z + b), log|det ∂x/∂z| = Σ log(1 + h'_m R_mm R~_mm).
    Inverse: with v = Qᵀ z and a = R~ v + b, as Q has orthonormal columns, v + R h(a) = Qᵀ x. As R and R~ are upper
      triangular the last of these M equations has one unknown, the one before it one more, and so on up: each is the
      scalar equation of a planar flow, a_m + R_mm R~_mm h(a_m) = known, and increases with a_m. Then z = x - Q R h(a).
    Forward costs two matrix products; the inverse also M scalar roots, for any D.

    Q `[D, M]` is made of the first M columns of a product of M reflections. R_mm R~_mm > -0.999 and R~_mm > 0.001 keep
    the inverse bounded (a negative R~_mm would only flip the sign of a unit). At initialization R = 0 and R~ = 1, so it
    is the identity.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      num_units: M, between 1 and D; None for D, but at most 8.
      activation: h, as in `Planar`: "tanh", "softplus" or "leaky_relu".
      context_size: the length of a context vector, of which Q, R, R~ and b are then a network's output; 0 for none.
      hidden_units: the widths of that network, whose own activation is "relu".
      dtype, seed, validate_args, name: see `Bijector`.

    Raises: ValueError for another activation or number of units.

    Source: van den Berg et al. 2018, arXiv 1803.05649, equations 10 to 14; that the system can be solved from its last
    equation up is not in the paper, which has no inverse.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> sylvester = tff.bijectors.Sylvester(3, num_units=2)
    >>> sylvester.inverse(tf.constant([1.0, 2.0, 3.0])).numpy().tolist()
    [1.0, 2.0, 3.0]
    """

    def __init__(self, event_size: int, num_units: int | None = None, activation: str = "tanh", **shared: Any) -> None:
        super().__init__(event_size, **shared)
        self.num_units = min(self.event_size, 8) if num_units is None else num_units
        check_positive_integers(num_units=self.num_units)
        if self.num_units > self.event_size:
            raise ValueError(
                f"Expected `num_units` to be at most {self.event_size}, the event size. "
                f"Received: num_units={self.num_units}"
            )
        self.activation = activation
        self._hidden_unit = hidden_unit(activation)
        packed = np.zeros(self.num_units * (self.num_units + 1) // 2)
        self._make_parameters(
            vectors=np.random.default_rng(self.seed).normal(size=[self.num_units, self.event_size]),
            outer=packed,
            inner=packed,
            b=np.zeros(self.num_units),
        )

    def _forward_and_log_det(self, z, context):
        columns, outer, inner, b, product = self._matrices(context)
        h, slope = self._hidden_unit(_times(inner, _times(columns, z)) + b)
        return z + _transposed_times(columns, _times(outer, h)), _log_det(slope, product)

    def _inverse_and_log_det(self, x, context):
        columns, outer, inner, b, product = self._matrices(context)
        # From the last unit up: the rests of Qᵀ x and of a when what is known of R h(a) and R~ v is taken out.
        rest, known = _times(columns, x), b
        activations = []
        for m in reversed(range(self.num_units)):
            a = self._hidden_unit.root(product[..., m], inner[..., m, m] * rest[..., m] + known[..., m])
            h, _ = self._hidden_unit(a)
            v = rest[..., m] - outer[..., m, m] * h
            rest = rest - outer[..., m] * h[..., tf.newaxis]
            known = known + inner[..., m] * v[..., tf.newaxis]
            activations.insert(0, a)
        h, slope = self._hidden_unit(tf.stack(activations, -1))
        return x - _transposed_times(columns, _times(outer, h)), -_log_det(slope, product)

    def _matrices(self, context):
        """The columns of Q as rows `[..., M, D]`, R and R~ `[..., M, M]`, b and the products R_mm R~_mm `[..., M]`."""
        vectors, outer, inner, b = self._parameters_for(context)
        columns = tf.eye(self.num_units, self.event_size, dtype=self.dtype)
        columns = reflect(columns, [v[..., tf.newaxis, :] for v in unit_vectors(vectors)])
        outer, inner = tfp.math.fill_triangular(outer, upper=True), tfp.math.fill_triangular(inner, upper=True)
        product = above_minus_one(tf.linalg.diag_part(outer))
        inner_diagonal = positive(tf.linalg.diag_part(inner))
        inner = with_diagonal(inner, inner_diagonal)
        outer = with_diagonal(outer, product / inner_diagonal)
        return columns, outer, inner, b, product


def _times(matrix, x):
    return tf.einsum("...ij,...j->...i", matrix, x)


def _transposed_times(matrix, x):
    return tf.einsum("...ij,...i->...j", matrix, x)


def _log_det(slope, product):
    return tf.reduce_sum(tf.math.log1p(slope * product), -1)
