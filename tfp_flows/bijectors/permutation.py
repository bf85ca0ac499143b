"""A fixed order of the coordinates."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows._types import Array, DType
from tfp_flows.bijectors.bijector import Bijector


class Permutation(Bijector):
    """Puts the coordinates into another order, which is fixed.

    Forward: x_i = z_p(i). Inverse: z_p(i) = x_i. Both log-determinants are 0, and both directions are cheap.

    Shapes: z and x `[..., event_size]`, log-determinants `[...]`.

    Arguments:
      event_size: D, the number of coordinates.
      permutation: p, each of 0 ... D - 1 once; drawn from the seed if None.
      dtype, seed, validate_args, name: see `Bijector`.

    Raises: ValueError if p is no permutation of 0 ... D - 1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.Permutation(3, [2, 0, 1]).forward(tf.constant([0.0, 1.0, 2.0])).numpy().tolist()
    [2.0, 0.0, 1.0]
    """

    _arrays = (("permutation", "permutation"), ("permutation", "_back"))

    def __init__(
        self,
        event_size: int,
        permutation: Array | None = None,
        *,
        dtype: DType = tf.float32,
        seed: int | None = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(event_size, dtype=dtype, seed=seed, validate_args=validate_args, name=name)
        if permutation is None:
            permutation = np.random.default_rng(self.seed).permutation(self.event_size)
        permutation = np.asarray(permutation)
        if not np.array_equal(np.sort(permutation, axis=None), np.arange(self.event_size)):
            raise ValueError(
                f"Expected `permutation` to hold each of 0 ... {self.event_size - 1} once. "
                f"Received: permutation={permutation.tolist()}"
            )
        self._remember(permutation=permutation.tolist())
        self.permutation = permutation.astype(np.int32)
        self._back = np.argsort(permutation).astype(np.int32)

    def _forward_and_log_det(self, z, context):
        return permute(z, self.permutation, self._back), tf.zeros_like(z[..., 0])

    def _inverse_and_log_det(self, x, context):
        return permute(x, self._back, self.permutation), tf.zeros_like(x[..., 0])


def permute(event, order, back):
    """The coordinates in another order; `back` brings them, and the derivatives, into the old one."""

    @tf.custom_gradient
    def ordered(event):
        # A gather, where TensorFlow's own gradient is a scatter: no two coordinates meet.
        return tf.gather(event, order, axis=-1), lambda bar: permute(bar, back, order)

    return ordered(event)
