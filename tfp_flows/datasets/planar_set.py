"""What a two-dimensional shape must define, and what follows from it: points, exact density, exact entropy."""

from __future__ import annotations

import abc
import functools
import math
import numbers
from collections.abc import Sequence

import numpy as np

from tfp_flows._arguments import check_positive_integers, random_generator
from tfp_flows._types import Array

LOG_2PI = math.log(2 * math.pi)
# Numbers held at once by `log_prob`: few enough for a processor's cache, and a bound on the memory for any n.
_CHUNK = 2**18
# The entropy costs about 1 / noise³: for the longest curve a few seconds at 0.05, most of a minute here.
_SMALLEST_ENTROPY_NOISE = 0.02


class PlanarSet(abc.ABC):
    """A distribution in the plane: called, it draws points; its `log_prob` and its `entropy` are exact.

    Every density is a mixture, p(x) = Σ_j exp(l_j(x)), of terms that are known in closed form. A subclass has a `name`
    and a default `noise`, and defines how to draw, what the terms are, and where and how fine the shape is.
    """

    name: str
    noise: float

    def __call__(
        self, n: int, noise: float | None = None, seed: int | Sequence[int] | np.random.Generator | None = None
    ) -> np.ndarray:
        """Draws `n` independent points.

        Arguments:
          n: the number of points, a positive integer.
          noise: the standard deviation of the noise around the shape, non-negative; None for the set's default.
          seed: the same seed gives the same points.

        Returns:
          A float32 array `[n, 2]`.
        """
        check_positive_integers(n=n)
        noise = self._checked_noise(noise)
        return self._draw(int(n), noise, random_generator(seed)).astype(np.float32)

    def log_prob(self, x: Array, noise: float | None = None) -> np.ndarray:
        """The exact log-density, in nats, of the points that the set draws with this noise.

        Arguments:
          x: points, `[n, 2]`.
          noise: as in the call, but positive where the shape without noise is too thin to have a density.

        Returns:
          A float64 array `[n]`.
        """
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != 2 or x.dtype.kind not in "fiu":
            raise ValueError(
                f"Expected `x` to be real numbers of shape [n, 2]. Received: dtype={x.dtype}, shape={x.shape}"
            )
        noise = self._checked_noise(noise)
        self._check_density_exists(noise)
        x = x.astype(np.float64)
        num_terms, log_terms = self._log_terms(noise)
        rows = max(1, _CHUNK // num_terms)
        log_density = np.empty(len(x))
        # A density of 0 correctly has the logarithm -inf.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            for start in range(0, len(x), rows):
                part = slice(start, start + rows)
                log_density[part] = _log_sum_exp(log_terms(x[part]))
        # Nothing reaches infinity, where a term may be inf - inf; squares are infinite a little earlier.
        log_density[np.abs(x).max(axis=1, initial=0) > 1e90] = -np.inf
        return log_density

    def entropy(self, noise: float | None = None) -> float:
        """The differential entropy -∫ p log p, in nats, to 1e-6.

        It is summed over a grid fine enough for the noise, once, and cached.

        Arguments:
          noise: as in `log_prob`, and at least 0.02, so that the grid stays affordable.
        """
        noise = self._checked_noise(noise)
        self._check_density_exists(noise)
        return self._entropy(noise)

    def __repr__(self):
        return f"{self.name}(n, noise={self.noise}, seed=None)"

    @abc.abstractmethod
    def _draw(self, n, noise, random):
        """`n` points, `[n, 2]`, drawn with the numpy generator `random`."""

    @abc.abstractmethod
    def _log_terms(self, noise):
        """The number of terms J, and the function from x, `[n, 2]`, to the terms l_j(x), `[n, J]`."""

    @abc.abstractmethod
    def _box(self):
        """The lower and the upper corner of a box around the shape without noise."""

    def _narrowest(self, noise):
        """The standard deviation of the density across its narrowest place."""
        return noise

    @functools.cache  # noqa: B019 - the sets are few and live as long as the module
    def _entropy(self, noise):
        if noise < _SMALLEST_ENTROPY_NOISE:
            raise ValueError(
                f"Expected `noise` to be at least {_SMALLEST_ENTROPY_NOISE} for the entropy of {self.name}, whose cost "
                f"grows like 1 / noise³; below, take the mean of -log_prob over a sample. Received: noise={noise}"
            )
        # On a smooth density that vanishes at the edges a plain sum over a grid converges faster than any power of the
        # spacing; nine standard deviations leave 1e-18 outside.
        spacing = self._narrowest(noise) / 2
        lower, upper = self._box()
        first, second = (np.arange(lower[i] - 9 * noise, upper[i] + 9 * noise, spacing) for i in range(2))
        total = 0.0
        for part in np.array_split(first, math.ceil(len(first) * len(second) / _CHUNK)):
            points = np.stack(np.meshgrid(part, second), axis=-1).reshape(-1, 2)
            log_density = self.log_prob(points, noise)
            total -= np.sum(np.exp(log_density) * log_density)
        return float(total * spacing**2)

    def _checked_noise(self, noise):
        if noise is None:
            return self.noise
        if not isinstance(noise, numbers.Real) or isinstance(noise, bool) or not 0 <= noise < math.inf:
            raise ValueError(f"Expected `noise` to be a finite, non-negative number. Received: noise={noise!r}")
        return float(noise)

    def _check_density_exists(self, noise):
        if noise == 0:
            raise ValueError(
                f"Expected `noise` to be positive: without it {self.name} is too thin to have a density. "
                f"Received: noise={noise}"
            )


class BlurredCurves(PlanarSet):
    """K equally likely curves c_k(t), drawn at a random place t between 0 and 1, and blurred by a Gaussian.

    x = c_k(t) + noise ε with t of density q(t) = a t^(a-1), a the `power`: 1 draws t uniformly.

    p(x) = (1/K) Σ_k ∫ q(t) N(x; c_k(t), noise² I) dt, summed over the nodes of Fejér's first rule. They lie at most
    half a noise apart on the curve, and closer towards its ends, where the integrand seen from far outside is steepest:
    log p is right to 1e-9 where points are drawn, and to a millionth of itself anywhere.
    """

    power = 1

    @abc.abstractmethod
    def curves(self, t: np.ndarray) -> np.ndarray:
        """The points `[K, n, 2]` of the curves at `t`, `[n]`."""

    def _draw(self, n, noise, random):
        curves = self.curves(random.uniform(size=n) ** (1 / self.power))
        points = curves[random.integers(len(curves), size=n), np.arange(n)]
        return blurred(points, noise, random)

    def _log_terms(self, noise):
        greatest_speed = 1000 * np.linalg.norm(np.diff(self._polylines(), axis=1), axis=-1).max()
        # The middle nodes are the farthest apart: by pi / 2 of the mean spacing. The 64 are for a noise so large that
        # the curve itself, not the Gaussian, is what the sum must resolve.
        t, weights = _fejer(64 + math.ceil(math.pi / 2 * greatest_speed / (noise / 2)))
        curves = self.curves(t)
        log_weights = np.log(weights * self.power * t ** (self.power - 1) / len(curves))
        return gaussian_terms(curves.reshape(-1, 2), np.tile(log_weights, len(curves)), noise)

    def _box(self):
        polylines = self._polylines()
        return polylines.min(axis=(0, 1)), polylines.max(axis=(0, 1))

    def _polylines(self):
        return self.curves(np.linspace(0, 1, 1001))


def blurred(points, noise, random):
    """The points, each moved by an isotropic Gaussian of the standard deviation `noise`."""
    return points + noise * random.normal(size=points.shape)


def gaussian_terms(centers, log_weights, noise):
    """The number J and the function x -> log w_j + log N(x; c_j, noise² I), for centers `[J, 2]`."""
    log_constants = log_weights - LOG_2PI - 2 * math.log(noise)
    scaled = centers / noise

    def log_terms(x):
        x = x / noise
        terms = np.square(x[:, :1] - scaled[:, 0])
        terms += np.square(x[:, 1:] - scaled[:, 1])
        terms *= -0.5
        terms += log_constants
        return terms

    return len(centers), log_terms


def _log_sum_exp(terms):
    """log Σ_j exp(terms[:, j]), in place; -inf where every term is."""
    # The bound avoids -inf - (-inf), which is NaN.
    largest = np.maximum(terms.max(axis=1, keepdims=True), np.finfo(np.float64).min)
    terms -= largest
    return np.log(np.exp(terms, out=terms).sum(axis=1)) + largest[:, 0]


def _fejer(n):
    """The n nodes and weights of Fejér's first quadrature rule on [0, 1].

    The nodes are those of Chebyshev, t_k = (1 - cos((k + 1/2) π / n)) / 2. The rule is about as accurate as that of
    Gauss and Legendre, and costs a Fourier transform in place of eigenvalues.

    Source: Waldvogel 2006, BIT Numerical Mathematics 46, 195-202.
    """
    t = (1 - np.cos((np.arange(n) + 0.5) * np.pi / n)) / 2
    j = np.arange(n // 2 + 1)
    weights = np.fft.irfft(np.exp(1j * np.pi * j / n) / (1 - 4 * j**2), n)
    return t, weights
