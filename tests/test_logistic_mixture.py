"""What is special about the Gaussianizing map: its formula, its tails, its root, its derivatives."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import transformers
from tfp_flows._math import normal_tail
from tfp_flows._math.roots import increasing_root


def random_parameters(num_components, dtype, seed=0):
    generator = np.random.default_rng(seed)
    start = transformers.LogisticMixture(num_components).initial_parameters()[:, np.newaxis]
    return tf.constant(start + 0.5 * generator.normal(size=[3 * num_components, 3]), dtype)


@pytest.mark.parametrize("num_components", [1, 5])
def test_the_inverse_is_the_normal_score_of_the_mixture(num_components):
    parameters = random_parameters(num_components, "float64")
    logits, centers, log_scales = tf.split(parameters, 3)
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.transpose(logits)),
        tfd.Logistic(tf.transpose(centers), tf.transpose(tf.exp(20 * tf.tanh(log_scales / 20)))),
    )
    y = tf.constant(np.random.default_rng(1).normal(size=[50, 3]) * 3)
    x, log_derivative = transformers.LogisticMixture(num_components).inverse(y, parameters)
    # Every weight has a floor of 0.0001 / K.
    np.testing.assert_allclose(x, tfd.Normal(np.float64(0), 1.0).quantile(mixture.cdf(y)), atol=2e-3)
    np.testing.assert_allclose(
        log_derivative, mixture.log_prob(y) - tfd.Normal(np.float64(0), 1.0).log_prob(x), atol=5e-3
    )


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-14)])
def test_round_trip_from_end_to_end_of_the_numbers(dtype, tolerance):
    """zuko searches its inverse between -10 and 10; here a normal score of 10⁸ comes back."""
    sizes = np.array([0, 1e-3, 1, 5, 9.99, 10.01, 40, 1e3, 1e8])
    x = tf.constant(np.concatenate([-sizes[::-1], sizes])[:, np.newaxis] * np.ones(3), dtype)
    transformer = transformers.LogisticMixture(5)
    parameters = random_parameters(5, dtype)
    y, log_derivative = transformer.forward(x, parameters)
    back, inverse_log_derivative = transformer.inverse(y, parameters)
    np.testing.assert_allclose(back, x, rtol=20 * tolerance, atol=20 * tolerance)
    np.testing.assert_allclose(inverse_log_derivative, -log_derivative, rtol=20 * tolerance, atol=20 * tolerance)
    assert np.all(np.diff(y, axis=0) >= 0)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_round_trip_with_components_far_apart(spread):
    """Between distant components F is flat: what is lost is what the slope there loses, and nothing is NaN."""
    transformer = transformers.LogisticMixture(3)
    parameters = tf.constant(np.array([[0.0, 1.0, 0.0, -spread, 0.0, spread, 0.0, -3.0, 1.0]]).T)
    y = tf.constant(np.linspace(-2 * spread, 2 * spread, 401)[:, np.newaxis])
    x, log_derivative = transformer.inverse(y, parameters)
    back, _ = transformer.forward(x, parameters)
    epsilon = np.finfo("float64").eps
    room = 20 * epsilon * np.maximum(np.exp(-log_derivative) * np.maximum(np.abs(x), 1), np.abs(y)) + 1e-12
    assert np.all(np.abs(back - y) <= room)


@pytest.mark.parametrize("method", ["forward", "inverse"])
def test_derivatives_are_those_of_finite_differences(method):
    transformer = transformers.LogisticMixture(3)
    transform = getattr(transformer, method)
    parameters = random_parameters(3, "float64")
    y = tf.constant([[0.0, 0.3, -2.0]], tf.float64)
    step = 1e-4

    def difference(function, x):
        return (8 * (function(x + step) - function(x - step)) - function(x + 2 * step) + function(x - 2 * step)) / (
            12 * step
        )

    with tf.GradientTape() as outer:
        outer.watch(y)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([y, parameters])
            value, log_derivative = transform(y, parameters)
            total = tf.reduce_sum(value) + tf.reduce_sum(log_derivative)
        first = tape.gradient(value, y)
    second = outer.gradient(first, y)
    np.testing.assert_allclose(first, difference(lambda y: transform(y, parameters)[0], y), rtol=1e-9)
    np.testing.assert_allclose(tf.math.log(first), log_derivative, rtol=1e-10, atol=1e-12)
    expected = difference(lambda y: tf.exp(transform(y, parameters)[1]), y)
    np.testing.assert_allclose(second, expected, rtol=1e-8, atol=1e-9)
    gradient = tape.gradient(total, parameters).numpy()
    for direction in np.random.default_rng(2).normal(size=[2, *gradient.shape]):
        along = difference(lambda s, d=direction: sum(map(tf.reduce_sum, transform(y, parameters + s * d))), 0.0)
        np.testing.assert_allclose(np.sum(gradient * direction), along, rtol=1e-7)


@pytest.mark.parametrize("num_components", [1, 2, 8, 20])
def test_the_start_is_near_the_identity(num_components):
    transformer = transformers.LogisticMixture(num_components)
    x = tf.constant(np.linspace(-2, 2, 41)[:, np.newaxis])
    y, _ = transformer.forward(x, tf.constant(transformer.initial_parameters()[:, np.newaxis]))
    assert np.abs(y - x).max() < 0.2


@pytest.mark.parametrize("kind", ["two bells", "exponential", "constant", "huge units"])
def test_parameters_of_data(kind):
    generator = np.random.default_rng(0)
    bells = np.where(generator.random([4000, 1]) < 0.3, -3 + 0.3 * generator.normal(size=[4000, 1]), 2.0)
    data = {
        "two bells": bells + 0.5 * generator.normal(size=[4000, 1]),
        "exponential": generator.exponential(size=[4000, 1]),
        "constant": np.full([4000, 1], 3.0),
        "huge units": 1e6 * generator.normal(size=[4000, 1]) + 1e7,
    }[kind]
    transformer = transformers.LogisticMixture(8)
    parameters = tf.constant(transformer.parameters_of_data(data))
    scores, log_derivative = transformer.inverse(tf.constant(data), parameters)
    assert np.isfinite(scores).all() and np.isfinite(log_derivative).all()
    if kind != "constant":
        np.testing.assert_allclose([np.mean(scores), np.std(scores)], [0, 1], atol=0.15)
        quartiles = np.quantile(scores, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quartiles, [-0.6745, 0, 0.6745], atol=0.15)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"Expected at least 8 rows for 8 components. Received: 3 rows"):
        transformers.LogisticMixture(8).parameters_of_data(np.zeros([3, 1]))
    with pytest.raises(ValueError, match="Received: num_components=0"):
        transformers.LogisticMixture(0)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 5e-7), ("float64", 2e-15)])
def test_normal_tail(dtype, tolerance):
    t = tf.constant(np.concatenate([np.linspace(0, 40, 400), 10.0 ** np.arange(2, 15)]), dtype)
    log_probability = normal_tail.log_tail(t)
    near = t < 20  # where TFP changes to an asymptotic series of three terms
    exact = tfd.Normal(tf.zeros([], "float64"), 1.0).log_cdf(-tf.cast(t, "float64"))
    np.testing.assert_allclose(log_probability[near], exact[near], rtol=tolerance)
    back, log_ratio = normal_tail.tail_quantile(log_probability)
    np.testing.assert_allclose(back, t, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(log_ratio, normal_tail.log_mills(t), rtol=10 * tolerance, atol=10 * tolerance)


def test_root_of_awkward_functions():
    """Steep, flat, bent: the bracket saves Newton's method from each."""
    y = tf.constant(np.linspace(-3, 3, 61))
    functions = {
        "a cube": lambda x: (x**3 - y, 3 * x**2 + 1e-300),
        "a step": lambda x: (tf.math.atan(1e4 * x) - 0.4 * y, 1e4 / (1 + (1e4 * x) ** 2)),
        "a cliff": lambda x: (tf.math.expm1(10 * x) - y - 3, 10 * tf.exp(10 * x)),
    }
    for name, function in functions.items():
        low, high = tf.fill(y.shape, np.float64(-50)), tf.fill(y.shape, np.float64(60))
        x = increasing_root(function, low, high, start=low, size=tf.ones_like(y))
        assert np.abs(function(x)[0]).max() < 1e-13, name


def test_root_has_derivatives_up_to_the_third():
    """x³ + x = y at y = 2, where x = 1 and x' = 1/4: the derivatives of an inverse function."""
    y = tf.constant([2.0], tf.float64)

    def root(y):
        zeros = tf.zeros_like(y)
        return increasing_root(lambda x: (x**3 + x - y, 3 * x**2 + 1), zeros, zeros + 2, start=zeros, size=y)

    def derivative(function):
        def derived(y):
            with tf.GradientTape() as tape:
                tape.watch(y)
                value = function(y)
            return tape.gradient(value, y)

        return derived

    # With a, b and c for the first three derivatives of x³ + x: 1 / a, -b / a³ and (3 b² - a c) / a⁵.
    a, b, c = 4, 6, 6
    expected = [1 / a, -b / a**3, (3 * b**2 - a * c) / a**5]
    first = derivative(root)
    second = derivative(first)
    got = [function(y).numpy().item() for function in (first, second, derivative(second))]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
