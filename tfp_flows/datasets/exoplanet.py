"""A planet of another star: what its atmosphere is made of, from the light that passes through it in a transit."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import as_vectors
from tfp_flows._types import Array, DType

WAVELENGTHS = np.geomspace(0.6, 5.0, 100)  # in µm
# H₂O, CH₄ and CO: the middle in µm, the opacity there in m²/kg per mole fraction, and the width in the logarithm.
BANDS = (
    ((0.94, 0.3, 0.03), (1.13, 0.5, 0.03), (1.38, 3.0, 0.035), (1.87, 5.0, 0.04), (2.7, 30.0, 0.06)),
    ((1.67, 1.0, 0.03), (2.3, 4.0, 0.05), (3.3, 60.0, 0.05)),
    ((2.33, 0.3, 0.015), (4.67, 20.0, 0.04)),
)
LOW = np.array([0.1, -1.0, 0.6, 1.2, -5.0])
HIGH = np.array([1.5, 2.0, 1.6, 1.5, 0.0])
# In SI units.
JUPITER_RADIUS, STAR_RADIUS = 7.1492e7, 1.2 * 6.957e8
BOLTZMANN_PER_HYDROGEN = 8250.0  # k_B / m_H
GRAVITY = 10.0
REFERENCE_PRESSURE = 100.0  # 1 mbar
OXYGEN = 5e-4  # the mole fraction for the sun's metallicity
# About the width in z that a spectrum leaves to the radius, given the other parameters.
RADIUS_WIDTH = 0.005


class Exoplanet:
    """An atmosphere's parameters from a transmission spectrum, 100 channels from 0.6 to 5 µm, with or without clouds.

    A planet that passes before its star blocks the part δ(λ) = (R(λ) / R_*)² of the light. Its radius depends on the
    wavelength, as light of some wavelengths passes through the outer atmosphere and other light does not:

      R(λ) = R + H log(e^γ κ(λ) (P₀/g) √(2π R/H) + P₀/P_c), H = k_B T / (μ m_H g),

    γ = 0.5772 and R the radius at P₀ = 1 mbar; below the pressure P_c a deck of clouds lets no light pass. Without
    clouds the last term is absent. The opacity is κ(λ) = Σ x_i κ_i(λ) of the molecules i and, from hydrogen,
    3e-5 (0.6 µm / λ)⁴ + 2e-6 m²/kg. κ_i is a sum of bands, Gaussian in log λ, whose widths grow as √T.

    The parameters are θ = (C/O, log10 of the metallicity, T / 1000 K, R / Jupiter's, log10(P_c / bar)), uniform from
    (0.1, -1, 0.6, 1.2, -5) to (1.5, 2, 1.6, 1.5, 0); without clouds the last one is absent. Oxygen has the mole
    fraction O = 5e-4 times the metallicity, carbon C = C/O · O. Carbon monoxide takes a part of the scarcer of the two,
    (C⁻⁸ + O⁻⁸)^(-1/8) / (1 + exp((1000 K - T) / 80 K)); the rest of them is water and methane. μ = 2.3 + 30 O.

    The noise is normal, of the standard deviation s √((1 + (λ / 2 µm)²) / 2) in a channel, where s, its level at 2 µm,
    is known and for each observation another, log-uniform from 30 to 100 ppm.

    Under its bijector the prior is a standard normal, θ = `prior.bijector.forward(z)`. In z a posterior is a narrow,
    curved ridge, since the spectrum tells R from the other parameters within 1e-4 to 1e-3 of Jupiter's radius, and
    says far less of R alone. `coordinates` has x, in which it is neither narrow nor curved.

    Shapes: θ, z and x `[..., 5]`, or 4 without clouds; spectra δ `[..., 100]`, and observations `[..., 101]`, which are
    δ and s, in ppm.

    Arguments:
      clouds: whether there are clouds.
      dtype: of θ and spectra.

    Raises: ValueError for θ or observations of another size.

    Source: the radius: Heng and Kitzmann 2017, arXiv 1702.02051, equation 2; flows for such spectra, and
    levels of noise: Gebhard et al. 2024, arXiv 2410.21477.

    Example:

    >>> import tfp_flows as tff
    >>> planet = tff.datasets.Exoplanet()
    >>> observation, z = planet.draw((0, 1), 3)
    >>> observation.shape, planet.joint_log_prob(z, observation).shape
    (TensorShape([3, 101]), TensorShape([3]))
    """

    labels = ("C/O", "log10 Z", "T / 1000 K", "R / R_J", "log10 P_c / bar")
    wavelengths = WAVELENGTHS

    def __init__(self, clouds: bool = True, dtype: DType = tf.float32) -> None:
        self.clouds, self.dtype = bool(clouds), tf.as_dtype(dtype)
        self.size = 5 if clouds else 4
        self.labels = self.labels[: self.size]
        low, high = (tf.constant(end[: self.size], dtype) for end in (LOW, HIGH))
        self.prior = tfd.TransformedDistribution(
            tfd.Sample(tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype)), [self.size]),
            tfb.Chain([tfb.Shift(low), tfb.Scale(high - low), tfb.NormalCDF()]),
        )

    def mole_fractions(self, theta: tf.Tensor) -> tf.Tensor:
        """Of H₂O, CH₄ and CO, `[..., 3]`."""
        theta = as_vectors(theta, self.size, self.dtype, "theta")
        ratio, log_metallicity, temperature = tf.unstack(theta[..., :3], axis=-1)
        oxygen = OXYGEN * 10**log_metallicity
        carbon = ratio * oxygen
        # O is taken out, as O⁻⁸ overflows float32.
        monoxide = tf.sigmoid((temperature - 1) / 0.08) * oxygen * (1 + ratio**-8) ** (-1 / 8)
        return tf.stack([oxygen - monoxide, carbon - monoxide, monoxide], -1)

    def spectrum(self, theta: Array) -> tf.Tensor:
        """δ without noise in ppm: θ `[..., 5]`, or 4 without clouds; result `[..., 100]`."""
        theta = as_vectors(theta, self.size, self.dtype, "theta")
        temperature, radius = theta[..., 2:3], theta[..., 3:4] * JUPITER_RADIUS
        opacity = 3e-5 * (0.6 / WAVELENGTHS) ** 4 + 2e-6
        for fraction, bands in zip(tf.split(self.mole_fractions(theta), 3, -1), BANDS, strict=True):
            for middle, strength, width in bands:
                exponent = np.log(WAVELENGTHS / middle) ** 2 / (2 * width**2)
                opacity += fraction * strength * tf.exp(-tf.constant(exponent, self.dtype) / temperature)
        height = BOLTZMANN_PER_HYDROGEN * 1000 * temperature / (GRAVITY * (2.3 + 30 * OXYGEN * 10 ** theta[..., 1:2]))
        column = np.exp(np.euler_gamma) * REFERENCE_PRESSURE / GRAVITY * tf.sqrt(2 * np.pi * radius / height)
        blocked = opacity * column
        if self.clouds:
            blocked += 10 ** (-3 - theta[..., 4:5])
        return 1e6 * ((radius + height * tf.math.log(blocked)) / STAR_RADIUS) ** 2

    def noise(self, level: Array) -> tf.Tensor:
        """The standard deviations of the channels: s `[..., 1]`, result `[..., 100]`."""
        return tf.cast(level, self.dtype) * np.sqrt((1 + (WAVELENGTHS / 2) ** 2) / 2)

    def observe(self, theta: Array, seed: Array) -> tf.Tensor:
        """Observations `[..., 101]` for θ, with a level and noise from a seed, `[2]` integers."""
        of_level, of_noise = tf.unstack(tf.random.split(seed))
        spectrum = self.spectrum(theta)
        level = 30 * (100 / 30) ** tf.random.stateless_uniform([*spectrum.shape[:-1], 1], of_level, dtype=self.dtype)
        noise = self.noise(level) * tf.random.stateless_normal(spectrum.shape, of_noise, dtype=self.dtype)
        return tf.concat([spectrum + noise, level], -1)

    def draw(self, seed: Array, batch_size: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Observations and z from a seed, `[2]` integers, in TensorFlow: a function for `tff.datasets.simulator`."""
        of_theta, of_noise = tf.unstack(tf.random.split(seed))
        z = self.prior.distribution.sample(batch_size, seed=of_theta)
        return self.observe(self.prior.bijector.forward(z), of_noise), z

    def features(self, observation: Array) -> tf.Tensor:
        """Observations as a network takes them, `[..., 102]`: the spectrum's shape in 100 ppm, its mean, and log s."""
        spectrum, level = tf.split(as_vectors(observation, 101, self.dtype, "observation"), [100, 1], -1)
        mean = tf.reduce_mean(spectrum, -1, keepdims=True)
        return tf.concat([(spectrum - mean) / 100, (mean - 13_500) / 1500, tf.math.log(level / 50)], -1)

    def coordinates(self, observation: Array) -> tfb.Bijector:
        """The bijector x -> z of coordinates in which the posterior for an observation is no narrow ridge.

        Forward: z_R = r(z, δ) + 0.005 x_R in place of x_R; the rest of z is that of x. Log-determinant log 0.005.
        r is the z of the radius that fits best, given the other parameters. R shifts R(λ) in all channels alike, so
        that it is the one for which the mean of R(λ), with weights 1 / noise², is as observed.

        Shapes: observations `[..., 101]`, x and z `[..., 5]` or 4, log-determinants `[...]`.
        """

        def forward(x):
            return self._with_radius(x, self._likely_radius(x, observation) + RADIUS_WIDTH * x[..., 3:4])

        def inverse(z):
            return self._with_radius(z, (z[..., 3:4] - self._likely_radius(z, observation)) / RADIUS_WIDTH)

        return tfb.Inline(
            forward_fn=forward,
            inverse_fn=inverse,
            forward_log_det_jacobian_fn=lambda x: tf.fill(tf.shape(x)[:-1], tf.constant(np.log(RADIUS_WIDTH), x.dtype)),
            forward_min_event_ndims=1,
            name="coordinates",
        )

    def _likely_radius(self, z, observation):
        """The z of the radius that fits best, given the other parameters, `[..., 1]`."""
        observed = as_vectors(observation, 101, self.dtype, "observation")[..., :100]
        predicted = self.spectrum(self.prior.bijector.forward(self._with_radius(z, tf.zeros_like(z[..., 3:4]))))
        weights = 1 / (1 + (WAVELENGTHS / 2) ** 2)
        away = tf.sqrt(tf.maximum(observed, 0)) - tf.sqrt(predicted)  # R(λ) / R_*, in thousandths
        shift = 1e-3 * STAR_RADIUS / JUPITER_RADIUS * tf.reduce_sum(away * (weights / weights.sum()), -1, keepdims=True)
        # An observation that no radius of the prior explains has z at its edge, not beyond.
        quantile = tf.clip_by_value(0.5 + shift / (HIGH[3] - LOW[3]), 0.003, 0.997)
        return self.prior.distribution.distribution.quantile(quantile)

    def _with_radius(self, z, radius):
        batch_shape = tf.broadcast_dynamic_shape(tf.shape(z)[:-1], tf.shape(radius)[:-1])
        z = tf.broadcast_to(z, tf.concat([batch_shape, [self.size]], 0))
        return tf.concat([z[..., :3], tf.broadcast_to(radius, tf.shape(z[..., :1])), z[..., 4:]], -1)

    def log_likelihood(self, theta: Array, observation: Array) -> tf.Tensor:
        """log p(δ|θ, s), in nats: θ and observations of batch shapes that broadcast."""
        spectrum, level = tf.split(as_vectors(observation, 101, self.dtype, "observation"), [100, 1], -1)
        return tf.reduce_sum(tfd.Normal(self.spectrum(theta), self.noise(level)).log_prob(spectrum), -1)

    def joint_log_prob(self, z: Array, observation: Array) -> tf.Tensor:
        """log p(δ|θ(z), s) + log N(z; 0, I), unnormalized; its normalization is the evidence p(δ|s) of the model."""
        z = as_vectors(z, self.size, self.dtype, "z")
        log_likelihood = self.log_likelihood(self.prior.bijector.forward(z), observation)
        return self.prior.distribution.log_prob(z) + log_likelihood
