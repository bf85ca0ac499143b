"""A conditional problem with every answer known: a linear response to parameters, and Gaussian noise."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import as_vectors, check_positive_integers, random_generator
from tfp_flows._types import Array


class LinearGaussian:
    """Parameters θ ~ N(0, I) seen through observables c = A θ + σ ε, ε ~ N(0, I), with a matrix A drawn from a seed.

    The posterior is normal: p(θ|c) = N(Σ Aᵀ c / σ², Σ), Σ = (I + AᵀA / σ²)⁻¹, the evidence p(c) = N(0, A Aᵀ + σ² I).
    Everything computed by a flow trained on draws of (c, θ) can be compared with them.

    Shapes: θ `[..., num_parameters]`, c `[..., num_observables]`, in float64 where it matters.

    Arguments:
      num_parameters, num_observables: the sizes of θ and c.
      noise: σ.
      seed: an integer that fixes A, whose entries are normal with a variance of 1 / `num_observables`.

    Raises: ValueError for sizes that are not positive integers.

    Example:

    >>> import tfp_flows as tff
    >>> problem = tff.datasets.LinearGaussian(seed=0)
    >>> context, theta = problem.sample(1000, seed=1)
    >>> context.shape, theta.shape
    ((1000, 20), (1000, 4))
    >>> problem.posterior(context).log_prob(theta).shape
    TensorShape([1000])
    """

    def __init__(self, num_parameters: int = 4, num_observables: int = 20, noise: float = 0.3, seed: int = 0) -> None:
        check_positive_integers(num_parameters=num_parameters, num_observables=num_observables)
        self.response = random_generator(seed).normal(size=[num_observables, num_parameters]) / np.sqrt(num_observables)
        self.noise = noise
        precision = np.eye(num_parameters) + self.response.T @ self.response / noise**2
        self.covariance = np.linalg.inv(precision)

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Contexts and parameters from a generator: a function for `tff.datasets.simulator`."""
        theta = rng.normal(size=[batch_size, self.response.shape[1]])
        return self.observe(theta, rng), theta

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Contexts for parameters."""
        return theta @ self.response.T + self.noise * rng.normal(size=[len(theta), len(self.response)])

    def sample(self, n: int, seed: int | None = None) -> tuple[np.ndarray, ...]:
        """n pairs (context, θ), float32, from an integer seed."""
        return tuple(part.astype(np.float32) for part in self.draw(random_generator(seed), n))

    def posterior(self, context: Array) -> tfd.MultivariateNormalTriL:
        """p(θ|c), a `tfd.MultivariateNormalTriL` of float64."""
        mean = np.asarray(context, np.float64) @ self.response @ self.covariance / self.noise**2
        return tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(self.covariance))

    def joint_log_prob(self, theta: Array, context: Array) -> tf.Tensor:
        """log p(c|θ) + log p(θ), in nats: the unnormalized posterior."""
        theta = as_vectors(theta, self.response.shape[1], tf.float64, "theta")
        context = as_vectors(context, self.response.shape[0], tf.float64, "context")
        expected = tf.linalg.matvec(self.response, theta)
        likelihood = tfd.MultivariateNormalDiag(expected, np.full(len(self.response), self.noise))
        prior = tfd.MultivariateNormalDiag(np.zeros(self.response.shape[1]))
        return likelihood.log_prob(context) + prior.log_prob(theta)

    def log_evidence(self, context: Array) -> np.ndarray:
        """log p(c), in nats, `[...]`."""
        covariance = self.response @ self.response.T + self.noise**2 * np.eye(len(self.response))
        normal = tfd.MultivariateNormalTriL(np.zeros(len(self.response)), np.linalg.cholesky(covariance))
        return normal.log_prob(np.asarray(context, np.float64)).numpy()
