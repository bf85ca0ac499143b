"""Posteriors from a prior and a simulator: inside the prior, right where the answer is known, saved, in rounds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.distributions import Flow
from tfp_flows.inference._truncated import Region, truncated_sample

BOX = tfd.Independent(tfd.Uniform([-1.0, 0.0], [1.0, 10.0]), 1)
QUICK = {"flow": "gaussian", "hidden_units": (16,), "epochs": 1, "seed": 0}


def blurred(theta, seed, noise=(0.1, 0.5)):
    return theta + np.multiply(noise, np.random.default_rng(seed).normal(size=theta.shape))


def joint():
    """A joint distribution whose second part depends on the first."""

    def second(a):
        return tfd.Independent(tfd.Uniform(a[..., tf.newaxis], a[..., tf.newaxis] + [1.0, 2.0]), 1)

    return tfd.JointDistributionNamed({"a": tfd.Uniform(0.0, 1.0), "b": second})


@pytest.fixture(scope="module", autouse=True)
def without_xla():
    """Small networks of a few steps, which XLA would take longer to compile than to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfp_flows.model.training.prefers_jit", lambda distribution: False)
        yield


@pytest.fixture(scope="module")
def boxed():
    """A posterior over a box."""
    return tff.inference.posterior(BOX, blurred, 1000, num_layers=2, hidden_units=(32,), epochs=100, seed=0)


def has_density(prior, x):
    log_prob = prior.log_prob(x).numpy()
    return ~np.isnan(log_prob) & ~np.isneginf(log_prob)


PRIORS = {
    "box": lambda: BOX,
    "narrow box far from 0": lambda: tfd.Independent(tfd.Uniform([1000.0, -1.0], [1001.0, 1e-6]), 1),
    "sample": lambda: tfd.Sample(tfd.Uniform(-1.0, 1.0), 3),
    "positive": lambda: tfd.Independent(tfd.LogNormal([0.0, 5.0], 1.0), 1),
    "half normal": lambda: tfd.Independent(tfd.HalfNormal([1.0, 3.0]), 1),
    "truncated normal": lambda: tfd.Independent(tfd.TruncatedNormal([0.0, 3.0], 1.0, -1.0, 2.0), 1),
    "beta": lambda: tfd.Independent(tfd.Beta([0.5, 2.0], 0.5), 1),
    "blocks": lambda: tfd.Blockwise(
        [tfd.Uniform(0.0, 1.0), tfd.Gamma(2.0, 1.0), tfd.MultivariateNormalDiag([0.0] * 2)]
    ),
    "joint": lambda: tfd.Blockwise(joint()),
    "float64": lambda: tfd.Independent(tfd.Uniform(np.zeros(2), np.ones(2)), 1),
}


@pytest.mark.parametrize("name", PRIORS)
def test_nothing_leaves_the_prior_from_however_far_it_comes(name):
    prior = PRIORS[name]()
    support = tff.bijectors.Support(prior)
    z = np.random.default_rng(0).normal(size=[500, support.event_size])
    for size in (1.0, 30.0, 1e15):
        x = support.forward(tf.cast(size * z, prior.dtype))
        # (A density that is infinite at an edge, as Beta's, is a density.)
        assert np.isfinite(x).all() and has_density(prior, x).all()
        assert np.isfinite(support.inverse_log_det_jacobian(tf.identity(x))).all()


def test_no_draw_leaves_the_prior_at_extreme_weights():
    support = tff.bijectors.Support(BOX)
    flow = tff.flows.realnvp(2, num_layers=2, context_size=1, seed=0)
    flow = Flow(flow.distribution, tfb.Chain([support, flow.bijector]))
    random = np.random.default_rng(0)
    for size in (1.0, 100.0):
        for variable in flow.trainable_variables:
            variable.assign_add(size * random.normal(size=variable.shape))
        draws = tff.condition(flow, [[-100.0], [100.0]]).sample(2000, seed=(0, 1))
        assert has_density(BOX, draws).all()


@pytest.mark.parametrize("name", PRIORS)
def test_a_standard_normal_becomes_a_uniform_prior_and_keeps_its_measure(name):
    prior = PRIORS[name]()
    support = tff.bijectors.Support(prior)
    x = prior.sample(500, seed=(0, 1))
    z = support.inverse(tf.identity(x))
    np.testing.assert_allclose(support.forward(tf.identity(z)), x, rtol=1e-4, atol=1e-5)
    base = tfd.MultivariateNormalDiag(tf.zeros([support.event_size], prior.dtype))
    if name in ("box", "sample", "float64"):
        log_prob = base.log_prob(z) + support.inverse_log_det_jacobian(tf.identity(x))
        np.testing.assert_allclose(log_prob, prior.log_prob(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_at_and_beyond_the_ends_nothing_is_nan(name):
    prior = PRIORS[name]()
    support = tff.bijectors.Support(prior)
    far = tf.constant([[1e15], [-1e15], [1e3], [-1e3]], prior.dtype) * tf.ones([support.event_size], prior.dtype)
    ends = support.forward(far)
    for points in (far, ends):
        with tf.GradientTape() as tape:
            tape.watch(points)
            log_det = support.inverse_log_det_jacobian(tf.identity(points))
            z = support.inverse(tf.identity(points))
        assert not np.isnan(log_det).any() and np.isfinite(z).all()
        assert np.isfinite(tape.gradient([log_det, z], points)).all()
        assert not np.isneginf(log_det)[has_density(prior, points)].any()


def test_the_density_of_a_box_integrates_to_one_and_ends_with_it(boxed):
    nodes, weights = np.polynomial.legendre.leggauss(150)  # dense at the ends, where a density may be steep
    grid = np.stack(np.meshgrid(nodes, 5 + 5 * nodes), -1).reshape(-1, 2).astype(np.float32)
    for x in ([0.0, 5.0], [1.0, 10.0]):
        masses = 5 * np.outer(weights, weights).ravel() * np.exp(boxed.log_prob(grid, x))
        assert abs(masses.sum() - 1) < 0.01
        draws = boxed.sample(5000, x, seed=0).numpy()
        assert np.all(np.isfinite(BOX.log_prob(draws)))
    outside = boxed.log_prob([[1.1, 5.0], [0.0, -0.1], [0.0, 1e15]], [1.0, 5.0])
    assert np.all(np.isneginf(outside))
    # Seen at the corner, the posterior leans on it, as the exact one does: θ₀ given x₀ = 1 is half a normal.
    assert abs(np.mean(1 - draws[:, 0]) - 0.08) < 0.1


def test_it_works_with_what_takes_a_flow(boxed, tmp_path):
    theta = BOX.sample(300, seed=(0, 1)).numpy()
    x = blurred(theta, seed=2).astype(np.float32)
    assert tff.inference.coverage(boxed, theta, x, confidence=0.999).observed[9] == pytest.approx(0.5, abs=0.15)
    assert tff.inference.rank_statistics(boxed, theta, x, num_samples=20, seed=0).ranks.shape == (300, 2)

    def target(theta):
        likelihood = tfd.MultivariateNormalDiag([0.0, 5.0], [0.1, 0.5])
        return likelihood.log_prob(theta) + BOX.log_prob(theta)

    found = tff.inference.importance_sample(boxed, target, 2000, [0.0, 5.0], seed=0)
    assert found.log_evidence == pytest.approx(-np.log(20), abs=0.05) and found.ess > 500
    boxed.save(tmp_path / "posterior.keras")
    loaded = keras.models.load_model(tmp_path / "posterior.keras")
    np.testing.assert_array_equal(loaded.log_prob(theta, x), boxed.log_prob(theta, x))


def test_the_posterior_of_a_linear_gaussian_problem():
    problem = tff.datasets.LinearGaussian(num_parameters=2, num_observables=3, seed=0)
    x, theta = problem.sample(4000, seed=1)
    prior = tfd.MultivariateNormalDiag(tf.zeros([2]))
    model = tff.inference.posterior(prior, (theta, x), flow="gaussian", hidden_units=(32,), epochs=30, seed=0)
    x, theta = problem.sample(1000, seed=2)
    exact = problem.posterior(x).log_prob(theta.astype(np.float64)).numpy()
    assert np.mean(exact - model.log_prob(theta, x)) < 0.03


def test_what_is_linear_is_known_before_the_first_step():
    problem = tff.datasets.LinearGaussian(num_parameters=2, num_observables=3, seed=0)
    x, theta = problem.sample(500, seed=1)
    prior = tfd.MultivariateNormalDiag(tf.zeros([2]))
    arguments = {"num_layers": 2, "hidden_units": (8,), "epochs": 1, "learning_rate": 1e-9, "seed": 0}
    model, without = (
        tff.inference.posterior(prior, (theta, x * [1, 100, 1] + [0, 0, 9]), regression=regression, **arguments)
        for regression in (True, False)
    )
    x, theta = problem.sample(1000, seed=2)
    exact = problem.posterior(x).log_prob(theta.astype(np.float64)).numpy()
    context = x * np.float32([1, 100, 1]) + np.float32([0, 0, 9])
    assert np.mean(exact - model.log_prob(theta, context)) < 0.03
    assert np.mean(exact - without.log_prob(theta, context)) > 0.3


def test_an_ensemble_is_a_mixture_and_is_saved(tmp_path):
    embedding = keras.Sequential([keras.Input((2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = tff.inference.posterior(
        BOX, lambda theta, seed: blurred(theta, seed)[..., None], 200, embedding=embedding, ensemble=2, **QUICK
    )
    theta, x = BOX.sample(5, seed=(0, 1)), np.ones([5, 2, 1], np.float32)
    members = [tff.condition(member, x).log_prob(theta) for member in model.distribution.components]
    assert np.std(members, 0).min() > 1e-4  # each has an embedding of its own
    np.testing.assert_allclose(model.log_prob(theta, x), np.logaddexp.reduce(members) - np.log(2), rtol=1e-5)
    assert model.sample(4, x).shape == (4, 5, 2)
    model.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(loaded.log_prob(theta, x), model.log_prob(theta, x), rtol=1e-6)


def test_rounds_simulate_where_the_posterior_is():
    asked = []

    def simulator(theta, seed):
        asked.append(theta)
        return blurred(theta, seed, (0.02, 0.1))

    arguments = {**QUICK, "epochs": 150}
    model = tff.inference.posterior(BOX, simulator, 1501, rounds=2, observation=[0.5, 2.0], **arguments)
    assert [len(theta) for theta in asked] == [750, 751]
    assert np.all(asked[1].std(0) < 0.5 * asked[0].std(0))
    assert np.all(np.abs(asked[1].mean(0) - [0.5, 2.0]) < 0.3 * asked[0].std(0))
    draws = model.sample(2000, [0.5, 2.0], seed=0).numpy()
    assert np.all(np.abs(draws.mean(0) - [0.5, 2.0]) < 0.1 * asked[0].std(0))
    assert np.all(draws.std(0) < 0.2 * asked[0].std(0))


def test_later_proposals_are_the_prior_within_all_regions():
    ring = tff.FlowModel(tfd.Independent(tfd.Normal([0.0, 5.0], [0.3, 1.0]), 1))
    regions = [Region(ring, None, -3.0), Region(ring, None, -2.0)]
    theta = truncated_sample(BOX, regions, 3000, 1_000_000, seed=0)
    radius = (theta[:, 0] / 0.3) ** 2 + (theta[:, 1] - 5) ** 2
    limit = 2 * (2 - np.log(2 * np.pi * 0.3))
    assert len(theta) == 3000 and radius.max() < limit
    # Uniform in an ellipse, the squared radius is uniform.
    assert np.mean(radius / limit) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="Received: .* of 3000 simulations accepted among 10000 draws"):
        truncated_sample(BOX, regions, 3000, 10_000, seed=0)


def test_a_joint_prior_and_a_seed():
    def simulator(theta, seed):
        assert theta.shape == (200, 3)
        return blurred(theta, seed, 0.1)

    first, second = (tff.inference.posterior(joint(), simulator, 200, **QUICK) for _ in range(2))
    draws = first.sample(500, np.ones(3), seed=0).numpy()
    np.testing.assert_array_equal(draws, second.sample(500, np.ones(3), seed=0))
    a, b = draws[:, :1], draws[:, 1:]
    assert np.all((a >= 0) & (a <= 1) & (b >= a) & (b <= a + np.array([1, 2])))


THETA = np.full([50, 2], 0.5, np.float32)
BAD = {
    "prior": {"prior": 3.0},
    "a batch of priors": {"prior": tfd.Uniform([0.0, 0.0], 1.0)},
    "a prior of integers": {"prior": tfd.Sample(tfd.Poisson(1.0), 2)},
    "a prior without a bijector": {"prior": tfd.Mixture(tfd.Categorical([0.0, 0.0]), [BOX, BOX])},
    "flow": {"flow": "no_such_flow"},
    "θ outside": {"simulations": (THETA - 2, THETA)},
    "θ of another size": {"simulations": (THETA[:, :1], THETA)},
    "θ of integers": {"simulations": (THETA.astype(int), THETA)},
    "NaN in θ": {"simulations": (THETA * [1, np.nan], THETA)},
    "NaN in x": {"simulations": (THETA, THETA * np.nan)},
    "lengths": {"simulations": (THETA, THETA[1:])},
    "x of one column": {"simulations": (THETA, THETA[:, 0])},
    "not two arrays": {"simulations": THETA},
    "arrays and rounds": {"rounds": 2},
    "arrays and a number": {"num_simulations": 100},
    "no number": {"simulations": blurred},
    "a float for a number": {"simulations": blurred, "num_simulations": 1e3},
    "no observation": {"simulations": blurred, "num_simulations": 100, "rounds": 2},
    "a wrong observation": {"simulations": blurred, "num_simulations": 100, "rounds": 2, "observation": [0.0]},
    "too few rows from the simulator": {"simulations": lambda theta, seed: theta[1:], "num_simulations": 100},
    "ensemble": {"ensemble": 0},
    "validation_split": {"validation_split": 1.0},
    "one simulation": {"simulations": (THETA[:1], THETA[:1])},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments = {"prior": BOX, "simulations": (THETA, THETA), **QUICK, **BAD[name]}
    with pytest.raises((TypeError, ValueError), match="Received: "):
        tff.inference.posterior(**arguments)
