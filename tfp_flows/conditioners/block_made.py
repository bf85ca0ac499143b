"""MADE over blocks of coordinates: what it says of a block sees the blocks before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfp_flows._arguments import check_positive_integers
from tfp_flows._types import Activation, Array
from tfp_flows.conditioners.made import MADE


@keras.saving.register_keras_serializable("tfp_flows")
class BlockMADE(MADE):
    """A `MADE` of one output a coordinate, in which the coordinates of a block share one place in the order.

    The outputs of block k see the coordinates of blocks < k and the context, not those of their own block. With
    one-hot vectors as blocks, the outputs are the logits of categories, each given those before it.

    Shapes: x and output `[..., D]`, D the sum of the block sizes, context `[..., context_size]`.

    Arguments:
      block_sizes: the numbers of coordinates, block by block, in their order.
      hidden_units: the widths of the hidden layers, each at least the number of blocks.
      context_size, activation, output_bias, seed, **kwargs: see `MADE`.

    Raises: ValueError for sizes that are not positive integers, or a hidden layer too narrow.

    Source: Germain et al. 2015, arXiv 1502.03509, with one degree per block.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> network = tff.conditioners.BlockMADE([2, 3], seed=0)
    >>> network(tf.ones([7, 5])).shape
    TensorShape([7, 5])
    """

    def __init__(
        self,
        block_sizes: Sequence[int],
        hidden_units: Sequence[int] = (64, 64),
        context_size: int = 0,
        activation: Activation = "relu",
        output_bias: Array | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive_integers(**{f"block_sizes[{k}]": size for k, size in enumerate(block_sizes)})
        self.block_sizes = tuple(int(size) for size in block_sizes)
        super().__init__(
            sum(self.block_sizes),
            params=1,
            hidden_units=hidden_units,
            context_size=context_size,
            activation=activation,
            output_bias=output_bias,
            seed=seed,
            **kwargs,
        )
        self.positions = np.repeat(np.arange(self.num_positions), self.block_sizes).astype(np.float32)

    @property
    def num_positions(self) -> int:
        """The number of blocks."""
        return len(self.block_sizes)

    def get_config(self) -> dict[str, Any]:
        names = ("hidden_units", "context_size", "activation", "output_bias", "seed", "name", "dtype", "trainable")
        config = super().get_config()
        return {"block_sizes": self.block_sizes, **{name: config[name] for name in names}}
