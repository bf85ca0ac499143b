"""Linear maps with cheap determinants and inverses: LU-factored, triangular, and products of reflections."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows._arguments import check_positive_integers
from tfp_flows._math.constraints import positive
from tfp_flows._math.matrices import with_diagonal
from tfp_flows._types import Array
from tfp_flows.bijectors.parametric import ParametricBijector
from tfp_flows.bijectors.permutation import permute


class LULinear(ParametricBijector):
    """A trainable matrix in the form P L U.

    Forward: x = P L U z, log|det ∂x/∂z| = Σ log U_ii. Inverse: z = U⁻¹ L⁻¹ Pᵀ x, by two triangular solves.
    P is a fixed permutation, L lower triangular with ones on its diagonal, U upper triangular with a diagonal that is
    positive and above 0.001. Both directions cost about one matrix product. At initialization it is P.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      permute: whether P is a permutation drawn from the seed, rather than the identity; or the permutation itself:
        coordinate `permute[i]` of L U z becomes coordinate i of x.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MLP`. With a context
        L and U are the network's output.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, equation 10.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.LULinear(3).inverse(tf.constant([1.0, 2.0, 3.0])).numpy().tolist()
    [1.0, 2.0, 3.0]
    """

    _arrays = (("permute", "permutation"), ("permute", "_back"))

    def __init__(self, event_size: int, permute: bool | Array = False, **shared: Any) -> None:
        super().__init__(event_size, **shared)
        size = self.event_size
        if isinstance(permute, (bool, np.bool_)):
            permute = np.random.default_rng(self.seed).permutation(size) if permute else np.arange(size)
        self.permutation = np.asarray(permute)
        if not np.array_equal(np.sort(self.permutation, axis=None), np.arange(size)):
            raise ValueError(
                f"Expected `permute` to be a boolean or a permutation of 0 ... {size - 1}. "
                f"Received: permute={permute!r}"
            )
        self._back = np.argsort(self.permutation)
        self._remember(permute=self.permutation.tolist())
        # L below the diagonal, U above it and, through `positive`, on it.
        self._make_parameters(lower_upper=np.zeros([size, size]))

    @property
    def is_constant_jacobian(self) -> bool:
        # Affine: TFP then knows the mean, the covariance and the entropy of a flow of such layers.
        return not self.context_size

    def _forward_and_log_det(self, z, context):
        lower, upper, log_det = self._factors(context)
        x = permute(_product(lower, _product(upper, z)), self.permutation, self._back)
        return x, tf.broadcast_to(log_det, tf.shape(x)[:-1])

    def _inverse_and_log_det(self, x, context):
        lower, upper, log_det = self._factors(context)
        z = permute(x, self._back, self.permutation)
        z = _solve(upper, _solve(lower, z, lower=True), lower=False)
        return z, tf.broadcast_to(-log_det, tf.shape(z)[:-1])

    def _factors(self, context):
        """L, U and log det U."""
        (lower_upper,) = self._parameters_for(context)
        diagonal = positive(tf.linalg.diag_part(lower_upper))
        lower = with_diagonal(tf.linalg.band_part(lower_upper, -1, 0), tf.ones_like(diagonal))
        upper = with_diagonal(tf.linalg.band_part(lower_upper, 0, -1), diagonal)
        return lower, upper, tf.reduce_sum(tf.math.log(diagonal), -1)


class TriangularAffine(ParametricBijector):
    """A lower triangular matrix and a shift: over a standard normal, the normal of any mean and covariance L Lᵀ.

    Forward: x = L z + b, log|det ∂x/∂z| = Σ log L_ii. Inverse: z = L⁻¹ (x - b), by a triangular solve.
    The diagonal is positive and above 0.001. Both directions are cheap. It is the baseline for every other flow;
    with a context, a regression with a full covariance.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments: event_size, context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and
      `MLP`. With a context L and b are the network's output.

    Source: Kobyzev et al. 2021, arXiv 1908.09257, section 3.1.2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.TriangularAffine(3).forward_log_det_jacobian(tf.ones([2, 3])).numpy().tolist()
    [0.0, 0.0]
    """

    def __init__(self, event_size: int, **shared: Any) -> None:
        super().__init__(event_size, **shared)
        size = self.event_size
        # L as `tfp.math.fill_triangular` packs it, its diagonal through `positive`.
        self._make_parameters(shift=np.zeros(size), scale=np.zeros(size * (size + 1) // 2))

    @property
    def is_constant_jacobian(self) -> bool:
        # Affine: TFP then knows the mean, the covariance and the entropy of a flow of such layers.
        return not self.context_size

    def _forward_and_log_det(self, z, context):
        shift, scale, log_det = self._shift_and_scale(context)
        x = _product(scale, z) + shift
        return x, tf.broadcast_to(log_det, tf.shape(x)[:-1])

    def _inverse_and_log_det(self, x, context):
        shift, scale, log_det = self._shift_and_scale(context)
        z = _solve(scale, x - shift, lower=True)
        return z, tf.broadcast_to(-log_det, tf.shape(z)[:-1])

    def _shift_and_scale(self, context):
        """b, L and log det L."""
        shift, scale = self._parameters_for(context)
        scale = tfp.math.fill_triangular(scale)
        diagonal = positive(tf.linalg.diag_part(scale))
        return shift, with_diagonal(scale, diagonal), tf.reduce_sum(tf.math.log(diagonal), -1)


class Householder(ParametricBijector):
    """A trainable rotation: a product of K reflections.

    Forward: x = H_K ... H_1 z with H_k = I - 2 v_k v_kᵀ / |v_k|². Inverse: z = H_1 ... H_K x. Log-determinants 0.
    Both directions are cheap: one matrix product or, with a context, K reflections per event.
    At initialization every v is random but comes twice in a row, so that the product of an even number of reflections
    is the identity; for odd K one reflection is left.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      num_reflections: K; None for the first even number from D on, which reaches every rotation.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MLP`. With a context
        the v are the network's output.

    Raises: ValueError if `num_reflections` is not a positive integer.

    Source: Tomczak & Welling 2016, arXiv 1611.09630, equation 9.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> reflection = tff.bijectors.Householder(2, num_reflections=1)
    >>> reflection.vectors.assign([[1.0, 1.0]]).numpy().tolist()
    [[1.0, 1.0]]
    >>> reflection.forward(tf.constant([1.0, 2.0])).numpy().round(3).tolist()
    [-2.0, -1.0]
    """

    def __init__(self, event_size: int, num_reflections: int | None = None, **shared: Any) -> None:
        super().__init__(event_size, **shared)
        self.num_reflections = 2 * ((self.event_size + 1) // 2) if num_reflections is None else num_reflections
        check_positive_integers(num_reflections=self.num_reflections)
        directions = np.random.default_rng(self.seed).normal(size=[(self.num_reflections + 1) // 2, self.event_size])
        vectors = np.repeat(directions, 2, 0)[: self.num_reflections]
        self._make_parameters(vectors=vectors)

    @property
    def is_constant_jacobian(self) -> bool:
        # Affine: TFP then knows the mean, the covariance and the entropy of a flow of such layers.
        return not self.context_size

    def _forward_and_log_det(self, z, context):
        (vectors,) = self._parameters_for(context)
        return rotate(z, unit_vectors(vectors)), tf.zeros(tf.shape(z)[:-1], z.dtype)

    def _inverse_and_log_det(self, x, context):
        (vectors,) = self._parameters_for(context)
        return rotate(x, unit_vectors(vectors)[::-1]), tf.zeros(tf.shape(x)[:-1], x.dtype)


def unit_vectors(vectors):
    """The K vectors of `[..., K, D]` as a list, each of length 1. One of length 0, which has no direction, becomes e_1.

    Each vector is first divided by its largest entry, so that its sum of squares neither overflows nor vanishes.
    """
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(vectors), -1, keepdims=True))
    has_direction = largest > 1e-12
    first = tf.one_hot(0, vectors.shape[-1], dtype=vectors.dtype)
    scaled = tf.where(has_direction, vectors / tf.where(has_direction, largest, 1), first)
    units = scaled / tf.sqrt(tf.reduce_sum(scaled**2, -1, keepdims=True))
    return tf.unstack(units, axis=-2)


def reflect(x, units):
    """x reflected by each unit vector in turn: H_K ... H_1 x."""
    for v in units:
        x = x - 2 * v * tf.reduce_sum(v * x, -1, keepdims=True)
    return x


def rotate(x, units):
    """`reflect`, by one product with the rotation's matrix where it is the same for every x."""
    if units[0].shape.rank > 1:
        return reflect(x, units)
    rows = reflect(tf.eye(x.shape[-1], dtype=x.dtype), units)  # row i is the image of e_i
    return tf.tensordot(x, rows, 1)


def _product(matrix, x):
    return tf.einsum("...ij,...j->...i", matrix, x)


def _solve(matrix, x, lower):
    """The solution of a triangular system for every x: in one call where the matrix is the same for all."""
    if matrix.shape.rank > 2:
        return tf.linalg.triangular_solve(matrix, x[..., tf.newaxis], lower)[..., 0]
    columns = tf.transpose(tf.reshape(x, [-1, x.shape[-1]]))
    return tf.reshape(tf.transpose(tf.linalg.triangular_solve(matrix, columns, lower)), tf.shape(x))
