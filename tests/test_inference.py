"""What is done with a trained flow, held against answers that are known."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.inference._reference import predicted_points
from tfp_flows.inference.coverage import binomial_band

inference = tff.inference


def gaussian(loc, scale):
    """A flow that is exactly normal, with coordinates of these locations and widths."""
    flow = tff.flows.gaussian(len(loc), "full", dtype=tf.float64, standardize=False)
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


def test_the_error_of_the_evidence_is_its_spread_over_many_repetitions():
    # Few draws, so that n and n - 1 differ; weights near one, so that the logarithm is linear.
    log_weights = 0.05 * np.random.default_rng(0).normal(size=[20_000, 4])
    found = [inference.ImportanceSample(np.zeros([4, 1]), row) for row in log_weights]
    stated = np.mean([one.log_evidence_std**2 for one in found])
    assert stated / np.var([one.log_evidence for one in found]) == pytest.approx(1, abs=0.04)
    w = np.array([1.0, 3.0])
    error = np.std(w, ddof=1) / np.sqrt(2) / np.mean(w)
    assert inference.ImportanceSample(np.zeros([2, 1]), np.log(w)).log_evidence_std == pytest.approx(error)


@pytest.mark.parametrize("n", [1, 2, 20])
def test_few_draws_are_not_called_reliable(n):
    flow, target = gaussian([0.0], [1.0]), normal_log_prob([0.1], [1.0])
    with pytest.warns(UserWarning, match="Too few draws"):
        found = inference.importance_sample(flow, target, n, seed=0)
    assert found.pareto_k == np.inf and "unknown: too few draws" in str(found)
    assert np.isnan(found.log_evidence_std) == ("error unknown" in str(found)) == (n == 1)
    assert found.resample(3, seed=0).shape == (3, 1)


def test_resampling_draws_rows_by_their_weights_in_an_order_that_knows_nothing_of_the_offset():
    found = inference.ImportanceSample(np.array([[0.0], [1.0], [2.0], [3.0]]), np.log([0.001, 1.0, 2.0, 4.999]))
    first, second = np.array([found.resample(2, seed=seed)[:, 0] for seed in range(4000)]).T
    for rows in (first, second):
        np.testing.assert_allclose(np.bincount(rows.astype(int), minlength=4) / 4000, found.weights, atol=0.025)
    # Two positions half apart: which one comes first is a fair coin, wherever the offset fell.
    for lower in (1.0, 2.0):
        one = np.minimum(first, second) == lower
        both = one & (first != second)
        assert abs(np.mean(first[both] == lower) - 0.5) < 0.05
    # Offset and order come from one stream: a seed and a generator made from it give the same draws.
    np.testing.assert_array_equal(found.resample(50, seed=7), found.resample(50, seed=np.random.default_rng(7)))
    certain = inference.ImportanceSample(np.arange(3.0)[:, None], [-np.inf, 0.0, -np.inf])
    assert np.all(certain.resample(100, seed=0) == 1)


def test_without_a_seed_keras_sets_the_draws():
    found = inference.ImportanceSample(np.arange(100.0)[:, None], np.zeros(100))
    x = np.random.default_rng(0).normal(size=[50, 2])

    def draws():
        keras.utils.set_random_seed(3)
        expected = inference.expected_coverage(tff.flows.gaussian(2, "unit"), x, num_samples=20)
        return np.concatenate([found.resample(20)[:, 0], expected.observed])

    np.testing.assert_array_equal(draws(), draws())


def test_bad_weights():
    for log_weights, words in [
        ([0.0, np.nan], r"1 NaN, 0 \+inf"),
        ([0.0, np.inf], r"0 NaN, 1 \+inf"),
        ([-np.inf, -np.inf], r"density of 0 at every draw"),
    ]:
        with pytest.raises(ValueError, match=words):
            inference.ImportanceSample(np.zeros([2, 1]), log_weights)
        with pytest.raises(ValueError, match=words):
            inference.pareto_shape(log_weights)
    with pytest.raises(ValueError, match=r"Received: 2 samples, log-weights of shape \(3,\)"):
        inference.ImportanceSample(np.zeros([2, 1]), np.zeros(3))
    broken = gaussian([0.0, np.nan], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"finite draws and log-densities of the flow.*in 10 draws of 10"):
        inference.importance_sample(broken, lambda x: x[:, 0] * 0, 10)


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
    flow = tff.flows.gaussian(
        3, "full", embedding=summary(problem), dtype=tf.float64, hidden_units=(6,), standardize=False
    )
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


@pytest.mark.parametrize(
    "n, num_samples, levels",
    [
        (1000, 30, None),
        (10_000, 50, None),
        (1000, 100, None),
        (300, 9, None),
        (500, 1, None),
        (1000, 7, [0.1, 0.5, 0.93, 0.999]),
    ],
)
def test_uniform_ranks_stay_in_the_band(n, num_samples, levels):
    how = {} if levels is None else {"levels": levels}
    generator = np.random.default_rng(1)
    inside = [
        inference.Ranks(generator.integers(0, num_samples, [n, 1], endpoint=True), num_samples).coverage(0, **how)
        for _ in range(1500)
    ]
    # 99 %, or more where the counts are few, with three standard errors of 1500 repetitions.
    assert np.mean([found.inside for found in inside]) > 0.9823
    np.testing.assert_allclose(np.mean([found.observed for found in inside], 0), inside[0].nominal, atol=0.003)
    assert np.mean([found.inside for found in inside]) < 1  # a band that nothing leaves is none


def test_the_band_is_no_wider_than_it_says():
    generator = np.random.default_rng(2)
    ranks = generator.integers(0, 100, [1500, 2000, 1], endpoint=True)
    assert np.mean([inference.Ranks(row, 100).coverage(0, confidence=0.8).inside for row in ranks]) < 0.84


@pytest.mark.parametrize("loc, scale", [(0.0, 0.85), (0.0, 1.2), (0.15, 1.0), (-0.15, 1.0)])
def test_ranks_find_a_density_too_narrow_too_wide_or_shifted(loc, scale):
    generator = np.random.default_rng(3)

    def inside(loc, scale):
        truths = generator.normal(size=[1000, 1])
        ranks = np.sum(generator.normal(loc, scale, [50, 1000, 1]) < truths, 0)
        return inference.Ranks(ranks, 50).coverage(0).inside

    assert np.mean([inside(loc, scale) for _ in range(50)]) < 0.2
    assert np.mean([inside(0.0, 1.0) for _ in range(50)]) > 0.9


def test_levels_are_rounded_to_what_the_ranks_resolve():
    found = inference.Ranks(np.arange(10)[:, None], 9).coverage(0, levels=[0.01, 0.22, 0.5, 0.999])
    np.testing.assert_allclose(found.nominal, [0.1, 0.2, 0.5, 0.9])
    np.testing.assert_allclose(found.observed, found.nominal)


def test_bad_ranks():
    for ranks, words in [
        (np.zeros([3, 1]), r"integers\. Received: shape \(3, 1\), float64"),
        (np.zeros([3], int), r"Received: shape \(3,\)"),
        (np.zeros([0, 1], int), r"Received: shape \(0, 1\)"),
        (np.array([[11]]), r"from 0 to 10\. Received: 11 to 11"),
    ]:
        with pytest.raises(ValueError, match=words):
            inference.Ranks(ranks, 10)
    with pytest.raises(ValueError, match=r"Expected `coordinate` below 1\. Received: coordinate=1"):
        inference.Ranks(np.array([[3]]), 10).coverage(1)


def outside(function, flow, sample, repetitions):
    """How often a test that should pass 99 % of right densities rejects this one."""
    found = [function(flow, *sample(seed), num_samples=20, seed=seed) for seed in range(repetitions)]
    return sum(not (one if isinstance(one, inference.Coverage) else one.coverage(0)).inside for one in found)


@pytest.mark.parametrize("function", [inference.rank_statistics, inference.expected_coverage])
def test_right_densities_pass(function, problem):
    """Of 300 repetitions 3 are expected to fail; 10 or more with a probability of 0.1 %."""
    plain = tff.FlowModel(tff.flows.gaussian(2, "unit"))
    assert outside(function, plain, lambda seed: (np.random.default_rng(seed).normal(size=[200, 2]),), 200) < 9
    few = outside(function, plain, lambda seed: (np.random.default_rng(seed).normal(size=[12, 2]),), 100)
    assert few < 6

    def joint(seed):
        context, theta = problem.sample(200, seed=seed)
        return theta, context

    assert outside(function, tff.FlowModel(exact_posterior(problem)), joint, 100) < 6


def test_expected_coverage_finds_what_other_points_would_not(problem):
    context, theta = problem.sample(2000, seed=1)
    # A density that ignores the context, and is right without it: points have to depend on the context.
    prior = tff.flows.gaussian(3, "full", context_size=5, dtype=tf.float64)
    width = np.linalg.cholesky(np.cov(np.float64(theta).T))
    outer = [tfb.Shift(np.mean(theta, 0, np.float64)), tfb.ScaleMatvecTriL(width)]
    prior = tfd.TransformedDistribution(prior.distribution, tfb.Chain([*outer, prior.bijector]))
    model = tff.FlowModel(prior)
    assert model.is_conditional
    assert inference.rank_statistics(model, theta, context, seed=0).coverage(0).inside  # which SBC cannot see
    assert not inference.expected_coverage(model, theta, context, seed=0).inside

    # Truths at the right distances from the density's centre, all on one side: points have to differ.
    radius = np.sqrt(np.random.default_rng(0).chisquare(2, size=1000))
    plain = tff.flows.gaussian(2, "unit")
    assert not inference.expected_coverage(plain, np.stack([radius, 0 * radius], -1), seed=0).inside
    # Half of the mass where no truth is: points drawn from the density itself would have uniform ranks.
    half = tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.5, 0.5]), tfd.MultivariateNormalDiag([[0.0, 0.0], [50.0, 50.0]], [1.0, 1.0])
    )
    x = np.random.default_rng(0).normal(size=[1000, 2])
    assert not inference.expected_coverage(half, x, seed=0).inside


@pytest.mark.parametrize("loc, scale", [(0.0, 0.85), (0.0, 1.2), (0.5, 1.0)])
def test_expected_coverage_finds_a_density_too_narrow_too_wide_or_shifted(loc, scale):
    x = (np.random.default_rng(0).normal(size=[2000, 2]) - loc) / scale
    assert not inference.expected_coverage(tff.flows.gaussian(2, "unit"), x, num_samples=50, seed=0).inside


def test_predicted_points_depend_on_the_context_and_not_on_the_row_s_own_truth():
    generator = np.random.default_rng(0)
    context = {"a": generator.normal(1e4, 10, size=[1000, 3]), "b": np.ones([1000, 2, 2])}
    x = (context["a"] - 1e4) / 10 + 0.1 * generator.normal(size=[1000, 3])
    points = predicted_points(x, context, np.random.default_rng(1))
    assert points.shape == (1000, 3)
    for k in range(3):
        assert np.corrcoef(points[:, k], x[:, k])[0, 1] > 0.8
    for row in range(20):
        other = x.copy()
        other[row] += 100
        moved = predicted_points(other, context, np.random.default_rng(1)) != points
        assert moved.any() and not moved[row].any()
    assert len(np.unique(predicted_points(x[:20], None, generator), axis=0)) > 5
    assert predicted_points(x[:1], None, generator).shape == (1, 3)


def test_atoms_have_uniform_ranks():
    counts = tfd.Sample(tfd.Poisson(1.5), [2])
    x = np.random.default_rng(0).poisson(1.5, size=[2000, 2]).astype("float32")
    ranks = inference.rank_statistics(counts, x, num_samples=30, seed=0)
    assert ranks.coverage(0).inside and ranks.coverage(1).inside
    assert inference.expected_coverage(counts, x, num_samples=30, seed=0).inside


def test_a_constant_column_changes_nothing():
    flat = tfd.MultivariateNormalDiag([0.0, 3.0], [1.0, 0.0])
    x = np.random.default_rng(0).normal(size=[500, 2])
    x[:, 1] = 3
    with np.errstate(all="raise"):
        assert inference.expected_coverage(flat, x, seed=0).inside
        assert all(inference.rank_statistics(flat, x, seed=0).coverage(k).inside for k in range(2))


def test_draws_come_in_batches_of_bounded_size(monkeypatch):
    model, x = tff.FlowModel(tff.flows.gaussian(2, "unit")), np.zeros([700, 2])
    sizes, sample = [], model.sample
    monkeypatch.setattr(model, "sample", lambda n, *a, **k: (sizes.append(n), sample(n, *a, **k))[1])
    assert inference.rank_statistics(model, x, num_samples=1000, seed=0).ranks.shape == (700, 2)
    assert inference.rank_statistics(model, x, num_samples=10, batch_size=300, seed=0).ranks.shape == (700, 2)
    assert sizes == [100_000] * 7 + [3000, 3000, 1000]


# The door


def truths_functions():
    return [inference.coverage, inference.rank_statistics, inference.expected_coverage]


@pytest.mark.parametrize("function", truths_functions())
def test_nan_is_named(function):
    flow = tff.FlowModel(tff.flows.gaussian(2, "diag", context_size=1))
    x, context = np.zeros([20, 2]), np.ones([20, 1])
    bad = x.copy()
    bad[3:5, 1] = np.nan
    with pytest.raises(ValueError, match=r"Expected finite truths.*column 1: 2 NaN"):
        function(flow, bad, context)
    with pytest.raises(ValueError, match=r"Expected finite truths.*column 1 \('b'\): 2 NaN"):
        function(flow, pd.DataFrame(bad, columns=["a", "b"]), context)
    with pytest.raises(ValueError, match=r"Expected finite contexts.*column 0: 20 infinite"):
        function(flow, x, context * np.inf)
    with pytest.raises(ValueError, match=r"finite truths. Received: column 0: 20 too large for float32"):
        function(flow, x + 1e300, context)
    for variable in flow.trainable_variables:
        variable.assign(variable * np.nan)
    with pytest.raises(ValueError, match=r"NaN for 20 of 20 truths, the first in row 0|2000 draws with NaN"):
        function(flow, x, context)


def test_truths_outside_the_support_are_named():
    flow = tfd.TransformedDistribution(tff.flows.gaussian(1, "unit").distribution, tfb.Exp())
    with pytest.raises(ValueError, match=r"outside the flow's support.*Received: NaN for 1 of 3 truths, .* row 1"):
        inference.coverage(flow, [[1.0], [-1.0], [2.0]])
    far = np.concatenate([np.full([10, 1], 3e38), np.ones([10, 1])])  # far out in the tail, in no region
    assert np.all(inference.coverage(tff.flows.gaussian(1, "unit"), far).observed <= 0.5)


@pytest.mark.parametrize("function", truths_functions())
def test_truths_and_contexts_of_every_kind(function):
    def network():
        a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
        return keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(keras.layers.Concatenate()([a, b])))

    generator = np.random.default_rng(0)
    x, c = generator.normal(size=[30, 2]), {"a": generator.normal(size=[30, 2]), "b": np.arange(30)[:, None]}
    model = tff.FlowModel(tff.flows.gaussian(2, "diag", embedding=network()))
    how = {} if function is inference.coverage else {"num_samples": 10, "seed": 0, "batch_size": 20}

    def found(flow, *data):
        result = function(flow, *data, **how)
        return result.ranks if isinstance(result, inference.Ranks) else result.observed

    for truths in (np.float32(x), tf.constant(x), pd.DataFrame(x, columns=["a", "b"]), x.tolist()):
        for context in (
            c,
            {"a": pd.DataFrame(c["a"]), "b": tf.constant(c["b"])},
            {k: v.tolist() for k, v in c.items()},
        ):
            np.testing.assert_array_equal(found(model, truths, context), found(model, x, c))
    plain = tff.FlowModel(tff.flows.gaussian(2, "diag", context_size=2))
    for context in (pd.DataFrame(c["a"]), c["a"].tolist(), tf.constant(c["a"])):
        np.testing.assert_array_equal(found(plain, x, context), found(plain, x, c["a"]))
    for flow, data, words in [
        (model, (x, {"a": c["a"]}), r"names \['a', 'b'\]. Received: \['a'\]"),
        (model, (x, c["a"]), r"names \['a', 'b'\]. Received: a ndarray"),
        (model, (x, {"a": c["a"], "b": c["b"][:7]}), r"Received: 30 truths, 30 contexts, 7 contexts"),
        (plain, (x[:9], c["a"]), r"Received: 9 truths, 30 contexts$"),
        (plain, (x, c["a"][0]), r"Expected contexts of shape \('n', 2\). Received: shape \(2,\)"),
        (plain, (x,), r"Expected contexts.*Received: context=None"),
        (plain, (x[:, :1], c["a"]), r"Expected truths of shape \('n', 2\). Received: shape \(30, 1\)"),
        (plain, (x[:0], c["a"][:0]), r"at least one row"),
        (tff.flows.gaussian(2, "unit"), (x, c["a"]), r"Expected no context"),
    ]:
        with pytest.raises(ValueError, match=words):
            found(flow, *data)
    with pytest.raises(TypeError, match=r"Expected contexts that are numbers. Received: "):
        found(plain, x, [["a", "b"]] * 30)
    with pytest.raises(TypeError, match=r"Expected truths of dtype float32"):
        found(plain, np.ones([30, 2], int), c["a"])
    with pytest.raises(TypeError, match=r"Expected a flow whose events are one tensor"):
        found(tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0)]), x)


def test_one_context_of_every_kind_for_importance_sampling():
    model = tff.FlowModel(tff.flows.gaussian(1, "diag", context_size=2))

    def found(context):
        return inference.importance_sample(model, lambda x: -(x[:, 0] ** 2) / 2, 50, context, seed=0).log_evidence

    for context in ([1, 2], np.array([1.0, 2.0]), tf.constant([1.0, 2.0]), pd.Series([1, 2])):
        assert found(context) == found(np.float32([1, 2]))
    for context, words in [
        (None, r"Received: context=None"),
        ([np.nan, 1.0], r"Expected a finite context.*nan"),
        ([1.0], r"expected a context of shape \(2,\)"),
        ([[1.0, 2.0]], r"one context, not a batch.*\(1,\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            found(context)


def test_seeds_that_differ_by_two_to_the_32_give_different_draws():
    x = np.random.default_rng(0).normal(size=[50, 2])

    def target(x):
        return -tf.reduce_sum(x**2, -1) / 2

    def steps(seed):
        return inference.fit_reverse_kl(tff.flows.gaussian(2, "diag"), target, 3, 5, jit_compile=False, seed=seed)

    flow = tff.flows.gaussian(2, "unit")
    weighted = inference.importance_sample(flow, lambda x: -tf.reduce_sum(tf.abs(x), -1), 100, seed=0)
    for draws in (
        lambda seed: inference.importance_sample(flow, target, 100, seed=seed).samples,
        lambda seed: weighted.resample(30, seed=seed),
        lambda seed: inference.rank_statistics(flow, x, num_samples=30, seed=seed).ranks,
        lambda seed: inference.expected_coverage(flow, x, num_samples=30, seed=seed).observed,
        lambda seed: inference.expectation(flow, lambda x: x, seed=seed),
        lambda seed: inference.moments(flow, seed=seed)[0],
        lambda seed: inference.entropy(flow, seed=seed),
        lambda seed: inference.kl(
            flow, tff.flows.gaussian(2, "unit", base=tfd.Sample(tfd.StudentT(5.0, 0.0, 1.0), 2)), seed=seed
        ),
        lambda seed: inference.reverse_kl(flow, lambda x: -tf.reduce_sum(tf.abs(x), -1), seed=seed),
        steps,
    ):
        one, same, other = (np.asarray(draws(seed)) for seed in (1, 1, 2**32 + 1))
        np.testing.assert_array_equal(one, same)
        assert np.any(one != other)


# Expectations


def test_the_gradient_of_the_entropy_is_that_of_a_gaussian():
    flow = tff.flows.gaussian(3, "full", dtype=tf.float64, standardize=False)
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
    flow = tff.flows.gaussian(2, "unit")
    for target in (lambda x: x, lambda x: x[:, :1], lambda x: tf.reduce_sum(x)):
        with pytest.raises(ValueError, match=r"one log-density per draw, of shape \(256,\)"):
            inference.fit_reverse_kl(flow, target, num_steps=1, jit_compile=False)
        with pytest.raises(ValueError, match=r"one log-density per draw, of shape \(256,\)"):
            inference.reverse_kl(flow, target)
    with pytest.raises(FloatingPointError, match=r"Received: nan at step 0"):
        inference.fit_reverse_kl(flow, lambda x: x[:, 0] * np.nan, num_steps=3, jit_compile=False)
    with pytest.raises(ValueError, match=r"Received: num_samples=0"):
        inference.reverse_kl(flow, lambda x: x[:, 0], num_samples=0)


def test_bad_expectations():
    flow = tff.flows.gaussian(2, "unit")
    with pytest.raises(ValueError, match=r"at least two samples.*Received: num_samples=1"):
        inference.moments(flow, 1)
    with pytest.raises(ValueError, match=r"neither p nor q takes one"):
        inference.kl(flow, flow, context=np.ones(3))


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
