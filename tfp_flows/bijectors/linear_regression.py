"""A normal whose mean is linear in the context, which starts from least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows._math.constraints import FLOOR, inverse_positive
from tfp_flows._types import Array
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.linear import TriangularAffine

# Of more rows `adapt` takes some, evenly spaced: the time of a decomposition grows with their number.
_MOST_ROWS = 20_000


class LinearRegression(Bijector):
    """A shift that is linear in the context, and a lower triangular matrix: over a standard normal, linear regression.

    Forward: x = L z + A c + b, log|det ∂x/∂z| = Σ log L_ii. Inverse: z = L⁻¹ (x - A c - b), by a triangular solve.
    The diagonal of L is positive and above 0.001. Both directions are cheap. At initialization it is the identity.

    `adapt(x, context)` sets A and b by ridge regression, with the penalty of the least leave-one-out error, and L Lᵀ
    to the covariance of the leave-one-out residuals. Next to the base of a flow it makes the other layers start from
    the best linear prediction, so that few data do not have to be spent on learning it.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, A `[context_size, event_size]`,
    log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      context_size: C, the length of a context vector, at least 1. Contexts should be standardized: see
        `StandardizedContext`.
      dtype, validate_args, name: see `Bijector`.

    Raises: ValueError without a context.

    Source: Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, equations 3.47 and 7.64.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> regression = tff.bijectors.LinearRegression(1, context_size=1, dtype="float64")
    >>> c = np.linspace(-1, 1, 100)[:, np.newaxis]
    >>> regression.adapt(3 * c + 1, c)
    >>> regression.forward([[0.0]], context=[[2.0]]).numpy().round(3).tolist()
    [[7.0]]
    """

    def __init__(self, event_size: int, **shared: Any) -> None:
        super().__init__(event_size, **shared)
        if not self.context_size:
            raise ValueError(
                f"Expected a context; without one take `TriangularAffine`. Received: context_size={self.context_size}"
            )
        self.coefficients = tf.Variable(tf.zeros([self.context_size, self.event_size], self.dtype), name="coefficients")
        self.residual = TriangularAffine(self.event_size, dtype=self.dtype)

    def adapt(self, x: Array, context: Array) -> None:
        """Sets A, b and L from x `[n, event_size]` and contexts `[n, context_size]`.

        Raises: ValueError if they are non-finite or hold fewer than two rows.
        """
        x, context = np.asarray(x, np.float64), np.asarray(context, np.float64)
        if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(context).all()):
            raise ValueError(
                f"`{self.name}` expected at least two rows of finite data to adapt to. Received: {len(x)} rows with "
                f"{np.count_nonzero(~np.isfinite(x))} non-finite values, in contexts "
                f"{np.count_nonzero(~np.isfinite(context))}"
            )
        step = -(-len(x) // _MOST_ROWS)
        x, context = x[::step], context[::step]
        coefficients, shift, residuals = _ridge(context, x)
        covariance = residuals.T @ residuals / len(x)
        # Pulled towards its diagonal, which makes it regular where there are fewer rows than coordinates.
        weight = self.event_size / (self.event_size + len(x))
        covariance += weight * (np.diag(np.diag(covariance)) - covariance) + FLOOR**2 * np.eye(self.event_size)
        factor = np.linalg.cholesky(covariance)
        np.fill_diagonal(factor, inverse_positive(np.diag(factor)))
        self.coefficients.assign(coefficients)
        self.residual._start_from(shift=shift, scale=tfp.math.fill_triangular_inverse(factor).numpy())

    @property
    def is_adapted(self) -> bool:
        """Whether A, b or L differ from their initial values."""
        return bool(np.any(self.coefficients.numpy())) or self.residual.is_adapted

    def _forward_and_log_det(self, z, context):
        x, log_det = self.residual._forward_and_log_det(z, None)
        x += self._mean(context)
        return x, tf.broadcast_to(log_det, tf.shape(x)[:-1])

    def _inverse_and_log_det(self, x, context):
        return self.residual._inverse_and_log_det(x - self._mean(context), None)

    def _mean(self, context):
        return tf.tensordot(tf.cast(context, self.dtype), self.coefficients, 1)


def _ridge(c, x):
    """Ridge regression of x `[n, D]` on c `[n, C]`: A, b and the residuals, each row's without that row.

    The fit H x has the leave-one-out residuals (x - H x)_i / (1 - H_ii), and H = U diag(s² / (s² + λ)) Uᵀ + 1/n from
    the singular values of the centred contexts.
    """
    center, mean = c.mean(0), x.mean(0)
    u, s, v = _singular_vectors(c - center)
    u_x, best = u.T @ (x - mean), (np.inf,)
    unit = np.sum(s**2) / max(len(s), 1)  # of standardized contexts the number of rows
    for penalty in unit * np.logspace(-6, 3, 19):
        shrinkage = s**2 / (s**2 + penalty)
        leverage = u**2 @ shrinkage + 1 / len(x)
        residuals = (x - mean - u @ (shrinkage[:, np.newaxis] * u_x)) / (1 - leverage)[:, np.newaxis]
        error = np.sum(residuals**2)
        if error < best[0]:
            best = error, penalty, residuals
    _, penalty, residuals = best
    coefficients = v @ ((s / (s**2 + penalty))[:, np.newaxis] * u_x)
    return coefficients, mean - center @ coefficients, residuals


def _singular_vectors(c):
    """U, s and V of c = U diag(s) Vᵀ, by the smaller of c cᵀ and cᵀ c: a third of the time of a decomposition of c.

    Squares lose half of the digits of small s; those without a digit left have no direction, and are left out.
    """
    is_wide = c.shape[0] < c.shape[1]
    squares, vectors = np.linalg.eigh(c @ c.T if is_wide else c.T @ c)
    known = squares > 1e-12 * squares[-1]
    s, vectors = np.sqrt(squares[known]), vectors[:, known]
    return (vectors, s, c.T @ vectors / s) if is_wide else (c @ vectors / s, s, vectors)
