"""Showers of photons in a calorimeter of three layers: what each of 36 cells measures of an incident energy."""

import numbers

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import random_generator

# Energies in GeV, depths in radiation lengths, distances across the shower in Molière radii.
ENERGIES = (1.0, 100.0)
CRITICAL_ENERGY = 0.01
DEPTHS = np.array([0.0, 5.0, 15.0, 25.0])
CELLS = (4, 4, 2)  # along each side of a layer
SIDE = 2.0
RADII = (0.15, 0.3, 0.5)  # of the shower, in the layers
THRESHOLD = 1e-3


class Calorimeter:
    """Energies e of 36 cells given a photon's energy E: layers of 4 x 4, 4 x 4 and 2 x 2 cells, one behind the other.

    With depths t in radiation lengths, a shower that starts at t₀, exponential of mean 9/7, has the longitudinal
    profile

      dE/dt = E β (β (t - t₀))^(α-1) exp(-β (t - t₀)) / Γ(α), α = 1 + β T, β = 0.5 exp(0.15 ε₁),
      T = (log(E / 10 MeV) + 0.5) exp(0.1 ε₂), which has its maximum at t₀ + T,

    with ε₁, ε₂ ~ N(0, 1). The layers end at 5, 15 and 25; what comes later is lost. About the photon's way, at a place
    distributed as N(0, 0.25² I) in Molière radii, a layer's energy has the density R² / π / (r² + R²)² with R = 0.15,
    0.3 and 0.5; a layer is a square of side 2. Sampling fluctuates: a cell with the energy m measures one of a Gamma
    distribution with the mean m and the standard deviation 10 % √(m · GeV), and nothing if that is below 1 MeV. E is
    log-uniform from 1 to 100 GeV.

    As numbers for a flow, with E_l the energies of the layers, and cells without energy filled up, see `filled`:

      u = (log(ΣE_l / E), logit(E₁ / ΣE_l), logit(E₂ / (E₂ + E₃))), v = log(e_k / e_m),

    where e_m is the first of a layer's cells next to the middle, and k runs over the layer's others. So the energies of
    a layer's cells sum to E_l, whatever v.

    Shapes: E `[n, 1]`, e `[n, 36]`, u `[n, 3]`, v `[n, 33]`; energies in GeV. `layers` holds the slices of the layers.

    Arguments:
      sampling: the relative fluctuation at 1 GeV, 0.1.

    Raises: ValueError unless `sampling` is a positive number.

    Source: the profiles: Grindhammer and Peters 1993, arXiv hep-ex/0001020; the setting: Krause and Shih 2021, arXiv
    2106.05285.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> calorimeter = tff.datasets.Calorimeter()
    >>> energy, cells = calorimeter.sample(100, seed=0)
    >>> u, v = calorimeter.encode(energy, calorimeter.filled(cells, seed=1))
    >>> energy.shape, cells.shape, u.shape, v.shape
    ((100, 1), (100, 36), (100, 3), (100, 33))
    >>> bool(np.allclose(calorimeter.decode(energy, u, v), cells, rtol=1e-4))
    True
    """

    layers = (slice(0, 16), slice(16, 32), slice(32, 36))

    def __init__(self, sampling: float = 0.1) -> None:
        if not isinstance(sampling, numbers.Real) or not 0 < sampling < np.inf:
            raise ValueError(f"Expected `sampling` to be a positive number. Received: sampling={sampling!r}")
        self.sampling = sampling

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Incident energies and cells from a generator: a function for `tff.datasets.simulator`."""
        energy = np.exp(rng.uniform(*np.log(ENERGIES), size=[batch_size, 1]))
        return energy, self.observe(energy, rng)

    def sample(self, n: int, seed: int | None = None) -> tuple[np.ndarray, ...]:
        """n pairs (E, e), float32, from an integer seed."""
        return tuple(part.astype(np.float32) for part in self.draw(random_generator(seed), n))

    def observe(self, energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cells for incident energies `[n, 1]`."""
        shape = np.shape(energy)
        start = rng.exponential(9 / 7, shape)
        beta = 0.5 * np.exp(0.15 * rng.normal(size=shape))
        maximum = (np.log(energy / CRITICAL_ENERGY) + 0.5) * np.exp(0.1 * rng.normal(size=shape))
        place = 0.25 * rng.normal(size=[2, len(start), 1])
        longitudinal = energy * self.profile(start, beta, maximum)
        lateral = [self.spread(place, cells, radius) for cells, radius in zip(CELLS, RADII, strict=True)]
        mean = np.concatenate([longitudinal[:, [k]] * part for k, part in enumerate(lateral)], 1)
        # A shape of 0 is refused, and one of 1e-9 has no energy above the threshold.
        measured = rng.gamma(np.maximum(mean / self.sampling**2, 1e-9)) * self.sampling**2
        return np.where(measured < THRESHOLD, 0.0, measured)

    @staticmethod
    def profile(start: np.ndarray, beta: np.ndarray, maximum: np.ndarray) -> np.ndarray:
        """The parts of the energy that the layers get: t₀, β and T `[n, 1]`, result `[n, 3]`."""
        below = tf.math.igamma(1 + beta * maximum, beta * np.maximum(DEPTHS - start, 0.0)).numpy()
        return np.diff(below, axis=1)

    @staticmethod
    def spread(place: np.ndarray, cells: int, radius: np.ndarray | float) -> np.ndarray:
        """The parts of a layer's energy that its cells get: places (x, y) `[2, n, 1]`, result `[n, cells²]`.

        R² / π / (x² + y² + R²)² is ∂²F/∂x∂y of F = (f(x, y) + f(y, x)) / 2π, f(x, y) = x / s · arctan(y / s),
        s² = x² + R².
        """
        x, y = np.linspace(-SIDE / 2, SIDE / 2, cells + 1) - place
        x, y = x[:, :, np.newaxis], y[:, np.newaxis, :]
        s, t = np.sqrt(x**2 + radius**2), np.sqrt(y**2 + radius**2)
        corners = (x / s * np.arctan(y / s) + y / t * np.arctan(x / t)) / (2 * np.pi)
        return np.diff(np.diff(corners, axis=1), axis=2).reshape(len(x), -1)

    # As numbers for a flow

    def filled(self, cells: np.ndarray, seed: int | None = None) -> np.ndarray:
        """Cells in which those without energy have one, uniform from 0.1 to 1 MeV: below the threshold, so `decode`
        takes it away again, and not so far that its logarithm has a tail."""
        noise = random_generator(seed).uniform(0.1 * THRESHOLD, THRESHOLD, np.shape(cells))
        return np.where(cells > 0, cells, noise).astype(np.asarray(cells).dtype)

    def layer_energies(self, cells: np.ndarray) -> np.ndarray:
        """E_l, `[n, 3]`."""
        return np.stack([cells[:, layer].sum(1) for layer in self.layers], 1)

    def encode(self, energy: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u and v of incident energies and filled cells."""
        first, second, third = self.layer_energies(cells).T
        u = [np.log((first + second + third) / energy[:, 0]), np.log(first / (second + third)), np.log(second / third)]
        v = []
        for layer in self.layers:
            log_cells = np.log(cells[:, layer])
            v.append(np.delete(log_cells, middle(layer), axis=1) - log_cells[:, middle(layer), np.newaxis])
        return np.stack(u, 1), np.concatenate(v, 1)

    def decode(self, energy: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Cells of incident energies, u and v: the inverse of `encode`, with 0 below the threshold."""
        total = energy[:, 0] * np.exp(u[:, 0])
        first, second = (1 / (1 + np.exp(-u[:, k])) for k in (1, 2))
        energies = total * first, total * (1 - first) * second, total * (1 - first) * (1 - second)
        cells = []
        for k, (layer, of_layer) in enumerate(zip(self.layers, energies, strict=True)):
            # The numbers of a layer are one fewer than its cells.
            log_cells = np.insert(v[:, layer.start - k : layer.stop - k - 1], middle(layer), 0.0, axis=1)
            parts = np.exp(log_cells - log_cells.max(1, keepdims=True))
            cells.append(of_layer[:, np.newaxis] * parts / parts.sum(1, keepdims=True))
        cells = np.concatenate(cells, 1)
        return np.where(cells < THRESHOLD, 0.0, cells).astype(cells.dtype)


def middle(layer):
    """The number of the first of a layer's cells next to its middle."""
    return 5 if layer.stop - layer.start == 16 else 0
