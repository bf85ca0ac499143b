"""The normal distribution of the presets' base."""

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import random as tfp_random

from tfp_flows._math import random


class Normal(tfd.Normal):
    """TFP's normal distribution, whose draws are as fast under XLA as elsewhere.

    x = loc + scale ε with ε from a standard normal. TFP's own draws take 30 times as long under XLA on a CPU, longer
    than the layers of a small flow.

    Arguments: those of `tfd.Normal`.

    Example:

    >>> import tfp_flows as tff
    >>> tff.distributions.Normal(0.0, 1.0).sample(3, seed=0).shape
    TensorShape([3])
    """

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self.batch_shape_tensor()], 0)
        seed = tfp_random.sanitize_seed(seed)
        return self.loc + self.scale * random.normal(shape, seed, dtype=self.dtype)
