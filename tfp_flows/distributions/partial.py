"""Numbers of which some may be absent: the density of those that are there, exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_context_size, check_positive_integers, draw_seed, stateless_seed
from tfp_flows._types import Activation, Array, DType, Seed
from tfp_flows.conditioners.made import MADE
from tfp_flows.context.joining import call_conditioner
from tfp_flows.distributions.distribution import Distribution
from tfp_flows.tracking import weights_of

# Scales of components stay between exp(-7) and exp(7): numbers are expected on a unit scale.
_LOG_SCALE_BOUND = 7.0


class Partial(Distribution):
    """D numbers of which some may be absent: log p(x|m, c) = Σ_j m_j log p(x_j|m_<j x_<j, m, c), exact.

    m_j is 1 where x_j is there and 0 where it is not. Each factor is a mixture of K logistic distributions whose
    weights, centres and scales come from a `MADE` that sees 0 in place of what is absent, and m as a part of its
    context. A factor that is left out leaves a density of the others that is normalized; that of a flow in which some
    number takes the place of an absent one is not.

    Densities cost one pass of the network, draws D passes.

    Shapes: x and m `[..., D]`, context `[..., C]`, `log_prob` `[...]`, in nats. `present=m` and `context=c` go by
    keyword; what stands in x where a number is absent does not matter, as long as it is finite.

    Arguments:
      event_size: D.
      context_size: C; 0 for none.
      num_components: K.
      hidden_units, activation, seed, dtype: of the network, see `MADE`; hidden layers narrower than D are refused.
      name: the distribution's name.

    Source: Bengio & Bengio 2000, NIPS 12: the factors; Uria et al. 2013, arXiv 1306.0186: their mixtures.

    Example: where all is absent, the density is 1 of nothing.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> numbers = tff.distributions.Partial(2, seed=0)
    >>> numbers.log_prob(tf.zeros([2]), present=tf.zeros([2])).numpy().item()
    0.0
    """

    has_its_context = True

    def __init__(
        self,
        event_size: int,
        context_size: int = 0,
        num_components: int = 8,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        seed: int | None = None,
        dtype: DType = tf.float32,
        name: str = "partial",
    ) -> None:
        parameters = dict(locals())
        check_positive_integers(event_size=event_size, num_components=num_components)
        check_context_size(context_size)
        parameters["seed"] = seed = draw_seed(seed)
        self.event_size, self.num_components = int(event_size), int(num_components)
        # Equal weights, and centres over the middle of a standard normal, each as wide as the gap to the next.
        centres = np.linspace(-1.5, 1.5, num_components) if num_components > 1 else np.zeros(1)
        initial = np.stack([np.zeros_like(centres), centres, np.full_like(centres, math.log(0.4))])
        self.network = MADE(
            self.event_size,
            params=3 * self.num_components,
            hidden_units=hidden_units,
            context_size=self.event_size + int(context_size),
            activation=activation,
            output_bias=np.repeat(initial.ravel(), self.event_size),
            seed=seed,
            dtype=tf.as_dtype(dtype).name,
        )
        self._weights = weights_of(self.network)
        super().__init__([self.event_size], dtype=dtype, parameters=parameters, name=name)

    def _factors(self, x, present, context):
        """p(x_j|...) for every j, as a distribution of the batch shape `[..., D]`."""
        known = present if context is None else tf.concat([present, context], -1)
        parameters = call_conditioner(self.network, x * present, known)
        shape = tf.concat([tf.shape(parameters)[:-1], [3, self.num_components, self.event_size]], 0)
        logits, centres, log_scales = tf.unstack(tf.reshape(parameters, shape), axis=-3)
        scales = tf.exp(_LOG_SCALE_BOUND * tf.tanh(log_scales / _LOG_SCALE_BOUND))
        logits, centres, scales = (tf.linalg.matrix_transpose(part) for part in (logits, centres, scales))
        return tfd.MixtureSameFamily(tfd.Categorical(logits), tfd.Logistic(centres, scales))

    def _log_prob(self, x, present, context=None):
        present = tf.cast(present, self.dtype)
        x = x * present
        return tf.reduce_sum(present * self._factors(x, present, context).log_prob(x), -1)

    def draw(self, present: Array, context: Array | None = None, seed: Seed | None = None) -> tf.Tensor:
        """x for m `[..., D]`, and a context of the same batch shape; 0 where m is."""
        present = tf.cast(present, self.dtype)
        x = tf.zeros_like(present)
        for j, seed_j in enumerate(tf.unstack(tf.random.split(stateless_seed(seed), self.event_size))):
            drawn = self._factors(x, present, context).sample(seed=seed_j)
            x += tf.one_hot(j, self.event_size, dtype=self.dtype) * present * drawn
        return x
