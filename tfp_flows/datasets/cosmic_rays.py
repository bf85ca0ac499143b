"""Cosmic rays of the highest energies: what the sources emit, inferred from spectrum and showers seen on Earth."""

from __future__ import annotations

import numbers

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import as_vectors
from tfp_flows._types import Array, DType

# The mass groups p, He, N, Si and Fe.
MASS = np.array([1.0, 4.0, 14.0, 28.0, 56.0])
CHARGE = np.array([1.0, 2.0, 7.0, 14.0, 26.0])
# Energies are in EeV, 10^18 eV, and rigidities in EV; depths are in g/cm².
ENERGY_EDGES = 10 ** np.linspace(0.7, 2.2, 21)
DEPTH_EDGES = np.linspace(600.0, 1100.0, 21)
# Background events per bin: with them no expected count is 0, which has no logarithm.
BACKGROUND = 1e-3


class CosmicRays:
    """Seven parameters of sources from 420 counts, in the manner of the combined fit of the Pierre Auger Observatory.

    The sources emit nuclei of five groups, of mass A and charge Z, up to a rigidity:

    J(E, A) = J₀ a(A) (E / 10^18 eV)^-γ · (1 for E < Z R_cut, exp(1 - E / (Z R_cut)) above).

    On its way a nucleus may break into A/A' equal parts, nuclei of the next lighter group A', see `nucleon_fractions`.
    All parts keep the energy of a nucleon, ε = E/A. With M_AA'(ε), the fraction of the nucleons of group A that arrive
    in group A', the flux on Earth is

    J(E', A') = Σ_A (A/A')² M_AA'(ε) J(E' A/A', A),  ε = E'/A'.

    The counts are independent and Poisson, with a background of 0.001 events in every bin. The first 20 are all events,
    in bins of log E from 10^18.7 to 10^20.2 eV. The other 400 are a smaller sample of other events, for each of these
    20 bins the depth of the shower's maximum in 20 bins, see `depth_probabilities`.

    The parameters are θ = (γ, log10(R_cut / V), a(p), a(He), a(N), a(Si), a(Fe)), with the prior: γ uniform from -1 to
    3, log10 R_cut from 18 to 19.5, every a(A) exponential of mean 1. So the fractions of the five are uniform on their
    simplex, and their sum, independent of the fractions, is the seventh parameter. J₀ is none: it is such that sources
    with all a(A) = 1 give `num_events` on average, whatever γ and R_cut.

    Under its bijector the prior is a standard normal, θ = `prior.bijector.forward(z)`. In z there are no bounds, which
    suits a flow and a Markov chain alike.

    This is a test problem with rounded values, not physics to publish: nothing is lost to pions or the expansion of the
    universe, energies are measured exactly, and all sources are at one distance.

    Shapes: θ `[..., 7]`, counts `[..., 420]`; energies are in EeV = 10^18 eV.

    Arguments:
      num_events: the expected number of all events at a(A) = 1.
      num_showers: the expected number of events whose shower maximum is seen.
      dtype: of θ and counts.

    Raises: ValueError for numbers that are not positive, and for θ or counts of another size.

    Sources: model and observables: Aab et al. 2017, arXiv 1612.07155; a flow for it: Bister et al. 2022, arXiv
    2110.09493.

    Example:

    >>> import tfp_flows as tff
    >>> problem = tff.datasets.CosmicRays()
    >>> theta = problem.prior.sample(3, seed=0)
    >>> counts = problem.simulate(theta, seed=(1, 2))
    >>> counts.shape, problem.log_likelihood(theta, counts).shape
    (TensorShape([3, 420]), TensorShape([3]))
    """

    labels = ("γ", "log10 R", "a(p)", "a(He)", "a(N)", "a(Si)", "a(Fe)")

    def __init__(self, num_events: float = 1000.0, num_showers: float = 300.0, dtype: DType = tf.float32) -> None:
        for name, value in {"num_events": num_events, "num_showers": num_showers}.items():
            if not isinstance(value, numbers.Real) or not 0 < value < np.inf:
                raise ValueError(f"Expected `{name}` to be a positive number. Received: {name}={value!r}")
        self.num_events, self.num_showers = num_events, num_showers
        self.dtype = tf.as_dtype(dtype)
        self.prior = tfd.TransformedDistribution(
            tfd.Sample(tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype)), [7]), _prior_bijector(dtype)
        )
        # What arrives at E' in group A' was E' A/A' in group A. Axes: bin, three midpoints of it, A', A.
        edges = np.geomspace(ENERGY_EDGES[0], ENERGY_EDGES[-1], 3 * 20 + 1)
        energy = np.sqrt(edges[1:] * edges[:-1]).reshape(20, 3, 1, 1)
        ratio = MASS / MASS[:, None]
        fractions = np.einsum("emaba->emab", nucleon_fractions(energy[..., 0] / MASS))
        self._energy = energy * ratio
        self._arriving = fractions * ratio**2 * np.diff(edges).reshape(20, 3, 1, 1)
        self._depth = depth_probabilities(np.sqrt(ENERGY_EDGES[1:] * ENERGY_EDGES[:-1]))

    def source(self, theta: Array, energy: Array) -> tf.Tensor:
        """J(E, A) / J₀: θ `[..., 7]`, energy `[n]`, result `[..., 5, n]`."""
        theta = as_vectors(theta, 7, self.dtype, "theta")[..., tf.newaxis]
        return theta[..., 2:, :] * self._shape(theta[..., :1, :], theta[..., 1:2, :], energy, CHARGE[:, None])

    def expected(self, theta: Array) -> tf.Tensor:
        """The expected counts: θ `[..., 7]`, result `[..., 420]`."""
        theta = as_vectors(theta, 7, self.dtype, "theta")[..., tf.newaxis, tf.newaxis, tf.newaxis, :]
        flux = self._arriving * self._shape(theta[..., :1], theta[..., 1:2], self._energy, CHARGE)
        total = tf.reduce_sum(flux, [-4, -3, -2, -1])[..., tf.newaxis, tf.newaxis]
        arriving = tf.reduce_sum(theta[..., 2:] * flux, [-3, -1]) / total  # axes: bin of energy, A'
        spectrum = self.num_events * tf.reduce_sum(arriving, -1)
        showers = self.num_showers * tf.einsum("...ea,eax->...ex", arriving, tf.cast(self._depth, self.dtype))
        showers = tf.reshape(showers, tf.concat([tf.shape(spectrum)[:-1], [400]], 0))
        return BACKGROUND + tf.concat([spectrum, showers], -1)

    def simulate(self, theta: Array, seed: Array) -> tf.Tensor:
        """Counts drawn for parameters: θ `[..., 7]`, seed `[2]` integers, result `[..., 420]`."""
        expected = self.expected(theta)
        return tf.random.stateless_poisson(tf.shape(expected), seed, expected, self.dtype)

    def log_likelihood(self, theta: Array, counts: Array) -> tf.Tensor:
        """log p(counts|θ), in nats: θ `[..., 7]`, counts `[..., 420]`, result `[...]`."""
        counts = as_vectors(counts, 420, self.dtype, "counts")
        return tf.reduce_sum(tfd.Poisson(self.expected(theta)).log_prob(counts), -1)

    def features(self, counts: Array) -> tf.Tensor:
        """Counts as a network takes them: counts `[..., 420]`, result `[..., 422]`.

        Of the spectrum and of the showers each, with N events where M are expected at a(A) = 1: 10 √(n / (N + 1)) for
        the counts n, whose noise is the same in every bin, as a Poisson number's root has it; and log((N + 1) / M).
        So shape and number are apart, as the fractions of the abundances and their sum are.
        """
        parts = tf.split(as_vectors(counts, 420, self.dtype, "counts"), [20, 400], -1)
        totals = [tf.reduce_sum(part, -1, keepdims=True) + 1 for part in parts]
        shapes = [10 * tf.sqrt(part / total) for part, total in zip(parts, totals, strict=True)]
        sizes = [tf.math.log(total / m) for total, m in zip(totals, (self.num_events, self.num_showers), strict=True)]
        return tf.concat([*shapes, *sizes], -1)

    def joint_log_prob(self, z: Array, counts: Array) -> tf.Tensor:
        """log p(counts|θ(z)) + log N(z; 0, I): the posterior of z, with θ = `prior.bijector.forward(z)`, unnormalized.

        Its normalization is the evidence p(counts), the same as that of the posterior of θ.
        """
        z = as_vectors(z, 7, self.dtype, "z")
        return self.prior.distribution.log_prob(z) + self.log_likelihood(self.prior.bijector.forward(z), counts)

    def _shape(self, spectral_index, log10_rigidity, energy, charge):
        """E^-γ, and the cut-off: exp(1 - x) where x = E / (Z R_cut) exceeds 1."""
        energy, charge = tf.cast(energy, self.dtype), tf.cast(charge, self.dtype)
        beyond = tf.nn.relu(energy / (charge * 10 ** (log10_rigidity - 18)) - 1)
        return tf.exp(-spectral_index * tf.math.log(energy) - beyond)


def nucleon_fractions(energy):
    """M_AA'(ε): the fraction of the nucleons emitted in group A that arrive in group A', `[..., 5, 5]`.

    A nucleus breaks into nuclei of the next lighter group at the rate (ε / 10^18.4 eV)² per distance of the sources:
    the more energy a nucleon has, the more photons of the background can break its nucleus. So M = exp(Q), where Q has
    the rate with a minus on its diagonal and with a plus on the way to the next lighter group; protons stay.

    Arguments:
      energy: ε, the energy of a nucleon in EeV, `[...]`.
    """
    rate = (np.asarray(energy, np.float64) / 10**0.4)[..., None, None] ** 2
    steps = np.eye(5, k=-1) - np.diag([0.0, 1.0, 1.0, 1.0, 1.0])
    return tf.linalg.expm(rate * steps).numpy()


def depth_probabilities(energy):
    """The probabilities of the bins of the shower's maximum X_max, for every energy and group: `[n, 5, 20]`.

    X_max has a distribution of Gumbel. A nucleus acts as A nucleons of the energy E/A: the mean is 805 + 58 log10(E/A /
    10^19 eV) g/cm², and the standard deviation √((60 A^-1/4)² + 20²) g/cm², with the detector's resolution of 20. The
    bins go from 600 to 1100 g/cm²; the outermost hold all that is beyond.

    Arguments:
      energy: E in EeV, `[n]`.
    """
    mean = 805 + 58 * (np.log10(energy)[:, None] - 1 - np.log10(MASS))
    scale = np.sqrt((60 * MASS**-0.25) ** 2 + 20**2) * np.sqrt(6) / np.pi
    gumbel = tfd.Gumbel(mean - np.euler_gamma * scale, scale)
    below = gumbel.cdf(DEPTH_EDGES[1:-1, None, None]).numpy()
    below = np.concatenate([np.zeros([1, *mean.shape]), below, np.ones([1, *mean.shape])])
    return np.moveaxis(np.diff(below, axis=0), 0, -1)


def _prior_bijector(dtype):
    """From standard normals: Φ(z), stretched, is uniform, and -log Φ(-z) exponential, precise in both tails."""
    low, high = tf.constant([[-1.0, 18.0], [3.0, 19.5]], dtype)
    uniform = tfb.Chain([tfb.Shift(low), tfb.Scale(high - low), tfb.NormalCDF()])
    minus = tfb.Scale(tf.constant(-1.0, dtype))
    exponential = tfb.Chain([minus, tfb.Log(), tfb.NormalCDF(), minus])
    return tfb.Blockwise([uniform, exponential], block_sizes=[2, 5])
