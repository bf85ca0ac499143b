"""The exoplanet's spectrum against formulas written down a second time, its noise, and its likelihood."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfp_flows as tff
from tfp_flows.datasets.exoplanet import BANDS

CLOUDY = tff.datasets.Exoplanet(dtype=tf.float64)
CLEAR = tff.datasets.Exoplanet(clouds=False, dtype=tf.float64)
THETA = np.array([0.55, 0.5, 1.1, 1.35, -2.5])
OTHER = np.array([1.4, -0.9, 0.65, 1.2, -4.9])


def depth_by_hand(theta, wavelength):
    """δ in ppm at one wavelength, one term after the other."""
    oxygen = 5e-4 * 10 ** theta[1]
    carbon = theta[0] * oxygen
    monoxide = (carbon**-8 + oxygen**-8) ** (-1 / 8) / (1 + math.exp((1000 - 1000 * theta[2]) / 80))
    opacity = 3e-5 * (0.6 / wavelength) ** 4 + 2e-6
    for fraction, bands in zip((oxygen - monoxide, carbon - monoxide, monoxide), BANDS, strict=True):
        for middle, strength, width in bands:
            shape = math.exp(-(math.log(wavelength / middle) ** 2) / (2 * (width * math.sqrt(theta[2])) ** 2))
            opacity += fraction * strength * shape
    radius, height = theta[3] * 7.1492e7, 8250.0 * 1000 * theta[2] / ((2.3 + 30 * oxygen) * 10.0)
    blocked = math.exp(np.euler_gamma) * opacity * 100 / 10 * math.sqrt(2 * math.pi * radius / height)
    if len(theta) == 5:
        blocked += 1e-3 / 10 ** theta[4]
    return 1e6 * ((radius + height * math.log(blocked)) / (1.2 * 6.957e8)) ** 2


@pytest.mark.parametrize("planet, theta", [(CLOUDY, THETA), (CLEAR, THETA[:4]), (CLOUDY, OTHER)])
def test_spectrum_is_the_formula(planet, theta):
    expected = [depth_by_hand(theta, wavelength) for wavelength in planet.wavelengths]
    np.testing.assert_allclose(planet.spectrum(theta), expected, rtol=1e-9)


def test_molecules_have_the_atoms_there_are():
    theta = CLOUDY.prior.sample(1000, seed=(0, 1)).numpy()
    water, methane, monoxide = np.moveaxis(CLOUDY.mole_fractions(theta).numpy(), -1, 0)
    oxygen = 5e-4 * 10 ** theta[:, 1]
    np.testing.assert_allclose(water + monoxide, oxygen)
    np.testing.assert_allclose(methane + monoxide, theta[:, 0] * oxygen)
    assert min(water.min(), methane.min(), monoxide.min()) > 0
    hot = np.array([[0.55, 0.5, 1.5, 1.35, -2.5], [1.45, 0.5, 1.5, 1.35, -2.5]])
    scarce = CLOUDY.mole_fractions(hot).numpy()
    assert scarce[0, 1] < 0.02 * scarce[0, 0]  # hot and little carbon: hardly any methane
    assert scarce[1, 0] < 0.2 * scarce[1, 1]  # hot and much carbon: little water


def test_clouds_hide_what_is_below_them():
    decks = np.tile(THETA, [3, 1])
    decks[:, 4] = -5, -3, 0
    high, middle, low = CLOUDY.spectrum(decks).numpy()
    clear = CLEAR.spectrum(THETA[:4]).numpy()
    assert np.all(high > middle) and np.all(middle > low) and np.all(low > clear)
    np.testing.assert_allclose(low, clear, rtol=2e-3)
    assert np.ptp(high) < 0.1 * np.ptp(clear)  # a high deck leaves a flat spectrum
    # With nothing else to block the light, the radius is that of the deck.
    height = 8250 * 1100 / (10 * (2.3 + 30 * 5e-4 * 10**0.5))
    deck = 1e6 * ((1.35 * 7.1492e7 + height * math.log(1e-3 / 1e-5)) / (1.2 * 6.957e8)) ** 2
    assert high.min() == pytest.approx(deck, rel=2e-4)


def test_noise_has_the_level_it_says():
    observation = CLOUDY.observe(np.tile(THETA, [4000, 1]), (0, 1)).numpy()
    level = observation[:, 100:]
    assert level.min() >= 30 and level.max() <= 100
    assert np.log(level).mean() == pytest.approx(np.log(30 * 100) / 2, abs=0.03)
    pulls = (observation[:, :100] - CLOUDY.spectrum(THETA).numpy()) / CLOUDY.noise(level).numpy()
    assert np.abs(pulls.mean(0)).max() < 5 / math.sqrt(4000)
    np.testing.assert_allclose(pulls.std(0), 1, atol=0.06)
    assert CLOUDY.noise(np.array([50.0])).numpy()[-1] == pytest.approx(50 * math.sqrt((1 + 2.5**2) / 2))
    np.testing.assert_array_equal(observation, CLOUDY.observe(np.tile(THETA, [4000, 1]), (0, 1)))


@pytest.mark.parametrize("planet", [CLOUDY, CLEAR], ids=["cloudy", "clear"])
def test_likelihood_and_prior(planet):
    observation, z = (part.numpy() for part in planet.draw((1, 2), 5))
    theta = planet.prior.bijector.forward(z)
    by_hand = stats.norm.logpdf(observation[:, :100], planet.spectrum(theta), planet.noise(observation[:, 100:])).sum(1)
    np.testing.assert_allclose(planet.log_likelihood(theta, observation), by_hand)
    joint = by_hand + stats.norm.logpdf(z).sum(1)
    np.testing.assert_allclose(planet.joint_log_prob(z, observation), joint)
    assert planet.joint_log_prob(z[:, None], observation).shape == (5, 5)
    low, high = np.array([0.1, -1, 0.6, 1.2, -5]), np.array([1.5, 2, 1.6, 1.5, 0])
    many = planet.prior.sample(20_000, seed=(3, 4)).numpy()
    size = many.shape[1]
    assert size == (5 if planet.clouds else 4) == len(planet.labels)
    assert np.all((many > low[:size]) & (many < high[:size]))
    np.testing.assert_allclose(many.mean(0), (low + high)[:size] / 2, atol=0.03)


@pytest.mark.parametrize("planet", [CLOUDY, CLEAR], ids=["cloudy", "clear"])
def test_coordinates_have_no_narrow_ridge(planet):
    observation, z = planet.draw((1, 2), 500)
    coordinates = planet.coordinates(observation)
    with tf.GradientTape() as tape:
        x = tf.constant(coordinates.inverse(z).numpy())
        tape.watch(x)
        again = coordinates.forward(x)
    np.testing.assert_allclose(again, z, atol=1e-9)
    _, log_det = np.linalg.slogdet(tape.batch_jacobian(again, x))
    np.testing.assert_allclose(coordinates.forward_log_det_jacobian(x, event_ndims=1), log_det, atol=1e-9)

    inside = np.abs(z[:, 3]) < 1.5  # towards the edges of the prior z stretches without bounds
    assert 0.1 < np.median(np.abs(x.numpy()[inside, 3])) < 1

    def log_likelihood(x_radius):
        moved = np.concatenate([x[:, :3], np.full([500, 1], x_radius), x[:, 4:]], 1)
        theta = planet.prior.bijector.forward(coordinates.forward(tf.constant(moved)))
        return planet.log_likelihood(theta, observation).numpy()[inside]

    # Whatever the other parameters are, the likelihood has its maximum near x_R = 0, and a width of about 1.
    at_0, below, above = (log_likelihood(x_radius) for x_radius in (0.0, -4.0, 4.0))
    assert np.all(at_0 > below) and np.all(at_0 > above)


def test_shapes_pipelines_and_xla():
    planet = tff.datasets.Exoplanet()
    observation, z = next(iter(tff.datasets.simulator(planet.draw, batch_size=16, seed=0)))
    assert observation.shape == (16, 101) and z.shape == (16, 5)
    features = planet.features(observation).numpy()
    assert features.shape == (16, 102) and np.abs(features).max() < 50
    spectrum = observation.numpy()[:, :100]
    np.testing.assert_allclose(features[:, :100].mean(1), 0, atol=1e-3)
    np.testing.assert_allclose(features[:, 100] * 1500 + 13_500, spectrum.mean(1), rtol=1e-5)
    compiled = tf.function(planet.joint_log_prob, jit_compile=True)(z, observation)
    np.testing.assert_allclose(compiled, planet.joint_log_prob(z, observation), rtol=1e-3)
    exact = CLOUDY.joint_log_prob(z, observation)
    np.testing.assert_allclose(compiled, exact, rtol=1e-3)


def test_gradients_are_finite_to_the_edges_of_the_prior():
    observation = CLOUDY.observe(THETA[None], (0, 1))
    corners = 5.0 * (2.0 * np.indices([2] * 5).reshape(5, -1).T - 1)
    for planet in (tff.datasets.Exoplanet(), CLOUDY):
        z = tf.constant(corners, planet.dtype)
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = planet.joint_log_prob(z, observation)
        assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, z)).all()


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda: CLEAR.spectrum(THETA), r"Expected `theta` of shape \[\.\.\., 4\]. Received: shape \(5,\)"),
        (lambda: CLOUDY.log_likelihood(THETA, np.zeros(100)), r"`observation` .* Received: shape \(100,\)"),
        (lambda: CLOUDY.joint_log_prob(THETA[:4], np.zeros(101)), r"`z` .* Received: shape \(4,\)"),
    ],
)
def test_bad_input(call, expected):
    with pytest.raises(ValueError, match=expected):
        call()
