"""Space traded for channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_image_shape, check_positive_integers
from tfp_flows._types import DType
from tfp_flows.bijectors.bijector import Bijector


class Squeeze(Bijector):
    """Blocks of k x k pixels made the channels of one: an image becomes smaller and deeper on the way to the base.

    Inverse: z[i, j, (a k + b) C + c] = x[k i + a, k j + b, c]; forward undoes it. Log-determinants 0. Both directions
    are cheap.

    Shapes: x `[..., H, W, C]`, z `[..., H / k, W / k, k² C]`, log-determinants `[...]`.

    Arguments:
      image_shape: `[H, W, C]`.
      block_size: k, which divides H and W.
      dtype, validate_args, name: see `Bijector`.

    Raises: ValueError for sides that k does not divide.

    Source: Dinh et al. 2017, arXiv 1605.08803, section 3.6 and figure 3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> squeeze = tff.bijectors.Squeeze([2, 2, 1])
    >>> squeeze.inverse(tf.constant([[[1.0], [2.0]], [[3.0], [4.0]]])).numpy().tolist()
    [[[1.0, 2.0, 3.0, 4.0]]]
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        block_size: int = 2,
        *,
        dtype: DType = tf.float32,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        check_positive_integers(block_size=block_size)
        height, width, channels = check_image_shape(image_shape)
        if height % block_size or width % block_size:
            raise ValueError(
                f"Expected an image whose sides are multiples of block_size={block_size}. "
                f"Received: image_shape={[height, width, channels]}"
            )
        self._blocks = np.array([height // block_size, block_size, width // block_size, block_size, channels])
        base_shape = [height // block_size, width // block_size, block_size**2 * channels]
        super().__init__([height, width, channels], base_shape, dtype=dtype, validate_args=validate_args, name=name)

    def _forward_and_log_det(self, z, context):
        rows, k, columns, _, channels = self._blocks
        blocks = tf.reshape(z, [-1, rows, columns, k, k, channels])
        return self._swapped(blocks, z, self.event_shape)

    def _inverse_and_log_det(self, x, context):
        return self._swapped(tf.reshape(x, [-1, *self._blocks]), x, self.base_shape)

    def _swapped(self, blocks, event, shape):
        """Columns before or after rows of a block, as an image of the shape; its log-determinant."""
        batch = tf.shape(event)[:-3]
        image = tf.reshape(tf.transpose(blocks, [0, 1, 3, 2, 4, 5]), tf.concat([batch, shape], 0))
        return image, tf.zeros(batch, event.dtype)
