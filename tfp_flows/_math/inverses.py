"""The inverse and the determinant of I + J with ‖J‖ < 1: one loop that XLA compiles, with all its derivatives."""

import tensorflow as tf


def inverse_and_log_det(matrix):
    """M⁻¹ and log det M of matrices `[..., D, D]` with zᵀ M z > 0 for every z ≠ 0, as I + J has with ‖J‖ < 1.

    TensorFlow's own determinants do not compile under XLA, and its inverse takes long to.
    """
    return _differentiable(matrix, *_eliminate(tf.stop_gradient(matrix)))


def _eliminate(matrix):
    """Gauss and Jordan's elimination in place; the matrices above have positive pivots in any order."""
    size = matrix.shape[-1]

    def step(k, a, log_det):
        unit = tf.one_hot(k, size, dtype=a.dtype)
        row, column = tf.gather(a, k, axis=-2), tf.gather(a, k, axis=-1)
        pivot = tf.gather(row, k, axis=-1)
        row = (row * (1 - unit) + unit) / pivot[..., tf.newaxis]
        column = column * (1 - unit) - unit
        rest = a * (1 - unit) * (1 - unit)[:, tf.newaxis]
        return k + 1, rest - column[..., tf.newaxis] * row[..., tf.newaxis, :], log_det + tf.math.log(pivot)

    start = (tf.constant(0), matrix, tf.zeros_like(matrix[..., 0, 0]))
    return tf.while_loop(lambda k, *_: k < size, step, start, maximum_iterations=size)[1:]


@tf.custom_gradient
def _differentiable(matrix, inverse, log_det):
    """The inverse and log-determinant, already known, as functions of the matrix: d log det M = tr(M⁻¹ dM)."""

    def gradient(d_inverse, d_log_det):
        transposed = tf.linalg.matrix_transpose(_differentiable(matrix, inverse, log_det)[0])
        d_matrix = d_log_det[..., tf.newaxis, tf.newaxis] * transposed - transposed @ d_inverse @ transposed
        return d_matrix, None, None

    return (tf.identity(inverse), tf.identity(log_det)), gradient
