"""The inverse and the determinant of I + J with ‖J‖ < 1: one loop that XLA compiles, with all its derivatives."""

import tensorflow as tf


@tf.custom_gradient
def inverse_and_log_det(matrix):
    """M⁻¹ and log det M of matrices `[..., D, D]` with zᵀ M z > 0 for every z ≠ 0, as I + J has with ‖J‖ < 1.

    Gauss and Jordan's elimination in place. Such a matrix needs no pivoting: every pivot is positive.
    (TensorFlow's determinants do not compile under XLA, and its inverse takes long to.)
    """
    size = matrix.shape[-1]

    def eliminate(k, a, log_det):
        unit = tf.one_hot(k, size, dtype=a.dtype)
        row, column = tf.gather(a, k, axis=-2), tf.gather(a, k, axis=-1)
        pivot = tf.gather(row, k, axis=-1)[..., tf.newaxis]
        row = (row * (1 - unit) + unit) / pivot
        column = column * (1 - unit) - unit
        rest = a * (1 - unit) * (1 - unit)[:, tf.newaxis]
        a = rest - column[..., tf.newaxis] * row[..., tf.newaxis, :]
        return k + 1, a, log_det + tf.math.log(pivot[..., 0])

    start = (tf.constant(0), matrix, tf.zeros_like(matrix[..., 0, 0]))
    _, inverse, log_det = tf.while_loop(lambda k, *_: k < size, eliminate, start, maximum_iterations=size)

    def gradient(d_inverse, d_log_det):
        transposed = tf.linalg.matrix_transpose(inverse_and_log_det(matrix)[0])
        return d_log_det[..., tf.newaxis, tf.newaxis] * transposed - transposed @ d_inverse @ transposed

    return (inverse, log_det), gradient
