"""The wave, its noise, the likelihood and the grid, each against another way to the same number."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

MASSES = np.array([[36.0, 29.0], [30.1, 12.2], [59.9, 59.8], [55.0, 24.0]])


@pytest.fixture(scope="module")
def problem():
    return tff.datasets.GravitationalWaves(signal_to_noise=6.0, duration=0.5, sampling_rate=128)


def wave_by_numpy(problem, m1, m2, phase):
    """The wave by Cutler and Flanagan's own variables, of unknown amplitude: 𝓜, M, and x = (π M f)^(2/3)."""
    second = 4.925491e-6
    f = problem.frequencies[1:-1]
    total, reduced = (m1 + m2) * second, m1 * m2 / (m1 + m2) * second
    chirp = reduced**0.6 * total**0.4
    x = (np.pi * total * f) ** (2 / 3)
    series = 1 + 20 / 9 * (743 / 336 + 11 / 4 * reduced / total) * x - 16 * np.pi * x**1.5
    psi = 2 * np.pi * f * problem.merger - phase + 0.75 * (8 * np.pi * chirp * f) ** (-5 / 3) * series
    end = 1 / (6**1.5 * np.pi * total)
    amplitude = chirp ** (5 / 6) * f ** (-7 / 6) / (1 + np.exp(-20 * (1 - f / end))) * (f >= 30)
    spectrum = amplitude * np.exp(-1j * psi) / np.sqrt(problem.noise_curve()[1:-1])
    return np.fft.irfft(np.concatenate([[0], spectrum, [0]]), problem.size)


def test_waveform_against_numpy(problem):
    scale = problem.signal_to_noise / np.linalg.norm(wave_by_numpy(problem, 36, 29, 0))
    for phase in (0.0, 2.0):
        expected = [scale * wave_by_numpy(problem, *pair, phase) for pair in MASSES]
        wave = problem.waveform(tf.constant(MASSES), phase)
        assert wave.dtype == tf.float64
        np.testing.assert_allclose(wave, expected, atol=1e-10)
        np.testing.assert_allclose(problem.waveform(np.float32(MASSES), phase), expected, atol=1e-3)


def test_frequencies_come_when_post_newtonian_theory_has_them():
    """Newton's time to the merger, 5/256 𝓜 (π 𝓜 f)^(-8/3), and its first two corrections; light masses, long strain."""
    problem = tff.datasets.GravitationalWaves(duration=64.0, sampling_rate=128)
    m1, m2 = 3.0, 2.0
    total, eta = (m1 + m2) * 4.925491e-6, m1 * m2 / (m1 + m2) ** 2
    spectrum = np.fft.rfft(problem.waveform(tf.constant([m1, m2], tf.float64)))
    f = problem.frequencies
    phase = np.unwrap(np.angle(spectrum * np.exp(2j * np.pi * f * problem.merger))[f >= 30])[:-1]
    f = f[f >= 30][:-1]
    to_merger = np.gradient(phase, 2 * np.pi * f)
    newton = 5 / (256 * eta) * total * (np.pi * total * f) ** (-8 / 3)
    v = (np.pi * total * f) ** (1 / 3)
    corrected = newton * (1 + (743 / 252 + 11 / 3 * eta) * v**2 - 32 / 5 * np.pi * v**3)
    middle = slice(10, -10)
    np.testing.assert_allclose(to_merger[middle], corrected[middle], rtol=1e-4)
    assert 5 < to_merger[10] < newton[10] * 1.1


def test_signal_to_noise_is_that_asked_for(problem):
    power = np.linalg.norm(problem.waveform(tf.constant(MASSES), 1.0), axis=-1)
    assert power[0] == pytest.approx(6.0)
    assert power.min() > 0.1


def test_noise_is_white_of_unit_variance():
    problem = tff.datasets.GravitationalWaves(signal_to_noise=1e-6, duration=0.5, sampling_rate=128)
    n = 20_000
    masses = np.tile(MASSES[:1], [n, 1])
    noise, other = (problem.observe(masses, [seed, 0]).numpy() for seed in (1, 2))
    np.testing.assert_allclose(noise.T @ noise / n, np.eye(problem.size), atol=6 * np.sqrt(2 / n))
    np.testing.assert_allclose(noise.T @ other / n, 0, atol=6 / np.sqrt(n))
    np.testing.assert_allclose(noise.mean(0), 0, atol=6 / np.sqrt(n))


def test_phases_are_uniform():
    problem = tff.datasets.GravitationalWaves(signal_to_noise=100.0, duration=0.5, sampling_rate=128)
    n = 4000
    strain = problem.observe(np.tile(MASSES[:1], [n, 1]), [1, 0])
    quarters = problem.waveform(np.tile(MASSES[:1], [2, 1]), [0.0, np.pi / 2]).numpy()
    phase = np.arctan2(*(strain @ quarters.T).numpy().T)
    moments = [np.mean(np.exp(1j * k * phase)) for k in (1, 2, 3)]
    np.testing.assert_allclose(np.abs(moments), 0, atol=5 / np.sqrt(n))


def test_colored_noise_has_the_design_curve(problem):
    white = np.random.default_rng(0).normal(size=[4000, problem.size])
    strain = problem.color(white)
    periodogram = 2 * np.mean(np.abs(np.fft.rfft(strain)) ** 2, 0) / (problem.sampling_rate * problem.size)
    np.testing.assert_allclose(periodogram[1:-1], problem.noise_curve()[1:-1], rtol=0.1)
    np.testing.assert_allclose(problem.whiten(strain), white, atol=1e-10)
    # Sathyaprakash and Schutz's curve at f0 = 215 Hz, where x = 1.
    at_f0 = tff.datasets.GravitationalWaves(sampling_rate=512).noise_curve()[215]
    assert at_f0 * 1e49 == pytest.approx(1 - 5 + 111 * 0.5 / 1.5)


def test_likelihood_is_the_normal_density_of_the_noise_averaged_over_the_phase(problem):
    strain = problem.observe(MASSES[:1], [3, 0])[0].numpy()
    phases = 2 * np.pi * np.arange(256) / 256
    scale = problem.signal_to_noise / np.linalg.norm(wave_by_numpy(problem, 36, 29, 0))
    found = problem.log_likelihood(MASSES, strain)
    for pair, value in zip(MASSES, found.numpy(), strict=True):
        noise = strain - np.stack([scale * wave_by_numpy(problem, *pair, phase) for phase in phases])
        densities = -np.sum(noise**2, -1) / 2 - problem.size / 2 * np.log(2 * np.pi)
        assert value == pytest.approx(np.logaddexp.reduce(densities) - np.log(256), abs=1e-8)


def test_prior_integrates_to_one_and_has_edges(problem):
    edges = np.linspace(10, 60, 401)
    masses = np.stack(np.meshgrid(*[(edges[1:] + edges[:-1]) / 2] * 2), -1)
    density = np.exp(problem.prior.log_prob(masses))
    assert density.sum() * (edges[1] - edges[0]) ** 2 == pytest.approx(1, abs=5e-3)  # cells across the edges
    outside = [[36.0, 36.1], [29.9, 25.0], [60.1, 50.0], [40.0, 15.9]]
    assert np.all(problem.joint_log_prob(outside, np.zeros(64)) == -np.inf)
    assert np.all(np.isfinite(problem.prior.log_prob(MASSES)))


def test_a_standard_normal_becomes_the_prior(problem):
    flow = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), problem.bijector)
    masses = flow.sample(10_000, seed=(0, 0)).numpy()
    np.testing.assert_allclose(flow.log_prob(masses[:100]), problem.prior.log_prob(masses[:100]), atol=1e-3)
    m1, m2 = problem.bijector.forward(10 * tf.random.stateless_normal([1000, 2], (1, 1))).numpy().T
    assert np.all((m1 > 30 - 1e-4) & (m1 < 60 + 1e-4) & (m2 / m1 > 0.4 - 1e-6) & (m2 / m1 < 1 + 1e-6))
    strain, drawn = problem.sample(100_000, seed=0)
    assert strain.dtype == drawn.dtype == np.float32
    z = problem.bijector.inverse(drawn).numpy()
    np.testing.assert_allclose(z.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.02)


def test_draws_at_the_very_edges_are_finite_for_a_flow(problem, monkeypatch):
    for edge in (0.0, 1 - 2**-24):
        monkeypatch.setattr(
            tf.random, "stateless_uniform", lambda shape, *_, e=edge, **__: tf.fill(shape, np.float32(e))
        )
        _, masses = problem.draw([0, 0], 3)
        assert np.all(np.isfinite(problem.bijector.inverse(masses)))


def test_evidence_of_the_grid_against_draws_from_the_prior(problem):
    strains, _ = problem.sample(5, seed=4)
    m1, q = np.random.default_rng(0).uniform([30, 0.4], [60, 1], [40_000, 2]).T
    draws = np.stack([m1, m1 * q], -1)
    for strain in strains:
        log_weights = problem.log_likelihood(draws, strain).numpy()
        found = tff.inference.ImportanceSample(draws, log_weights)
        exact = problem.posterior(strain, size=60)
        assert found.log_evidence_std < 0.05
        assert abs(found.log_evidence - exact.log_evidence) < 4 * found.log_evidence_std
        mean = np.sum(exact.probability[..., np.newaxis] * exact.masses, (0, 1))
        np.testing.assert_allclose(found.mean(), mean, atol=0.5)


def test_grid_is_fine_enough_and_normalized(problem):
    strain = problem.sample(1, seed=5)[0][0]
    coarse, fine = (problem.posterior(strain, size) for size in (60, 120))
    assert coarse.log_evidence == pytest.approx(fine.log_evidence, abs=1e-3)
    assert fine.probability.sum() == pytest.approx(1)
    m1, m2 = np.moveaxis(fine.masses, -1, 0)
    area = (m1[1, 0] - m1[0, 0]) * m1 * (m2 / m1)[0, 1:2] - (m1[1, 0] - m1[0, 0]) * m1 * (m2 / m1)[0, :1]
    np.testing.assert_allclose(np.exp(fine.log_prob) * area, fine.probability, atol=1e-9)
    np.testing.assert_allclose(
        fine.log_prob + fine.log_evidence, problem.joint_log_prob(fine.masses, strain), atol=1e-9
    )


def test_graph_xla_and_eager_agree(problem):
    strain, masses = problem.draw([7, 0], 4)
    # XLA has a generator of its own: the same law, other numbers.
    compiled = tf.function(problem.draw, jit_compile=True)(tf.constant([7, 0]), 4)
    assert np.all(np.isfinite(problem.joint_log_prob(compiled[1], compiled[0])))
    wave = problem.waveform(masses, 1.0)
    np.testing.assert_allclose(tf.function(problem.waveform, jit_compile=True)(masses, 1.0), wave, atol=1e-4)
    joint = problem.joint_log_prob(masses, strain)
    np.testing.assert_allclose(tf.function(problem.joint_log_prob, jit_compile=True)(masses, strain), joint, rtol=1e-9)
    context, x = next(iter(tff.datasets.simulator(problem.draw, 16, seed=0)))
    assert context.shape == (16, 64) and x.shape == (16, 2)


def test_seeds_fix_the_sample(problem):
    first, same, other = (problem.sample(10, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], same[0])
    assert not np.any(first[1] == other[1])
    strain = problem.observe(np.tile(MASSES[:1], [2, 1]), [0, 0]).numpy()
    assert np.abs(strain[0] - strain[1]).max() > 0.1


def test_gradients_are_those_of_differences(problem):
    strain = problem.observe(MASSES, [8, 0])
    masses = tf.constant(MASSES)
    with tf.GradientTape() as tape:
        tape.watch(masses)
        value = problem.log_likelihood(masses, strain)
    gradient = tape.gradient(value, masses).numpy()
    for k, step in enumerate(1e-5 * np.eye(2)):
        difference = problem.log_likelihood(MASSES + step, strain) - problem.log_likelihood(MASSES - step, strain)
        np.testing.assert_allclose(gradient[:, k], difference / 2e-5, rtol=1e-4, atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(masses)
        value = problem.log_likelihood(masses, tf.zeros([64]))
    assert np.all(np.isfinite(tape.gradient(value, masses)))


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda _: tff.datasets.GravitationalWaves(signal_to_noise=0), "Received: signal_to_noise=0"),
        (lambda _: tff.datasets.GravitationalWaves(duration=-1), "Received: .* duration=-1"),
        (
            lambda _: tff.datasets.GravitationalWaves(sampling_rate=60),
            "30 Hz and half the rate.* Received: .*sampling_rate=60",
        ),
        (lambda _: tff.datasets.GravitationalWaves(1.0, 1.0, 255), "even number of .* Received: .*sampling_rate=255"),
        (lambda problem: problem.sample(0), "Received: n=0"),
        (lambda problem: problem.waveform([36.0, 29.0, 1.0]), r"shape \[..., 2\]. Received: float32, shape \(3,\)"),
        (lambda problem: problem.waveform([36, 29]), "Received: int32"),
        (lambda problem: problem.log_likelihood(MASSES, np.zeros(63)), r"64\]. Received: shape \(63,\)"),
        (lambda problem: problem.posterior(np.zeros(64), size=0), "Received: size=0"),
        (lambda problem: problem.posterior(np.zeros([2, 64])), r"one strain, of 64 .* Received: array\(\[\["),
        (lambda problem: problem.posterior(np.full(64, np.nan)), r"finite numbers. Received: array\(\[nan"),
        (lambda _: tff.datasets.GravitationalWaves(12.0, 0.25, 64), "Received: .* duration=0.25, sampling_rate=64"),
    ],
)
def test_bad_input(problem, call, expected):
    with pytest.raises(ValueError, match=expected):
        call(problem)
