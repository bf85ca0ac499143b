"""A linear map of the channels, the same at every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_image_shape
from tfp_flows._math.constraints import inverse_positive
from tfp_flows._types import DType
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.linear import LULinear


class InvertibleConvolution(Bijector):
    """Glow's 1x1 convolution: every pixel's channels times one matrix W = P L U.

    Inverse: z_ij = W x_ij, log|det ∂z/∂x| = H W Σ log U_cc. Forward: x_ij = W⁻¹ z_ij, with the opposite sign.
    P is a fixed permutation, L lower triangular with ones on its diagonal, U upper triangular with a diagonal that is
    positive and above 0.001. Both directions cost one product with a `[C, C]` matrix a pixel; W⁻¹ comes from two
    triangular solves. At initialization W is a random rotation.

    Shapes: z and x `[..., H, W, C]`, log-determinants `[...]`, in nats.

    Arguments:
      image_shape: `[H, W, C]`.
      dtype, seed, validate_args, name: see `Bijector`.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> convolution = tff.bijectors.InvertibleConvolution([4, 4, 3])
    >>> convolution.inverse_log_det_jacobian(tf.ones([4, 4, 3])).numpy().round(3).item() + 0.0
    0.0
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        dtype: DType = tf.float32,
        seed: int | None = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        shape = check_image_shape(image_shape)
        super().__init__(shape, dtype=dtype, seed=seed, validate_args=validate_args, name=name)
        permutation, lower_upper = _rotation_as_plu(shape[-1], self.seed)
        self.linear = LULinear(shape[-1], permute=permutation, dtype=self.dtype, seed=self.seed)
        self.linear.lower_upper.assign(lower_upper)

    def _forward_and_log_det(self, z, context):
        return self._convolve(z, *self.linear._inverse_and_log_det(self._units(), None))

    def _inverse_and_log_det(self, x, context):
        return self._convolve(x, *self.linear._forward_and_log_det(self._units(), None))

    def _units(self):
        """The unit vectors: what the linear map makes of them are the columns of its matrix."""
        return tf.eye(self.event_shape[-1], dtype=self.dtype)

    def _convolve(self, event, columns, log_dets):
        pixels = self.event_shape[0] * self.event_shape[1]
        return tf.tensordot(event, columns, 1), tf.broadcast_to(pixels * log_dets[0], tf.shape(event)[:-3])


def _rotation_as_plu(size, seed):
    """A random orthogonal matrix in the form P L U with a positive diagonal of U, as `LULinear` has it.

    P L U is found by elimination with the largest pivots. A negative pivot becomes positive with the sign of its
    column of the orthogonal matrix, which stays orthogonal.
    """
    upper = np.linalg.qr(np.random.default_rng(seed).normal(size=[size, size]))[0]
    lower, rows = np.zeros([size, size]), np.arange(size)
    for k in range(size):
        pivot = k + np.argmax(np.abs(upper[k:, k]))
        for array in (upper, lower, rows):
            array[[k, pivot]] = array[[pivot, k]]
        lower[k + 1 :, k] = upper[k + 1 :, k] / upper[k, k]
        upper[k + 1 :] -= np.outer(lower[k + 1 :, k], upper[k])
    diagonal = np.diag(upper)
    upper = np.triu(upper, 1) * np.sign(diagonal)
    return np.argsort(rows), lower + upper + np.diag(inverse_positive(np.abs(diagonal)))
