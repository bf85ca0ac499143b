"""What is done with a trained flow, held against answers that are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.inference.coverage import binomial_band

inference = tff.inference


def gaussian(loc, scale):
    """A flow that is exactly normal, with coordinates of these locations and widths."""
    flow = tff.flows.gaussian(len(loc), "full", dtype=tf.float64)
    flow.bijector.bijectors[0].shift.assign(loc)
    wide = tfd.TransformedDistribution(
        flow.distribution, tfb.Chain([*flow.bijector.bijectors, tfb.Scale(np.float64(scale))])
    )
    return wide


def normal_log_prob(loc, scale):
    normal = tfd.MultivariateNormalDiag(np.float64(loc), np.float64(scale))
    return lambda x: normal.log_prob(tf.cast(x, tf.float64))


# Importance sampling


def test_evidence_and_its_error_are_right_over_many_repetitions():
    flow = tff.FlowModel(gaussian([0.2, 0.0], [1.2, 1.3]))
    target = normal_log_prob([0.0, 0.0], [1.0, 1.0])
    found = [
        inference.importance_sample(flow, lambda x: target(x) + 7.0, 500, seed=seed, batch_size=300)
        for seed in range(100)
    ]
    pulls = np.array([(one.log_evidence - 7.0) / one.log_evidence_std for one in found])
    assert abs(pulls.mean()) < 0.3 and 0.8 < pulls.std() < 1.2
    one = found[0]
    assert one.samples.shape == (500, 2) and one.log_weights.shape == (500,)
    # The second moment of the weights has a closed form: E[w²] = Π s² / √(2 s² - 1) for widths s around one centre.
    centred = inference.importance_sample(gaussian([0.0, 0.0], [1.2, 1.3]), target, 20_000, seed=0)
    expected = np.prod(np.sqrt(2 * np.square([1.2, 1.3]) - 1) / np.square([1.2, 1.3]))
    assert abs(centred.ess / 20_000 - expected) < 0.01


def test_draws_of_the_target():
    target = normal_log_prob([0.5, 0.0], [0.7, 0.8])
    found = inference.importance_sample(gaussian([0.0, 0.0], [1.0, 1.0]), target, 20_000, seed=0)
    draws = found.resample(5000, seed=1)
    np.testing.assert_allclose(draws.mean(0), [0.5, 0.0], atol=0.05)
    np.testing.assert_allclose(draws.std(0), [0.7, 0.8], atol=0.05)
    np.testing.assert_allclose(found.mean(), [0.5, 0.0], atol=0.03)
    np.testing.assert_allclose(found.mean(found.samples**2), [0.74, 0.64], atol=0.05)
    np.testing.assert_array_equal(draws, found.resample(5000, seed=1))
    text = str(found)
    assert "log evidence" in text and "effective sample size" in text and "reliable" in text


def test_a_proposal_too_narrow_is_told():
    target = normal_log_prob([0.0, 0.0], [3.0, 3.0])
    with pytest.warns(UserWarning, match="Pareto shape"):
        found = inference.importance_sample(gaussian([0.0, 0.0], [1.0, 1.0]), target, 5000, seed=0)
    assert found.pareto_k > 0.7 and "not reliable" in str(found)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_shape_of_power_laws(k):
    uniform = np.random.default_rng(0).uniform(size=[20, 20_000])
    found = [inference.pareto_shape(-k * np.log(row) + 1000.0) for row in uniform]
    assert abs(np.mean(found) - k) < 0.05
    assert inference.pareto_shape(np.zeros(1000)) == -np.inf


def test_pareto_shape_is_that_of_arviz():
    """What `arviz.psislw` of ArviZ 0.22 gives for the same weights."""
    expected = [0.2375, 0.2558, 0.1231, 0.8179, 0.4946, 0.496, 0.6588, 0.6061, 0.9833, 1.0342, 0.5946, 1.1107]
    generator = np.random.default_rng(0)
    found = [
        inference.pareto_shape(-k * np.log(generator.uniform(size=n)))
        for k in (0.1, 0.5, 0.9, 1.2)
        for n in (100, 1000, 20_000)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bad_targets():
    flow = gaussian([0.0, 0.0], [1.0, 1.0])
    for target, words in [
        (lambda x: x, r"Received: shape \(10, 2\)"),
        (lambda x: x[:, 0] * np.nan, r"10 NaN"),
        (lambda x: x[:, 0] * 0 - np.inf, r"density of 0 at every draw"),
    ]:
        with pytest.raises(ValueError, match=words):
            inference.importance_sample(flow, target, 10)
    with pytest.raises(ValueError, match=r"Received: num_samples=0"):
        inference.importance_sample(flow, lambda x: x[:, 0], 0)
    conditional = tff.flows.realnvp(2, num_layers=2, context_size=3)
    with pytest.raises(ValueError, match=r"one context, not a batch"):
        inference.importance_sample(conditional, lambda x: x[..., 0], 10, np.zeros([4, 3]))


# Coverage


def test_the_band_holds_its_promise():
    levels = np.linspace(0.05, 0.95, 19)
    lower, upper = binomial_band(300, levels, 0.9)
    uniform = np.random.default_rng(5).uniform(size=[4000, 300])
    curves = np.mean(uniform[:, :, None] <= levels, 1)
    inside = np.mean(np.all((lower <= curves) & (curves <= upper), 1))
    assert 0.89 <= inside < 0.93


@pytest.fixture(scope="module")
def problem():
    return tff.datasets.LinearGaussian(3, 5, seed=0)


def exact_posterior(problem, width=1.0):
    """The exact posterior as a conditional flow; or one too wide or too narrow."""
    flow = tff.flows.gaussian(3, "full", embedding=summary(problem), dtype=tf.float64, hidden_units=(6,))
    affine = flow.bijector.bijector.bijectors[0]
    network = affine.conditioner
    # ReLU(m) - ReLU(-m) = m: the network hands the summary on as the shift.
    network.input_layer.kernel.assign(np.concatenate([np.eye(3), -np.eye(3)], 1))
    network.input_layer.bias.assign(np.zeros(6))
    kernel = np.zeros(network.output_layer.kernel.shape)
    kernel[:, :3] = np.concatenate([np.eye(3), -np.eye(3)])
    network.output_layer.kernel.assign(kernel)
    scale = tfb.ScaleMatvecTriL(width * np.linalg.cholesky(problem.covariance))
    chain = tfb.Chain([affine, scale])
    return tfd.TransformedDistribution(flow.distribution, tff.bijectors.Embedded(chain, flow.bijector.embedding))


def summary(problem):
    """The posterior's mean, linear in the observables."""
    layer = keras.layers.Dense(3, use_bias=False, dtype="float64")
    network = keras.Sequential([keras.Input((5,), dtype="float64"), layer])
    layer.kernel.assign(problem.response @ problem.covariance / problem.noise**2)
    return network


def test_coverage_ranks_and_expected_coverage_of_the_exact_posterior(problem):
    context, theta = problem.sample(2000, seed=1)
    model = tff.FlowModel(exact_posterior(problem))
    np.testing.assert_allclose(model.log_prob(theta, context), problem.posterior(context).log_prob(theta), rtol=1e-5)
    assert inference.coverage(model, theta, context).inside
    assert inference.expected_coverage(model, theta, context, seed=0).inside
    ranks = inference.rank_statistics(model, theta, context, seed=0, batch_size=700)
    assert ranks.ranks.shape == (2000, 3) and ranks.ranks.min() == 0 and ranks.ranks.max() == 100
    assert all(ranks.coverage(k).inside for k in range(3))


@pytest.mark.parametrize("width", [0.8, 1.25])
def test_a_posterior_of_the_wrong_width_is_found_out(problem, width):
    context, theta = problem.sample(2000, seed=1)
    model = tff.FlowModel(exact_posterior(problem, width))
    found = inference.coverage(model, theta, context)
    assert not found.inside and "OUTSIDE" in str(found)
    assert np.all(np.sign(found.observed - found.nominal)[2:-2] == np.sign(width - 1))
    assert not inference.rank_statistics(model, theta, context, seed=0).coverage(0).inside
    assert not inference.expected_coverage(model, theta, context, seed=0).inside


def test_coverage_wants_a_normal_base():
    flow = tff.flows.nice(2, base=tfd.MultivariateNormalDiag(tf.zeros(2), 2 * tf.ones(2)))
    with pytest.raises(ValueError, match=r"Expected a standard normal as base"):
        inference.coverage(flow, np.ones([20, 2], "float32"))
    with pytest.raises(ValueError, match=r"Expected `levels`"):
        inference.coverage(tff.flows.nice(2), np.ones([20, 2], "float32"), levels=[0.5, 1.0])


# Expectations


def test_the_gradient_of_the_entropy_is_that_of_a_gaussian():
    flow = tff.flows.gaussian(3, "full", dtype=tf.float64)
    affine = flow.bijector.bijectors[0]
    affine.scale.assign(np.random.default_rng(0).normal(size=6))

    def gradients(function):
        with tf.GradientTape() as tape:
            value = function()
        return value, tape.gradient(value, [affine.scale, affine.shift], unconnected_gradients="zero")

    def exact():
        _, _, log_det = affine._shift_and_scale(None)
        return log_det + 1.5 * np.log(2 * np.pi * np.e)

    def detached():
        x = tf.stop_gradient(flow.sample(50_000, seed=(0, 1)))
        return -tf.reduce_mean(flow.log_prob(tf.identity(x)))

    (value, ours), (expected, right), (_, wrong) = (
        gradients(function) for function in (lambda: inference.entropy(flow, 50_000, seed=0), exact, detached)
    )
    assert abs(value - expected) < 0.02
    for a, b in zip(ours, right, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    assert np.abs(wrong[0]).max() < 0.05 < np.abs(right[0]).max()


def test_expectations_moments_and_divergences_of_gaussians():
    p, q = gaussian([0.5, -1.0], [1.0, 2.0]), gaussian([0.0, 0.0], [1.5, 2.0])
    mean, covariance = inference.moments(p, 50_000, seed=0)
    np.testing.assert_allclose(mean, [0.5, -1.0], atol=0.03)
    np.testing.assert_allclose(covariance, np.diag([1.0, 4.0]), atol=0.06)
    np.testing.assert_allclose(inference.expectation(p, lambda x: x**2, 50_000, seed=0), [1.25, 5.0], atol=0.1)
    exact = np.log(1.5) + (1 + 0.25) / (2 * 1.5**2) - 0.5 + 1 / (2 * 4)
    np.testing.assert_allclose(inference.kl(p, q, 50_000, seed=0), exact, atol=0.01)
    with tf.GradientTape() as tape:
        loss = inference.kl(p, q, 50_000, seed=0)
    shift = p.bijector.bijectors[0].shift
    np.testing.assert_allclose(tape.gradient(loss, shift), [0.5 / 1.5**2, -1 / 4], atol=0.02)


def test_expectations_for_contexts():
    model = tff.FlowModel(tff.flows.gaussian(2, "diag", context_size=3, seed=0))
    context = np.ones([5, 3], "float32")
    assert inference.entropy(model, 10, context).shape == (5,)
    assert inference.expectation(model, lambda x: x, 10, context).shape == (5, 2)
    assert inference.moments(model, 10, context)[1].shape == (5, 2, 2)
    assert inference.kl(model, tff.flows.nice(2), 10, context).shape == (5,)


# Variational inference


def test_path_gradients_are_zero_where_the_flow_is_the_target():
    flow = gaussian([0.3, -0.2], [1.0, 1.0])
    target = normal_log_prob([0.3, -0.2], [1.0, 1.0])

    def gradient(**how):
        with tf.GradientTape() as tape:
            loss = inference.reverse_kl(flow, target, 100, seed=0, **how)
        return loss, np.concatenate([np.ravel(g) for g in tape.gradient(loss, flow.trainable_variables)])

    (plain_loss, plain), (path_loss, path) = gradient(), gradient(path_gradient=True)
    assert plain_loss == path_loss
    np.testing.assert_allclose(path, 0, atol=1e-10)
    assert np.abs(plain).max() > 0.01  # noise alone
    # Elsewhere both estimate the same.
    target = normal_log_prob([1.0, 1.0], [1.0, 2.0])
    plain, path = (
        np.mean([gradient_of(flow, target, seed, path_gradient) for seed in range(30)], 0)
        for path_gradient in (False, True)
    )
    np.testing.assert_allclose(plain, path, atol=0.05)
    assert np.abs(path).max() > 0.3


def gradient_of(flow, target, seed, path_gradient):
    with tf.GradientTape() as tape:
        loss = inference.reverse_kl(flow, target, 1000, seed=seed, path_gradient=path_gradient)
    return np.concatenate([np.ravel(g) for g in tape.gradient(loss, flow.trainable_variables)])


def banana(x):
    x = tf.convert_to_tensor(x)
    a, b = x[..., 0], x[..., 1] - x[..., 0] ** 2 / 2
    return -(a**2) / 2 - b**2 / (2 * 0.5**2)


BANANA_LOG_EVIDENCE = np.log(2 * np.pi * 0.5)


@pytest.mark.parametrize("path_gradient", [False, True])
def test_reverse_kl_reaches_the_evidence(path_gradient):
    flow = tff.flows.realnvp(2, num_layers=2, hidden_units=(16,), seed=0)
    losses = inference.fit_reverse_kl(
        flow,
        banana,
        num_steps=500,
        optimizer=keras.optimizers.Adam(0.01),
        path_gradient=path_gradient,
        annealing=lambda step: tf.minimum(1.0, 0.1 + step / 100),
        seed=0,
    )
    assert losses.shape == (500,)
    assert 0 <= np.mean(losses[-50:]) + BANANA_LOG_EVIDENCE < 0.1
    found = inference.importance_sample(flow, banana, 5000, seed=0)
    assert abs(found.log_evidence - BANANA_LOG_EVIDENCE) < 4 * found.log_evidence_std


def test_bad_variational_targets():
    with pytest.raises(ValueError, match=r"one log-density a draw"):
        inference.fit_reverse_kl(tff.flows.nice(2, num_layers=2), lambda x: x, num_steps=1)


@pytest.fixture(scope="module")
def fitted():
    """A flow fitted to the banana by TFP's own means, as any surrogate."""
    flow = tff.flows.realnvp(2, num_layers=2, hidden_units=(16,), seed=0)
    losses = tfp.vi.fit_surrogate_posterior(
        banana, flow, tf_keras.optimizers.Adam(0.01), num_steps=300, sample_size=128, jit_compile=True, seed=(0, 1)
    )
    flow.losses = losses.numpy()
    return flow


def test_flows_are_surrogates_for_tfp(fitted):
    assert np.mean(fitted.losses[-50:]) + BANANA_LOG_EVIDENCE < 0.2 < fitted.losses[0] + BANANA_LOG_EVIDENCE


def test_flows_precondition_tfps_chains(fitted):
    kernel = tfp.mcmc.TransformedTransitionKernel(
        tfp.mcmc.HamiltonianMonteCarlo(banana, step_size=1.0, num_leapfrog_steps=2), fitted.bijector
    )

    @tf.function(autograph=False)
    def run():
        return tfp.mcmc.sample_chain(
            200,
            tf.zeros([50, 2]),
            kernel=kernel,
            num_burnin_steps=20,
            trace_fn=lambda _, results: results.inner_results.is_accepted,
            seed=(0, 1),
        )

    draws, accepted = run()
    assert np.mean(accepted) > 0.7
    x = np.reshape(draws, [-1, 2])
    assert abs(x[:, 0].mean()) < 0.1 and abs(x[:, 0].std() - 1) < 0.1 and abs(x[:, 1].mean() - 0.5) < 0.1


# All of it on the problem with a known posterior, on a short setting; benchmarks/linear_gaussian.py has the long one.


def test_a_trained_flow_on_the_linear_gaussian_problem():
    problem = tff.datasets.LinearGaussian(4, 20, seed=0)
    embedding = keras.Sequential([keras.Input((20,)), keras.layers.Dense(4)])
    model = tff.FlowModel(tff.flows.gaussian(4, "full", embedding=embedding, activation="silu", seed=0))
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 1000)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0))
    model.fit(tff.datasets.simulator(problem.draw, 256, seed=0), steps_per_epoch=1000, verbose=0)

    contexts, _ = problem.sample(200, seed=1)
    posterior = problem.posterior(contexts)
    theta = posterior.sample(500, seed=1)
    divergence = np.mean(posterior.log_prob(theta) - np.float64(model.log_prob(np.float32(theta), contexts)))
    assert 0 < divergence < 0.1
    found = [
        inference.importance_sample(model, lambda x, c=c: problem.joint_log_prob(x, c), 4000, c, seed=0)
        for c in contexts[:10]
    ]
    exact = [problem.log_evidence(c) for c in contexts[:10]]
    pulls = [(one.log_evidence - log_z) / one.log_evidence_std for one, log_z in zip(found, exact, strict=True)]
    assert np.abs(pulls).max() < 4 and np.mean([one.ess / 4000 for one in found]) > 0.8
    contexts, theta = problem.sample(500, seed=2)
    assert inference.coverage(model, theta, contexts).inside
