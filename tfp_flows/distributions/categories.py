"""Several categories at once: the probability of each given those before it, exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import stateless_seed
from tfp_flows._types import Activation, Array, DType
from tfp_flows.conditioners.block_made import BlockMADE
from tfp_flows.context.joining import call_conditioner
from tfp_flows.distributions.distribution import Distribution
from tfp_flows.tracking import weights_of


class Categories(Distribution):
    """K categorical variables of any sizes: P(x|c) = Π_k P(x_k|x_<k, c), each a softmax of the logits of a `BlockMADE`.

    Probabilities are exact and sum to one. All logits come from one pass of the network; draws take K passes.

    Shapes: x `[..., K]` of integers from 0, context `[..., context_size]`, which goes by keyword, `log_prob` `[...]`,
    in nats. Values that are no category have the log-probability -inf.

    Arguments:
      sizes: the number of categories of each variable.
      context_size: C, the length of a context vector; 0 for none.
      frequencies: a list per variable of the frequencies to start from; None for equal ones.
      hidden_units, activation, seed: of the network, see `BlockMADE`.
      dtype: of the network and of log-probabilities.
      name: the distribution's name.

    Source: Bengio & Bengio 2000, NIPS 12: the network of logits; Germain et al. 2015, arXiv 1502.03509: its masks.

    Example: a new one is uniform.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> categories = tff.distributions.Categories([2, 4], seed=0)
    >>> categories.prob(tf.constant([[0, 3], [1, 0]])).numpy().tolist()
    [0.125, 0.125]
    """

    has_its_context = True

    def __init__(
        self,
        sizes: Sequence[int],
        context_size: int = 0,
        frequencies: Sequence[Array] | None = None,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        seed: int | None = None,
        dtype: DType = tf.float32,
        name: str = "categories",
    ) -> None:
        parameters = dict(locals())
        self.sizes = [int(size) for size in sizes]
        bias = None
        if frequencies is not None:
            # What was never seen is not impossible.
            parts = [np.maximum(part / np.sum(part), 1e-5) for part in map(np.asarray, frequencies)]
            bias = np.log(np.concatenate(parts)).tolist()
        self.network = BlockMADE(
            self.sizes, hidden_units, context_size, activation, bias, seed, dtype=tf.as_dtype(dtype).name
        )
        parameters["seed"] = self.network.seed
        self._weights = weights_of(self.network)
        self.precision = tf.as_dtype(dtype)
        super().__init__([len(self.sizes)], dtype=tf.int32, parameters=parameters, name=name)

    def one_hot(self, x: Array) -> tf.Tensor:
        """x `[..., K]` as one-hot vectors side by side, `[..., sum of sizes]`."""
        columns = tf.unstack(x, axis=-1)
        return tf.concat(
            [tf.one_hot(column, size, dtype=self.precision) for column, size in zip(columns, self.sizes, strict=True)],
            -1,
        )

    def _log_prob(self, x, context=None):
        one_hot = self.one_hot(x)
        logits = tf.split(call_conditioner(self.network, one_hot, context), self.sizes, -1)
        chosen = tf.split(one_hot, self.sizes, -1)
        log_probs = [
            tf.reduce_sum(choice * tf.nn.log_softmax(logit, -1), -1)
            for logit, choice in zip(logits, chosen, strict=True)
        ]
        is_category = tf.reduce_all((x >= 0) & (x < self.sizes), -1)
        total = tf.add_n(log_probs)
        return tf.where(is_category, total, tf.constant(-math.inf, total.dtype))

    def _sample_n(self, n, seed=None, context=None):
        contexts = tf.constant([], tf.int32) if context is None else tf.shape(context)[:-1]
        batch = tf.concat([[n], contexts], 0)
        seeds = tf.random.split(stateless_seed(seed), len(self.sizes))
        blocks = [tf.zeros(tf.concat([batch, [size]], 0), self.precision) for size in self.sizes]
        drawn = []
        for k, size in enumerate(self.sizes):
            logits = tf.split(call_conditioner(self.network, tf.concat(blocks, -1), context), self.sizes, -1)[k]
            rows = tf.reshape(logits, [-1, size])
            index = tf.random.stateless_categorical(rows, 1, seeds[k], dtype=tf.int32)
            drawn.append(tf.reshape(index, batch))
            blocks[k] = tf.one_hot(drawn[k], size, dtype=self.precision)
        return tf.stack(drawn, -1)

    def _call_sample_n(self, sample_shape, seed, **kwargs):
        # In place of TFP's, which would reshape to a batch shape that knows no context's.
        shape = tf.cast(tf.reshape(sample_shape, [-1]), tf.int32)
        flat = self._sample_n(tf.reduce_prod(shape), seed, **kwargs)
        return tf.reshape(flat, tf.concat([shape, tf.shape(flat)[1:]], 0))
