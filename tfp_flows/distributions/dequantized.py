"""Integers modelled by a continuous distribution: what lies in a cell belongs to its integer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability.python.distributions import transformed_distribution
from tensorflow_probability.python.internal import parameter_properties

from tfp_flows._arguments import check_positive_integers, stateless_seed
from tfp_flows._math import random
from tfp_flows._types import Array, Context, DType, Seed, Walk
from tfp_flows.context import context_arguments, walk
from tfp_flows.distributions.distribution import Distribution


# TFP's class with the underscore is the one that holds bijectors with weights; of the other TensorFlow takes the parts
# for plain tensors, and finds no variables.
class NoiseGivenData(transformed_distribution._TransformedDistribution):
    """A flow q(u|x) whose context x is the data and not the context of the whole; `Dequantized` makes it.

    Arguments: those of `tfd.TransformedDistribution`.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.flows.glow([2, 2, 1], 1, 1, 8, alpha=0.0, context_shape=[2, 2, 1])
    >>> noise = tff.distributions.NoiseGivenData(flow.distribution, flow.bijector)
    >>> noise.draw(tf.zeros([5, 2, 2, 1]), seed=[0, 1])[0].shape
    TensorShape([5, 2, 2, 1])
    """

    has_its_context = True

    def draw(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """u from q(u|x) and log q(u|x): the one of the shape of x, the other of its batch shape."""
        batch = tf.shape(x)[: x.shape.rank - self.event_shape.rank]
        arguments = {"bijector_kwargs": context_arguments(self.bijector, x)}
        return self.experimental_sample_and_log_prob(batch, seed=seed, **arguments)


class Dequantized(Distribution):
    """A distribution of integers 0, ..., K - 1 made by a continuous one on [0, 1]: P(x) = ∫ p((x + u) / K) K^-D du.

    The integral over u in [0, 1]^D has no closed form. `log_prob` is a lower bound of log P(x); its negative, in bits,
    is what a lossless coder with this model needs at most, on average:

      log P(x) ≥ E_q[ log p((x + u) / K) - D log K - log q(u|x) ],

    estimated by one draw of u. q is uniform, or a flow that is trained with p by the same bound: the better it knows
    where in a cell p has its mass, the closer the bound. With `num_samples` draws it is the logarithm of the mean of
    exp(...) over them (importance weighted), whose expectation grows with the number of draws, towards log P(x).

    `log_prob` draws its noise from a fixed seed: the same x in the same batch has the same value.
    `training_log_prob` is the bound of one draw from the seed it is given, for training, where every step wants fresh
    noise.

    What p has outside of [0, 1]^D is lost: probabilities then sum to less than one. `sample` draws from p and takes the
    cell it falls into; what falls outside is taken into the outermost one.

    Shapes: x `[..., *event_shape]` of integers, `log_prob` `[...]`, in nats. Contexts are given as to p.

    Arguments:
      distribution: p, a `tfd.Distribution` on [0, 1]^D, such as `tff.flows.glow`.
      num_values: K: 256 for images of 8 bits.
      noise: None for uniform noise; or q, a conditional flow on [0, 1]^D whose context has the shape of x (it gets
        2 x / (K - 1) - 1): `tff.flows.glow(shape, num_levels=1, alpha=0.0, context_shape=shape)`, for one.
      num_samples: draws in the bound of `log_prob`.
      dtype: of samples: None for uint8 if K ≤ 256, else int32. Every integer dtype is taken as data.
      name: the distribution's name.

    Raises: TypeError for data that are no integers; ValueError for integers outside of 0, ..., K - 1 where they can be
      seen (not inside of a compiled function, where their log-probability is -inf), and for a noise of another shape.

    Source: Theis et al. 2016, arXiv 1511.01844, section 3.1; learned noise: Ho et al. 2019, arXiv 1902.00275, section
    3.1; several draws: Burda et al. 2016, arXiv 1509.00519, equation 8; for dequantization: Hoogeboom et al. 2020,
    arXiv 2001.11235.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> images = tff.distributions.Dequantized(tff.flows.glow([4, 4, 1], num_steps=1, hidden_channels=8), num_values=16)
    >>> images.sample(3, seed=0).dtype, images.log_prob(tf.zeros([3, 4, 4, 1], tf.uint8)).shape
    (tf.uint8, TensorShape([3]))
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        num_values: int = 256,
        noise: tfd.TransformedDistribution | None = None,
        num_samples: int = 1,
        dtype: DType | None = None,
        name: str = "dequantized",
    ) -> None:
        check_positive_integers(num_values=num_values, num_samples=num_samples)
        if noise is not None and not isinstance(noise, NoiseGivenData):
            noise = NoiseGivenData(noise.distribution, noise.bijector)
        if noise is not None and noise.event_shape != distribution.event_shape:
            raise ValueError(
                f"Expected noise of event shape {tuple(distribution.event_shape)}. Received: {tuple(noise.event_shape)}"
            )
        if dtype is None:
            dtype = tf.uint8 if num_values <= 256 else tf.int32
        if not tf.as_dtype(dtype).is_integer or num_values - 1 > tf.as_dtype(dtype).max:
            raise ValueError(f"Expected an integer dtype that holds {num_values - 1}. Received: dtype={dtype!r}")
        parameters = {
            "distribution": distribution,
            "num_values": num_values,
            "noise": noise,
            "num_samples": num_samples,
            "dtype": tf.as_dtype(dtype),
            "name": name,
        }
        self.distribution = distribution
        self.num_values = num_values
        self.noise = noise
        self.num_samples = num_samples
        super().__init__(distribution.event_shape, dtype=dtype, parameters=parameters, name=name)

    def training_log_prob(self, x: Array, seed: Seed, **kwargs: Any) -> tf.Tensor:
        """The bound of one draw with noise from `seed`, `[2]` integers: see the class."""
        return self._bound(x, seed, 1, **kwargs)

    def _call_log_prob(self, value, name, **kwargs):
        self._check_integers(value)  # TFP would make integers of NumPy's floats in silence
        return super()._call_log_prob(value, name, **kwargs)

    def _log_prob(self, x, num_samples=None, seed=(0, 0), **kwargs):
        return self._bound(x, seed, self.num_samples if num_samples is None else num_samples, **kwargs)

    def _bound(self, x, seed, num_samples, **kwargs):
        x, is_inside = self._as_numbers(x)
        seeds = tf.random.split(stateless_seed(seed), num_samples)
        if num_samples == 1:
            bound = self._term(x, seeds[0], **kwargs)
        else:
            # A loop, and not one batch of all draws: many then need no more memory than one.
            terms = tf.map_fn(lambda seed: self._term(x, seed, **kwargs), seeds, fn_output_signature=x.dtype)
            bound = tf.reduce_logsumexp(terms, 0) - math.log(num_samples)
        return tf.where(is_inside, bound, tf.constant(-math.inf, bound.dtype))

    def _term(self, x, seed, **kwargs):
        """log p((x + u) / K) - D log K - log q(u|x) for one draw of u."""
        if self.noise is None:
            u, log_q = random.uniform(tf.shape(x), seed, dtype=x.dtype), tf.zeros([], x.dtype)
        else:
            u, log_q = self.noise.draw(2 * x / max(self.num_values - 1, 1) - 1, seed)
        log_p = self.distribution.log_prob((x + u) / self.num_values, **kwargs)
        return log_p - self.event_shape.num_elements() * math.log(self.num_values) - log_q

    def dequantize(self, x: Array, seed: Seed | None = None) -> tf.Tensor:
        """(x + u) / K: with u uniform from the seed, or 1/2, the middle of every cell, if None."""
        x, _ = self._as_numbers(x)
        u = 0.5 if seed is None else random.uniform(tf.shape(x), stateless_seed(seed), dtype=x.dtype)
        return (x + u) / self.num_values

    def quantize(self, y: tf.Tensor) -> tf.Tensor:
        """The integers into whose cells y falls, or the nearest for a y outside of [0, 1]."""
        cells = tf.floor(tf.clip_by_value(y, 0, 1) * self.num_values)
        return tf.cast(tf.minimum(cells, self.num_values - 1), self.dtype)

    def walk(self, x: Array, context: Context | None = None, inverted: bool = False) -> Walk:
        """The way of data, dequantized by uniform noise, through the bijector of p: see `tfp_flows.context.walk`.

        Of more than 4000 rows `[n, *event_shape]` some 2000 go, evenly spaced, for what reaches a layer of a network is
        many times as large as an image.

        Raises: as `log_prob`, for all rows.
        """
        y = self.dequantize(x, seed=(0, 0))
        step = max(1, len(y) // 2000) if y.shape.rank > self.event_shape.rank else 1
        if step > 1 and context is not None:
            context = tf.nest.map_structure(lambda part: part[::step] if len(part) == len(y) else part, context)
        return walk(self.distribution.bijector, y[::step] if step > 1 else y, context, inverted)

    def sample_at_temperature(
        self, sample_shape: Array, temperature: float, seed: Seed | None = None, **kwargs: Any
    ) -> tf.Tensor:
        """Draws with the base's draws of p multiplied by the temperature: below 1, less varied and more typical.

        p is a `tfd.TransformedDistribution` over a standard normal. Source: Kingma & Dhariwal 2018, arXiv 1807.03039,
        section 6.
        """
        base, bijector = self.distribution.distribution, self.distribution.bijector
        # The contexts that p is bound to give it a batch shape that its base may lack.
        shape = tf.concat([tf.reshape(sample_shape, [-1]), self.batch_shape_tensor()], 0)
        shape = shape[: tf.size(shape) - base.batch_shape.rank]
        z = base.sample(shape, seed=seed, **kwargs.get("distribution_kwargs", {}))
        return self.quantize(bijector.forward(temperature * z, **kwargs.get("bijector_kwargs", {})))

    def _call_sample_n(self, sample_shape, seed, **kwargs):
        # In place of `_sample_n`, as in `tfd.TransformedDistribution`: a context's batch needs the shape as it came.
        return self.quantize(self.distribution.sample(sample_shape, seed=seed, **kwargs))

    def _as_numbers(self, x):
        """x as floats, those outside of 0, ..., K - 1 brought inside; and whether all of an event are inside."""
        self._check_integers(x)
        x = tf.convert_to_tensor(x)
        if tf.executing_eagerly() and tf.size(x):
            smallest, largest = np.min(x), np.max(x)
            if smallest < 0 or largest >= self.num_values:
                raise ValueError(
                    f"`{self.name}` expected integers 0, ..., {self.num_values - 1}. "
                    f"Received: values from {smallest} to {largest}"
                )
        numbers = tf.cast(x, self.distribution.dtype)
        inside = tf.clip_by_value(numbers, 0, self.num_values - 1)
        return inside, tf.reduce_all(numbers == inside, tf.range(-self.event_shape.rank, 0))

    def _check_integers(self, x):
        dtype = tf.as_dtype(x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype)
        if not dtype.is_integer:
            raise TypeError(
                f"`{self.name}` expected integers 0, ..., {self.num_values - 1}; for continuous data use the "
                f"distribution inside it. Received: dtype {dtype.name}"
            )

    def _batch_shape(self):
        return self.distribution.batch_shape

    def _batch_shape_tensor(self, **kwargs):
        return self.distribution.batch_shape_tensor()

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"distribution": parameter_properties.BatchedComponentProperties()}
