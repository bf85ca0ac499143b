"""A shower of light in a small detector: position and direction as one posterior, with a likelihood that is known."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import as_vectors, random_generator
from tfp_flows._types import Array

_POSITION_WIDTH = 0.5
_SOFTENING = 0.1  # of distances, so that a shower at a sensor has a finite brightness
_ABSORPTION = 1.0
_ANISOTROPY = 2.0
_ENERGY_SHAPE = 4.0


class Showers:
    """Showers of light in a detector of 30 sensors: θ = (position, direction), seen by the sensors' charges and times.

    A shower at r with direction n and energy E sends light mostly forwards. With d the vector from r to sensor s and
    l = √(|d|² + 0.1²):
      brightness m_s = exp(2 (n·d / l - 1) - l) / l²,
      charge q_s ~ Poisson(E m_s), time t_s ~ N(l, σ² / q_s) where q_s > 0: more light, sharper times.
    Priors: r ~ N(0, 0.5² I), n uniform on the sphere, E ~ Gamma with shape 4 and mean `energy`. E is a nuisance; the
    integral over it is closed, so that p(θ|c) is known up to its normalization:
      log p(q|θ) = a log b - (a + Q) log(b + M) + log Γ(a + Q) - log Γ(a) + Σ_s (q_s log m_s - log q_s!),
    with Q = Σ q_s, M = Σ m_s, a = 4 and b = a / `energy`.

    Shapes: θ `[..., 6]`, the position and a unit vector: the event of `tff.flows.product("e3+s2")`. Context
    `[..., 60]`: √q_s for every sensor, then t_s, 0 where q_s is 0.

    Arguments:
      energy: the mean energy, in quanta of light at unit distance.
      noise: σ, in the units of the positions; light moves by 1 in a unit of time.

    Attributes:
      sensors: their positions `[30, 3]`: five strings of six, one in the middle.

    Raises: ValueError unless `energy` and `noise` are positive.

    Example:

    >>> import tfp_flows as tff
    >>> showers = tff.datasets.Showers()
    >>> context, theta = showers.sample(100, seed=0)
    >>> context.shape, theta.shape, showers.joint_log_prob(theta, context).shape
    ((100, 60), (100, 6), TensorShape([100]))
    """

    def __init__(self, energy: float = 20.0, noise: float = 0.2) -> None:
        if not (energy > 0 and noise > 0):
            raise ValueError(f"Expected `energy` and `noise` to be positive. Received: {energy!r} and {noise!r}")
        self.energy, self.noise = energy, noise
        strings = [(0.0, 0.0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)]
        self.sensors = np.array([(x, y, z) for x, y in strings for z in np.linspace(-1, 1, 6)])

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Contexts and parameters from a generator: a function for `tff.datasets.simulator`."""
        position = _POSITION_WIDTH * rng.normal(size=[batch_size, 3])
        direction = rng.normal(size=[batch_size, 3])
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        theta = np.concatenate([position, direction], 1)
        return self.observe(theta, rng), theta

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Contexts for parameters `[n, 6]`."""
        distance, log_brightness = (part.numpy() for part in self._at_sensors(tf.constant(theta, tf.float64)))
        energy = rng.gamma(_ENERGY_SHAPE, self.energy / _ENERGY_SHAPE, size=[len(theta), 1])
        charge = rng.poisson(energy * np.exp(log_brightness))
        time = distance + self.noise * rng.normal(size=charge.shape) / np.sqrt(np.maximum(charge, 1))
        return np.concatenate([np.sqrt(charge), np.where(charge > 0, time, 0.0)], 1)

    def sample(self, n: int, seed: int | None = None) -> tuple[np.ndarray, ...]:
        """n pairs (context, θ), float32, from an integer seed."""
        return tuple(part.astype(np.float32) for part in self.draw(random_generator(seed), n))

    def joint_log_prob(self, theta: Array, context: Array) -> tf.Tensor:
        """log p(c|θ) + log p(θ), in nats, with respect to volume and area: the posterior without its normalization."""
        theta = as_vectors(theta, 6, tf.float64, "theta")
        context = as_vectors(context, 2 * len(self.sensors), tf.float64, "context")
        distance, log_brightness = self._at_sensors(theta)
        root, time = tf.split(context, 2, -1)
        charge = tf.round(root**2)
        a, b = _ENERGY_SHAPE, _ENERGY_SHAPE / self.energy
        total, brightness = tf.reduce_sum(charge, -1), tf.reduce_sum(tf.exp(log_brightness), -1)
        log_charges = (
            a * np.log(b)
            - (a + total) * tf.math.log(b + brightness)
            + tf.math.lgamma(a + total)
            - tf.math.lgamma(tf.constant(a, tf.float64))
            + tf.reduce_sum(charge * log_brightness - tf.math.lgamma(charge + 1), -1)
        )
        width = self.noise / tf.sqrt(tf.maximum(charge, 1))
        log_times = tf.reduce_sum(tf.where(charge > 0, tfd.Normal(distance, width).log_prob(time), 0.0), -1)
        prior = tfd.MultivariateNormalDiag(np.zeros(3), np.full(3, _POSITION_WIDTH)).log_prob(theta[..., :3])
        return log_charges + log_times + prior - np.log(4 * np.pi)

    def _at_sensors(self, theta):
        """l and log m at every sensor, `[..., 30]`."""
        way = self.sensors - theta[..., np.newaxis, :3]
        distance = tf.sqrt(tf.reduce_sum(way**2, -1) + _SOFTENING**2)
        forwards = tf.reduce_sum(way * theta[..., np.newaxis, 3:], -1) / distance
        return distance, _ANISOTROPY * (forwards - 1) - distance / _ABSORPTION - 2 * tf.math.log(distance)
