"""Two black holes that spiral into each other: their masses from a noisy strain, with a likelihood that is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import as_vectors, check_positive_integers, random_generator
from tfp_flows._types import Array

SOLAR_MASS = 4.925491e-6  # G M☉ / c³, in seconds
LOWEST_FREQUENCY = 30.0  # Hz; the lightest binary of the prior passes it 0.6 s before it merges
REFERENCE = (36.0, 29.0)  # solar masses, those of GW150914
# The prior's box, in m1 and m2 / m1.
LOW = np.array([30.0, 0.4])
WIDTH = np.array([30.0, 0.6])


@dataclasses.dataclass(frozen=True)
class GridPosterior:
    """A posterior of two masses, on a grid that covers all of it.

    Attributes:
      masses: (m1, m2) in solar masses, `[size, size, 2]`; m1 goes with the first axis, m2 / m1 with the second.
      log_prob: log p(m1, m2|d), in nats, `[size, size]`.
      probability: of the cells, of sum one, `[size, size]`.
      log_evidence: log p(d), in nats.
    """

    masses: np.ndarray
    log_prob: np.ndarray
    probability: np.ndarray
    log_evidence: float


class GravitationalWaves:
    """Masses (m1, m2) of a binary, in solar masses, seen through the whitened strain d of one detector.

    The wave is a post-Newtonian chirp by the stationary-phase approximation, in the frequency domain

      h̃(f) ∝ ℳ^(5/6) f^(-7/6) exp(-iΨ), Ψ = 2π f t_c - φ_c + 3 / (128 η) v⁻⁵ [1 + (3715/756 + 55/9 η) v² - 16π v³],

    v = (π M f)^(1/3), M = m1 + m2, η = m1 m2 / M², ℳ = M η^(3/5), above 30 Hz and with a smooth end at the frequency of
    the innermost stable orbit, 1 / (6^(3/2) π M). The leading term depends on ℳ alone; the others distinguish the two
    masses. The noise is Gaussian and stationary, with the design curve S(f) of Advanced LIGO; divided by √S it is
    white, so that d has independent noise of unit variance in every sample, and the likelihood is a normal one in
    `[N]`.

    Distance, direction and the time of merger t_c are fixed; the signal-to-noise ratio then depends on the masses. The
    phase φ_c is uniform, unknown, and averaged over in the likelihood: for fixed φ_c and h = h(φ_c = 0)

      log p(d|m1, m2) = -|d|²/2 - |h|²/2 + log I₀(|⟨h, d⟩|) - N/2 log 2π, with ⟨h, d⟩ the complex product.

    The prior is uniform in m1 from 30 to 60 and in q = m2 / m1 from 0.4 to 1.

    Shapes: masses `[..., 2]`, d `[..., N]`, N = `duration` × `sampling_rate`.

    Arguments:
      signal_to_noise: |h| for masses of 36 and 29.
      duration: of the strain, in seconds.
      sampling_rate: samples per second.

    Attributes:
      prior: p(m1, m2), a `tfd.Distribution` of float64.
      bijector: TFP's, from a standard normal in the plane to the prior, of float32. A flow that has it next to the data
        starts as the prior and never leaves its support.
      times, frequencies: of the samples and of their Fourier transform, in seconds and Hz.

    Raises: ValueError for numbers that are not positive, an odd N, and no frequency between 30 Hz and half the rate.

    Source: Cutler & Flanagan 1994, arXiv gr-qc/9402014, section III; the curve: Sathyaprakash & Schutz 2009, arXiv
    0903.0338, table 1.

    Example:

    >>> import tfp_flows as tff
    >>> problem = tff.datasets.GravitationalWaves()
    >>> strain, masses = problem.sample(10, seed=1)
    >>> strain.shape, masses.shape
    ((10, 256), (10, 2))
    >>> problem.joint_log_prob(masses, strain).shape
    TensorShape([10])
    """

    def __init__(self, signal_to_noise: float = 12.0, duration: float = 1.0, sampling_rate: int = 256) -> None:
        size = duration * sampling_rate
        lowest = math.ceil(LOWEST_FREQUENCY * duration)
        if not (signal_to_noise > 0 and duration > 0 and size % 2 == 0 and lowest < size // 2):
            raise ValueError(
                "Expected a positive `signal_to_noise`, and a `duration` and `sampling_rate` that give an even number "
                "of samples and frequencies between 30 Hz and half the rate. "
                f"Received: signal_to_noise={signal_to_noise!r}, duration={duration!r}, sampling_rate={sampling_rate!r}"
            )
        self.signal_to_noise = signal_to_noise
        self.size = int(size)
        self.sampling_rate = sampling_rate
        self.times = np.arange(self.size) / sampling_rate
        self.frequencies = np.fft.rfftfreq(self.size, 1 / sampling_rate)
        self.merger = 0.9 * duration
        self._band = np.arange(lowest, self.size // 2)
        self._scale = 1.0
        self._scale = signal_to_noise / np.linalg.norm(self._modes(tf.constant(REFERENCE, tf.float64)))
        to_masses = [tfb.Exp(), tfb.Cumsum(), tfb.Log()]  # from (m1, q): log m2 is the sum of log m1 and log q
        box = tfd.Independent(tfd.Uniform(LOW, LOW + WIDTH), 1)
        self.prior = tfd.TransformedDistribution(box, tfb.Chain(to_masses))
        to_box = [tfb.Shift(LOW.astype(np.float32)), tfb.Scale(WIDTH.astype(np.float32)), tfb.NormalCDF()]
        self.bijector = tfb.Chain([*to_masses, *to_box], name="prior")
        self._compiled_log_likelihood = tf.function(self.log_likelihood, jit_compile=True, autograph=False)

    # The wave and the noise

    def noise_curve(self) -> np.ndarray:
        """S(f), the one-sided power spectral density at `frequencies`, in 1 / Hz, `[N / 2 + 1]`."""
        x = np.maximum(self.frequencies, 20.0) / 215.0  # the fit ends at 20 Hz; below, the noise is as there
        return 1e-49 * (x**-4.14 - 5 * x**-2 + 111 * (1 - x**2 + x**4 / 2) / (1 + x**2 / 2))

    def waveform(self, masses: Array, phase: Array = 0.0) -> tf.Tensor:
        """The whitened wave without noise, `[..., N]`, for masses `[..., 2]` and phases φ_c `[...]`."""
        masses = _as_masses(masses)
        phase = tf.cast(phase, masses.dtype)[..., tf.newaxis]
        modes = self._modes(masses) * tf.complex(tf.cos(phase), tf.sin(phase)) * np.sqrt(self.size / 2)
        around = [[0, 0]] * (modes.shape.rank - 1) + [[self._band[0], self.size // 2 - self._band[-1]]]
        return tf.signal.irfft(tf.pad(modes, around), [self.size])

    def color(self, whitened: Array) -> np.ndarray:
        """The strain in the detector, whose noise has the curve S, of a whitened one: a NumPy array, `[..., N]`."""
        spectrum = np.fft.rfft(np.asarray(whitened, np.float64)) * np.sqrt(self.noise_curve() * self.sampling_rate / 2)
        return np.fft.irfft(spectrum, self.size)

    def whiten(self, strain: Array) -> np.ndarray:
        """The inverse of `color`: the strain in the form a flow should get."""
        spectrum = np.fft.rfft(np.asarray(strain, np.float64)) / np.sqrt(self.noise_curve() * self.sampling_rate / 2)
        return np.fft.irfft(spectrum, self.size)

    def _modes(self, masses):
        """h̃ / √S in the band, `[..., K]`, for φ_c = 0, scaled so that the sum of squares is that of the wave."""
        f = self.frequencies[self._band]
        m1, m2 = tf.split(masses * SOLAR_MASS, 2, -1)
        total = m1 + m2
        eta = m1 * m2 / total**2
        v = (np.pi * total * tf.constant(f, masses.dtype)) ** (1 / 3)
        phase = 2 * np.pi * f * self.merger + 3 / (128 * eta) * v**-5 * (
            1 + (3715 / 756 + 55 / 9 * eta) * v**2 - 16 * np.pi * v**3
        )
        # The orbit ends at v² = 1/6; an abrupt end would put steps into the likelihood.
        end = tf.sigmoid(20 * (1 - 6**1.5 * v**3))
        chirp_mass = total * eta ** (3 / 5)
        whitened = f ** (-7 / 6) / np.sqrt(self.noise_curve()[self._band])
        amplitude = self._scale * chirp_mass ** (5 / 6) * whitened * end
        return tf.complex(amplitude * tf.cos(phase), -amplitude * tf.sin(phase))

    # Simulation

    def draw(self, seed: Array, batch_size: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Strains and masses from a seed, `[2]` int32, in TensorFlow: a function for `tff.datasets.simulator`."""
        of_masses, of_strain = tf.unstack(tf.random.split(seed))
        # Next to an edge, where `bijector` goes to infinity, a float32 of m2 / m1 cannot tell the two sides apart.
        uniform = tf.clip_by_value(tf.random.stateless_uniform([batch_size, 2], of_masses), 1e-5, 1 - 1e-5)
        m1, q = tf.unstack(LOW.astype(np.float32) + WIDTH.astype(np.float32) * uniform, axis=-1)
        masses = tf.stack([m1, m1 * q], -1)
        return self.observe(masses, of_strain), masses

    def observe(self, masses: Array, seed: Array) -> tf.Tensor:
        """Whitened strains for masses, with a phase and noise from a seed, `[2]` int32."""
        masses = _as_masses(masses)
        of_phase, of_noise = tf.unstack(tf.random.split(seed))
        phase = 2 * np.pi * tf.random.stateless_uniform(tf.shape(masses)[:-1], of_phase, dtype=masses.dtype)
        wave = self.waveform(masses, phase)
        return wave + tf.random.stateless_normal(tf.shape(wave), of_noise, dtype=wave.dtype)

    def sample(self, n: int, seed: int | None = None) -> tuple[np.ndarray, ...]:
        """n pairs (strain, masses), float32 of NumPy, from an integer seed."""
        check_positive_integers(n=n)
        return tuple(part.numpy() for part in self.draw([int(random_generator(seed).integers(2**31)), 0], n))

    # Densities

    def log_likelihood(self, masses: Array, strain: Array) -> tf.Tensor:
        """log p(d|m1, m2), in nats, of float64: masses and whitened strains of batch shapes that broadcast."""
        masses = as_vectors(masses, 2, tf.float64, "masses")
        strain = as_vectors(strain, self.size, tf.float64, "strain")
        wave = self._modes(masses)
        data = tf.gather(tf.signal.rfft(strain), self._band, axis=-1) * np.sqrt(2 / self.size)
        product = tf.abs(tf.reduce_sum(tf.math.conj(wave) * data, -1))
        power = tf.reduce_sum(tf.abs(wave) ** 2, -1) + tf.reduce_sum(strain**2, -1)
        log_bessel = tf.math.log(tf.math.bessel_i0e(product)) + product
        return log_bessel - power / 2 - self.size / 2 * np.log(2 * np.pi)

    def joint_log_prob(self, masses: Array, strain: Array) -> tf.Tensor:
        """log p(d|m1, m2) + log p(m1, m2): the unnormalized posterior; -inf outside the prior."""
        return self.log_likelihood(masses, strain) + self.prior.log_prob(as_vectors(masses, 2, tf.float64, "masses"))

    def posterior(self, strain: Array, size: int = 200) -> GridPosterior:
        """p(m1, m2|d) and the evidence p(d) on a grid, as a `GridPosterior`, for one strain `[N]`.

        The cells are equal in m1 and in m2 / m1, so that the prior gives them the same probability: Z is the mean of
        the likelihood. A first grid over the prior finds the box where the posterior is, a second one fills it. Both
        are fine enough where twice the `size` gives the same evidence.
        """
        check_positive_integers(size=size)
        if np.shape(strain) != (self.size,) or not np.all(np.isfinite(strain)):
            raise ValueError(f"Expected one strain, of {self.size} finite numbers. Received: {strain!r}")
        low, high = np.zeros(2), np.ones(2)
        for _ in range(2):
            edges = np.linspace(low, high, size + 1)
            u = np.stack(np.meshgrid(*((edges[1:] + edges[:-1]) / 2).T, indexing="ij"), -1)
            m1, q = np.moveaxis(LOW + WIDTH * u, -1, 0)
            masses = np.stack([m1, m1 * q], -1)
            log_likelihood = self._compiled_log_likelihood(masses, strain).numpy()
            cells, box = np.argwhere(log_likelihood > log_likelihood.max() - 25), (low, high)
            low, high = edges[cells.min(0), [0, 1]], edges[cells.max(0) + 1, [0, 1]]
        low, high = box
        probability = np.exp(log_likelihood - log_likelihood.max())
        log_evidence = np.log(probability.mean() * np.prod(high - low)) + log_likelihood.max()
        log_prob = log_likelihood + self.prior.log_prob(masses).numpy() - log_evidence
        return GridPosterior(masses, log_prob, probability / probability.sum(), float(log_evidence))


def _as_masses(masses):
    masses = tf.convert_to_tensor(masses)
    if not masses.dtype.is_floating or masses.shape[-1:] != [2]:
        raise ValueError(
            f"Expected `masses` to be floats of shape [..., 2]. Received: {masses.dtype.name}, shape {masses.shape}"
        )
    return masses
