"""The cosmic-ray problem against formulas written down a second time in NumPy, and against what must be conserved."""

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.datasets import cosmic_rays
from tfp_flows.datasets.cosmic_rays import CHARGE, MASS

EXACT = tff.datasets.CosmicRays(dtype=tf.float64)
PROBLEM = tff.datasets.CosmicRays()
THETA = np.array([1.5, 18.6, 0.4, 1.3, 0.7, 0.2, 1.1])


def thetas(n, seed=0):
    return EXACT.prior.sample(n, seed=(seed, 1))


def test_source_is_the_formula():
    energy = np.array([0.5, 5.0, 30.0, 100.0, 300.0])
    found = EXACT.source(THETA, energy).numpy()
    assert found.shape == (5, 5)
    for k in range(5):
        for j, value in enumerate(energy):
            cut = CHARGE[k] * 10**0.6
            factor = 1.0 if value < cut else math.exp(1 - value / cut)
            assert found[k, j] == pytest.approx(THETA[2 + k] * value**-1.5 * factor, rel=1e-12)


def test_source_is_continuous_at_the_cut_and_smooth_below():
    cut = CHARGE * 10**0.6
    below, at, above = (np.diagonal(EXACT.source(THETA, cut * (1 + step))) for step in (-1e-9, 0.0, 1e-9))
    np.testing.assert_allclose(below, at, rtol=1e-8)
    np.testing.assert_allclose(above, at, rtol=1e-8)
    np.testing.assert_allclose(at, THETA[2:] * cut**-1.5, rtol=1e-12)


def test_nucleons_are_conserved_and_only_break():
    energy = np.array([1e-3, 0.3, 10**0.4, 30.0])
    fractions = cosmic_rays.nucleon_fractions(energy)
    assert fractions.shape == (4, 5, 5)
    np.testing.assert_allclose(fractions.sum(-1), 1, rtol=1e-12)
    assert np.all(fractions > -1e-12)
    np.testing.assert_allclose(np.triu(fractions, 1), 0, atol=1e-14)  # nothing becomes heavier
    np.testing.assert_allclose(fractions[:, 0, 0], 1)  # protons stay
    rate = (energy / 10**0.4) ** 2
    np.testing.assert_allclose(fractions[:, 4, 4], np.exp(-rate), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(fractions[:, 4, 3], rate * np.exp(-rate), rtol=1e-10, atol=1e-14)  # Poisson: one step
    np.testing.assert_allclose(fractions[0], np.eye(5), atol=1e-6)
    np.testing.assert_allclose(fractions[3, :, 0], 1)


def test_depths_have_the_mean_and_the_width_they_should():
    energy = np.array([5.0, 10.0, 100.0])
    probabilities = cosmic_rays.depth_probabilities(energy)
    assert probabilities.shape == (3, 5, 20)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-12)
    assert np.all(probabilities >= 0)
    middles = np.arange(612.5, 1100, 25)
    mean = probabilities @ middles
    assert mean[1, 0] == pytest.approx(805, abs=2)
    assert mean[1, 4] == pytest.approx(805 - 58 * math.log10(56), abs=2)
    np.testing.assert_allclose(mean[2] - mean[1], 58, atol=2)
    variance = probabilities[1] @ middles**2 - mean[1] ** 2
    expected = 60**2 / np.sqrt(MASS) + 20**2 + 25**2 / 12  # the bins' own width at the end
    np.testing.assert_allclose(variance, expected, rtol=0.05)


def flux_on_earth(energy, theta):
    """J(E', A') / J₀ on Earth, `[5]`, by the sum over the groups that it came from, one after the other."""
    flux = np.zeros(5)
    for arriving in range(5):
        fractions = cosmic_rays.nucleon_fractions(energy / MASS[arriving])
        for left in range(arriving, 5):
            ratio = MASS[left] / MASS[arriving]
            source = EXACT.source(theta, [energy * ratio]).numpy()[left, 0]
            flux[arriving] += ratio**2 * fractions[left, arriving] * source
    return flux


def test_expected_counts_are_those_of_the_flux():
    found = EXACT.expected(THETA).numpy()
    bins, edges = [0, 7, 19], np.linspace(0.7, 2.2, 61)
    for k in bins:
        middles, low, high = edges[3 * k : 3 * k + 3] + 0.0125, edges[3 * k : 3 * k + 3], edges[3 * k + 1 : 3 * k + 4]
        flux = sum(flux_on_earth(10**m, THETA) * (10**b - 10**a) for m, a, b in zip(middles, low, high, strict=True))
        depth = cosmic_rays.depth_probabilities(np.array([10 ** (0.7375 + 0.075 * k)]))[0]
        showers = found[20 + 20 * k : 40 + 20 * k] - 1e-3
        np.testing.assert_allclose(showers / showers.sum(), flux / flux.sum() @ depth, rtol=1e-9, atol=1e-15)
        bins[bins.index(k)] = flux.sum()
    np.testing.assert_allclose((found[[0, 7, 19]] - 1e-3) / (found[0] - 1e-3), np.array(bins) / bins[0], rtol=1e-9)


def test_numbers_of_events():
    spectra = EXACT.expected(np.array([[-0.9, 18.1, 1, 1, 1, 1, 1], [2.9, 19.4, 1, 1, 1, 1, 1]])).numpy() - 1e-3
    np.testing.assert_allclose(spectra[:, :20].sum(-1), EXACT.num_events, rtol=1e-10)
    np.testing.assert_allclose(spectra[:, 20:].sum(-1), EXACT.num_showers, rtol=1e-10)
    both = spectra[:, 20:].reshape(2, 20, 20).sum(-1) / spectra[:, :20]
    np.testing.assert_allclose(both, EXACT.num_showers / EXACT.num_events, rtol=1e-9)
    # Twice the abundances, twice the events.
    double = EXACT.expected(THETA * [1, 1, 2, 2, 2, 2, 2]).numpy() - 1e-3
    np.testing.assert_allclose(double, 2 * (EXACT.expected(THETA).numpy() - 1e-3), rtol=1e-9, atol=1e-12)
    larger = tff.datasets.CosmicRays(num_events=300.0, num_showers=70, dtype=tf.float64).expected(THETA).numpy() - 1e-3
    assert larger[20:].sum() / larger[:20].sum() == pytest.approx(70 / 300)


def test_likelihood_is_poissons():
    theta = thetas(4)
    counts = EXACT.simulate(theta, (0, 1)).numpy()
    expected = EXACT.expected(theta).numpy()
    log_factorials = np.vectorize(math.lgamma)(counts + 1)
    by_hand = (counts * np.log(expected) - expected - log_factorials).sum(-1)
    np.testing.assert_allclose(EXACT.log_likelihood(theta, counts), by_hand, rtol=1e-12)
    z = EXACT.prior.bijector.inverse(theta)
    joint = by_hand + tfd.Normal(np.float64(0), 1).log_prob(z).numpy().sum(-1)
    np.testing.assert_allclose(EXACT.joint_log_prob(z, counts), joint, rtol=1e-9)


def test_simulations_are_poisson():
    counts = EXACT.simulate(tf.tile(THETA[None], [4000, 1]), (3, 4)).numpy()
    expected = EXACT.expected(THETA).numpy()
    assert np.all(counts == np.round(counts))
    error = (counts.mean(0) - expected) / np.sqrt(expected / 4000)
    assert np.abs(error[expected > 0.1]).max() < 5
    well = expected > 0.1
    # The variance of an empirical variance: kurtosis 1/μ beside the 2 of a normal.
    spread = np.sqrt((2 + 1 / expected[well]) / 4000)
    assert np.abs((counts.var(0)[well] / expected[well] - 1) / spread).max() < 5
    totals = counts[:, :20].sum(-1), counts[:, 20:].sum(-1)
    assert abs(np.corrcoef(*totals)[0, 1]) < 0.08  # the same events are not counted twice
    assert np.array_equal(EXACT.simulate(THETA, (3, 4)), EXACT.simulate(THETA, (3, 4)))
    assert not np.array_equal(EXACT.simulate(THETA, (3, 4)), EXACT.simulate(THETA, (3, 5)))


def test_prior_is_uniform_and_exponential():
    theta = thetas(20_000).numpy()
    np.testing.assert_allclose(theta.mean(0), [1, 18.75, 1, 1, 1, 1, 1], atol=0.04)
    np.testing.assert_allclose(theta.std(0), [4 / 12**0.5, 1.5 / 12**0.5, 1, 1, 1, 1, 1], atol=0.04)
    assert np.all((theta[:, 0] > -1) & (theta[:, 0] < 3) & (theta[:, 1] > 18) & (theta[:, 1] < 19.5))
    by_hand = -math.log(4) - math.log(1.5) - theta[:, 2:].sum(-1)
    np.testing.assert_allclose(EXACT.prior.log_prob(theta), by_hand, rtol=1e-9)
    # Far out, in float32 too, θ stays finite and the amounts positive.
    far = PROBLEM.prior.bijector.forward(tf.constant([[-9.0] * 7, [9.0] * 7])).numpy()
    np.testing.assert_allclose(far[:, :2], [[-1, 18], [3, 19.5]])
    assert np.all(far[:, 2:] >= 0) and np.isfinite(far).all()


def test_gradient_is_right_and_finite_to_the_edges():
    counts = EXACT.simulate(THETA, (1, 1))

    def gradient(problem, z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = problem.joint_log_prob(z, tf.cast(counts, problem.dtype))
        return value.numpy(), tape.gradient(value, z).numpy()

    z = tf.random.stateless_normal([5, 7], (0, 1), dtype=tf.float64)
    found = gradient(EXACT, z)[1]
    for k in range(7):
        step = 1e-6 * np.eye(7)[k]
        slope = (EXACT.joint_log_prob(z + step, counts) - EXACT.joint_log_prob(z - step, counts)) / 2e-6
        np.testing.assert_allclose(found[:, k], slope, rtol=1e-4, atol=1e-3)
    corners = 6.0 * (2.0 * np.indices([2] * 7).reshape(7, -1).T - 1)
    for problem in (PROBLEM, EXACT):
        value, slope = gradient(problem, tf.constant(corners, problem.dtype))
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()


def test_features_separate_shape_and_number():
    counts = tf.concat([tf.range(20.0), tf.ones([400])], 0)
    features = PROBLEM.features(counts).numpy()
    assert features.shape == (422,)
    np.testing.assert_allclose(features[:20], 10 * np.sqrt(np.arange(20) / 191), rtol=1e-5)
    np.testing.assert_allclose(features[20:420], 10 * np.sqrt(1 / 401), rtol=1e-5)
    np.testing.assert_allclose(features[420:], np.log([191 / 1000, 401 / 300]), rtol=1e-5)
    assert np.isfinite(PROBLEM.features(tf.zeros([2, 420]))).all()


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_shapes_in_graphs_and_under_xla(batch):
    z = tf.random.stateless_normal([*batch, 7], (0, 1))
    theta = PROBLEM.prior.bijector.forward(z)
    counts = PROBLEM.simulate(theta, (0, 1))
    assert counts.shape == (*batch, 420)
    assert counts.dtype == tf.float32
    assert PROBLEM.source(theta, [1.0, 5.0]).shape == (*batch, 5, 2)
    eager = PROBLEM.joint_log_prob(z, counts)
    assert eager.shape == batch
    for jit_compile in (False, True):
        compiled = tf.function(PROBLEM.joint_log_prob, jit_compile=jit_compile, autograph=False)
        np.testing.assert_allclose(compiled(z, counts), eager, rtol=1e-4)


def test_simulations_run_in_a_pipeline():
    def draw(seed, batch_size):
        theta = PROBLEM.prior.sample(batch_size, seed=seed)
        return PROBLEM.features(PROBLEM.simulate(theta, seed + 1)), theta

    features, theta = next(iter(tff.datasets.simulator(draw, batch_size=16, seed=0)))
    assert features.shape == (16, 422)
    assert theta.shape == (16, 7)


def test_the_posterior_finds_the_truth():
    """Newton's steps by Fisher's matrix end near the truth, in units of the errors that the matrix gives."""
    truth = tf.constant([0.5, -0.2, 0.3, 0.6, 0.4, 0.8, 0.2], tf.float64)
    counts = EXACT.simulate(EXACT.prior.bijector.forward(truth), (7, 8))
    z = tf.zeros([7], tf.float64)
    for _ in range(30):
        with tf.GradientTape() as tape:
            tape.watch(z)
            log_prob = EXACT.joint_log_prob(z, counts)
        gradient = tape.gradient(log_prob, z)
        steps = 1e-5 * np.eye(7)
        expected = [EXACT.expected(EXACT.prior.bijector.forward(z + sign * steps)).numpy() for sign in (1, -1)]
        slope = (expected[0] - expected[1]) / 2e-5
        fisher = np.eye(7) + slope / EXACT.expected(EXACT.prior.bijector.forward(z)).numpy() @ slope.T
        z = z + 0.5 * np.linalg.solve(fisher, gradient.numpy())
    difference = (z - truth).numpy()
    assert difference @ fisher @ difference < 25  # chi-squared of 7 degrees of freedom
    assert np.linalg.slogdet(fisher)[1] > 10  # and the counts tell much


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda: tff.datasets.CosmicRays(num_events=0), "Expected `num_events` to be a positive .* Received: .*=0"),
        (lambda: tff.datasets.CosmicRays(num_showers=-1.0), "Received: num_showers=-1.0"),
        (lambda: tff.datasets.CosmicRays(num_showers="many"), "Received: num_showers='many'"),
        (lambda: EXACT.expected(np.zeros(6)), r"Expected `theta` of shape \[\.\.\., 7\]. Received: shape \(6,\)"),
        (lambda: EXACT.source(1.0, [1.0]), r"Received: shape \(\)"),
        (lambda: EXACT.log_likelihood(THETA, np.zeros([2, 400])), r"`counts` .* Received: shape \(2, 400\)"),
        (lambda: EXACT.joint_log_prob(np.zeros([2, 8]), np.zeros(420)), r"`z` .* Received: shape \(2, 8\)"),
    ],
)
def test_bad_input(call, expected):
    with pytest.raises(ValueError, match=expected):
        call()
