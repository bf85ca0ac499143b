"""Numbers of which some may be absent: the density of those that are there, exact."""

import math

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_context_size, check_positive_integers, draw_seed, stateless_seed
from tfp_flows.conditioners.made import MADE
from tfp_flows.context.joining import call_conditioner
from tfp_flows.tracking import weights_of
from tfp_flows.transformers import LogisticMixture


class Partial(tfd.Distribution):
    """D numbers of which some may be absent: log p(x|m, c) = Σ_j m_j log p(x_j|m_<j x_<j, m, c), exact.

    m_j is 1 where x_j is there and 0 where it is not. Each factor is a normal transformed by g(·; θ_j), with θ of a
    `MADE` that sees 0 in place of what is absent, and m as a part of the context:
    log p(x_j|...) = log φ(z_j) + log(∂z_j/∂x_j), z_j = g⁻¹(x_j; θ_j). A factor that is left out leaves a density of the
    others that is normalized, which the density of a flow with a filled coordinate is not.

    Densities cost one pass of the network, draws D passes.

    Shapes: x and m `[..., D]`, context `[..., C]`, `log_prob` `[...]`, in nats. `present=m` and `context=c` go by
    keyword; of x what is absent does not matter, as long as it is finite. Draws have 0 there.

    Arguments:
      event_size: D.
      context_size: C; 0 for none.
      transformer: g; None for `tff.transformers.LogisticMixture()`.
      hidden_units, activation, seed, dtype: of the network, see `MADE`; hidden layers narrower than D are refused.
      name: the distribution's name.

    Source: Bengio & Bengio 2000, NIPS 12, the factors; Papamakarios et al. 2017, arXiv 1705.07057, their transformers.

    Example: where all is absent, nothing is left to be said.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> numbers = tff.distributions.Partial(2, seed=0)
    >>> numbers.log_prob(tf.zeros([2]), present=tf.zeros([2])).numpy().item()
    0.0
    """

    has_its_context = True

    def __init__(
        self,
        event_size,
        context_size=0,
        transformer=None,
        hidden_units=(64, 64),
        activation="relu",
        seed=None,
        dtype=tf.float32,
        name="partial",
    ):
        parameters = dict(locals())
        check_positive_integers(event_size=event_size)
        check_context_size(context_size)
        parameters["seed"] = seed = draw_seed(seed)
        self.event_size = int(event_size)
        self.transformer = LogisticMixture() if transformer is None else transformer
        self.network = MADE(
            self.event_size,
            params=self.transformer.num_parameters,
            hidden_units=hidden_units,
            context_size=self.event_size + int(context_size),
            activation=activation,
            output_bias=np.repeat(self.transformer.initial_parameters(), self.event_size),
            seed=seed,
            dtype=tf.as_dtype(dtype).name,
        )
        self._weights = weights_of(self.network)
        super().__init__(
            dtype=tf.as_dtype(dtype),
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    def _theta(self, x, present, context):
        """θ as `[..., P, D]`."""
        context = present if context is None else tf.concat([present, context], -1)
        parameters = call_conditioner(self.network, x * present, context)
        sizes = [self.transformer.num_parameters, self.event_size]
        return tf.reshape(parameters, tf.concat([tf.shape(parameters)[:-1], sizes], 0))

    def _log_prob(self, x, present, context=None):
        present = tf.cast(present, self.dtype)
        x = x * present
        z, log_slope = self.transformer.inverse(x, self._theta(x, present, context))
        return tf.reduce_sum(present * (log_slope - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)), -1)

    def draw(self, present, context=None, seed=None):
        """x for m `[..., D]`, and a context of the same batch shape."""
        present = tf.cast(present, self.dtype)
        z = tf.random.stateless_normal(tf.shape(present), stateless_seed(seed), dtype=self.dtype)
        x = tf.zeros_like(present)
        for j in range(self.event_size):
            theta = self._theta(x, present, context)[..., j : j + 1]
            x_j, _ = self.transformer.forward(z[..., j : j + 1], theta)
            x = tf.concat([x[..., :j], x_j * present[..., j : j + 1], x[..., j + 1 :]], -1)
        return x

    def _event_shape(self):
        return tf.TensorShape([self.event_size])

    def _event_shape_tensor(self):
        return tf.constant([self.event_size])

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self, **kwargs):
        return tf.constant([], tf.int32)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}
