"""Residual flows: the bound of the network, the estimated determinant and its gradient, training, the inverse."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows._math.inverses import inverse_and_log_det
from tfp_flows.bijectors.residual import _estimated_log_det
from tfp_flows.conditioners.lipschitz import LipschitzMLP


def moved(network_or_bijector, size=1.0):
    """The same object, its weights far away from their start."""
    generator = np.random.default_rng(0)
    for variable in network_or_bijector.trainable_variables:
        variable.assign(variable + size * generator.normal(size=variable.shape))
    return network_or_bijector


def stretched(network, noise=0.0):
    """The same network, every matrix along the axes and steep: its Jacobian comes near to -L."""
    generator = np.random.default_rng(0)
    for k, kernel in enumerate(network.kernels):
        steep = -10.0 if k == len(network.kernels) - 1 else 10.0
        kernel.assign(steep * np.eye(*kernel.shape) + noise * generator.normal(size=kernel.shape))
    return network


def points(n, size, dtype="float64"):
    return tf.constant(np.random.default_rng(1).normal(size=(n, size)), dtype)


def jacobian(network, x):
    _, push = network.linearize(network.matrices(), x)
    return tf.linalg.matrix_transpose(push(tf.eye(x.shape[-1], dtype=x.dtype)))


def test_inverse_and_log_det_with_all_derivatives():
    generator = np.random.default_rng(0)
    j = generator.normal(size=(5, 4, 4))
    matrix = tf.constant(np.eye(4) + 0.97 * j / np.linalg.norm(j, 2, (1, 2), keepdims=True))
    inverse, log_det = inverse_and_log_det(matrix)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-10)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], rtol=1e-10)

    def second(function):
        with tf.GradientTape() as outer:
            outer.watch(matrix)
            with tf.GradientTape() as inner:
                inner.watch(matrix)
                inverse, log_det = function(matrix)
                value = tf.reduce_sum(log_det) + tf.reduce_sum(inverse**2)
            gradient = inner.gradient(value, matrix)
            total = tf.reduce_sum(tf.sin(gradient))
        return gradient, outer.gradient(total, matrix)

    expected = second(lambda m: (tf.linalg.inv(m), tf.linalg.slogdet(m)[1]))
    for got, want in zip(second(inverse_and_log_det), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("lipschitz", [0.5, 0.97])
def test_lipschitz_constant_is_below_its_bound_whatever_the_weights(lipschitz):
    network = LipschitzMLP(3, 3, (32, 32), lipschitz, dtype="float64", seed=0)
    x = 2 * points(2000, 3)
    assert 0.9 * lipschitz < np.linalg.norm(jacobian(stretched(network), x), 2, (1, 2)).max() < lipschitz
    assert np.linalg.norm(jacobian(moved(network, 3.0), x), 2, (1, 2)).max() < lipschitz
    bound = lipschitz ** (1 / 3)
    for matrix in network.matrices():
        np.testing.assert_allclose(np.linalg.norm(matrix, 2), bound, rtol=2e-3)


def test_small_weights_stay_as_they_are():
    network = LipschitzMLP(3, 3, (8,), dtype="float64", seed=0)
    for kernel in network.kernels:
        kernel.assign(0.01 * np.random.default_rng(0).normal(size=kernel.shape))
    for kernel, matrix in zip(network.kernels, network.matrices(), strict=True):
        np.testing.assert_array_equal(kernel, matrix)


def test_only_training_stores_the_vectors_of_the_power_iteration():
    network = moved(LipschitzMLP(3, 3, (8,), seed=0))
    before = [vector.numpy() for vector in network.vectors]
    network(points(4, 3, "float32"))
    for vector, old in zip(network.vectors, before, strict=True):
        np.testing.assert_array_equal(vector, old)
    network(points(4, 3, "float32"), training=True)
    for vector, old in zip(network.vectors, before, strict=True):
        assert np.abs(vector - old).max() > 1e-3


def test_a_new_network_is_zero_and_its_last_layer_gets_a_gradient():
    network = LipschitzMLP(3, 3, (8,), seed=0)
    x = points(4, 3, "float32")
    with tf.GradientTape() as tape:
        output = network(x, training=True)
        loss = tf.reduce_sum((output - 1) ** 2)
    np.testing.assert_array_equal(output, np.zeros([4, 3]))
    gradient = tape.gradient(loss, network.kernels[-1].value)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    for vector in network.vectors:
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)


def test_linearize_gives_the_jacobian():
    network = moved(LipschitzMLP(3, 3, (8, 8), context_size=2, dtype="float64", seed=0))
    x, context = points(5, 3), points(5, 2)
    matrices = network.matrices()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value, push = network.linearize(matrices, x, context)
    expected = tape.batch_jacobian(value, x, experimental_use_pfor=False)
    got = push(tf.eye(3, dtype=tf.float64))
    np.testing.assert_allclose(tf.linalg.matrix_transpose(got), expected, rtol=1e-8, atol=1e-10)


def test_estimate_and_its_gradient_are_unbiased():
    network = stretched(LipschitzMLP(4, 4, (16, 16), 0.7, dtype="float64", seed=0), noise=0.3)
    x = tf.repeat(1 + points(1, 4) ** 2, 400, 0)  # 400 estimates at once, of one length
    kernel = network.kernels[1].value

    @tf.function(autograph=False)
    def estimate(seed):
        with tf.GradientTape() as tape:
            _, push = network.linearize(network.matrices(), x)
            log_det = tf.reduce_mean(_estimated_log_det(push, x, seed))
        return log_det, tape.gradient(log_det, kernel)

    with tf.GradientTape() as tape:
        _, push = network.linearize(network.matrices(), x[:1])
        exact = inverse_and_log_det(tf.eye(4, dtype=tf.float64) + push(tf.eye(4, dtype=tf.float64)))[1][0]
    exact_gradient = tape.gradient(exact, kernel).numpy()
    direction = exact_gradient / np.linalg.norm(exact_gradient)
    draws = [estimate(tf.constant([3, k], tf.int64)) for k in range(300)]
    values = np.array([value for value, _ in draws])
    slopes = np.array([np.sum(direction * gradient) for _, gradient in draws])
    for got, want in ((values, exact), (slopes, np.linalg.norm(exact_gradient))):
        error = got.std() / np.sqrt(len(got))
        assert 0 < error < 0.05 * abs(want)
        assert abs(got.mean() - want) < 3 * error


class LogProb(keras.Model):
    """Keras's call scope around a bijector."""

    def __init__(self, bijector):
        super().__init__()
        self.bijector = bijector

    def call(self, x, training=None):
        return self.bijector.inverse_log_det_jacobian(tf.identity(x))


def test_keras_says_when_it_trains():
    residual = moved(tff.bijectors.Residual(3, log_det="roulette", hidden_units=(8,), seed=0))
    model, x = LogProb(residual), points(4, 3, "float32")
    exact = model(x)
    np.testing.assert_array_equal(exact, model(x, training=False))
    np.testing.assert_array_equal(exact, residual.inverse_log_det_jacobian(tf.identity(x)))
    one, two = model(x, training=True), model(x, training=True)
    assert np.abs(one - two).max() > 1e-4  # other noise in every step
    assert residual.layer.num_estimates == 2
    residual.layer.num_estimates.assign(0)
    np.testing.assert_allclose(model(x, training=True), one, rtol=1e-3, atol=1e-3)  # and the same from the same count


@pytest.mark.parametrize("explicit", ["inverse", "forward"])
def test_few_coordinates_are_exact_in_training_too(explicit):
    residual = moved(tff.bijectors.Residual(2, explicit=explicit, hidden_units=(8,), seed=0))
    assert residual.layer.num_estimates is None
    model, x = LogProb(residual), points(4, 2, "float32")
    np.testing.assert_allclose(model(x, training=True), model(x), rtol=1e-2, atol=1e-2)
    many = tff.bijectors.Residual(9, hidden_units=(8,), seed=0)
    assert many.layer.num_estimates is not None


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-12)])
def test_inverse_to_rounding_next_to_the_bound(dtype, tolerance):
    residual = tff.bijectors.Residual(3, lipschitz=0.97, hidden_units=(32, 32), dtype=dtype, seed=0)
    stretched(residual.layer.network)
    z = 2 * points(200, 3, dtype)
    x = residual.forward(z)
    np.testing.assert_allclose(residual.inverse(tf.identity(x)), z, rtol=tolerance, atol=tolerance)


def test_inverse_has_second_derivatives():
    residual = moved(tff.bijectors.Residual(2, hidden_units=(8, 8), dtype=tf.float64, seed=0))
    z, h = points(5, 2), 1e-5

    def force(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = tf.reduce_sum(residual.forward(tf.identity(z)) ** 2)
        return tape.gradient(value, z)

    with tf.GradientTape() as tape:
        tape.watch(z)
        total = tf.reduce_sum(tf.sin(force(z)))
    direction = points(5, 2) ** 2
    got = tf.reduce_sum(tape.gradient(total, z) * direction)
    left, right = (tf.reduce_sum(tf.sin(force(z + d * direction))) for d in (-h, h))
    np.testing.assert_allclose(got, (right - left) / (2 * h), rtol=1e-6)


def test_fit_trains_by_estimates_and_evaluates_exactly(tmp_path):
    flow = tff.flows.residual(2, num_layers=2, hidden_units=(16,), log_det="roulette", seed=0)
    model = tff.FlowModel(flow)
    x = tff.datasets.two_moons(512, seed=0)
    model.adapt(x)
    before = model.evaluate(x, verbose=0)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    model.fit(x, batch_size=128, epochs=5, verbose=0)
    assert model.evaluate(x, verbose=0) < before - 0.05
    assert model.evaluate(x, verbose=0) == model.evaluate(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.log_prob(x[:9]), model.log_prob(x[:9]), rtol=1e-6)
    part = next(part for part in flow.bijector.bijectors if isinstance(part, tff.bijectors.Residual))
    assert part.layer.num_estimates == 20


def test_the_preset_has_act_norms_between_its_layers_unless_told_otherwise():
    def kinds(**options):
        return [type(part).__name__ for part in tff.flows.residual(2, num_layers=2, **options).bijector.bijectors]

    assert kinds() == ["Standardize", "ActNorm", "Residual", "ActNorm", "Residual"]
    assert kinds(act_norm=False) == ["Standardize", "Residual", "Residual"]


@pytest.mark.parametrize("arguments", [{"lipschitz": 1.0}, {"explicit": "both"}, {"log_det": "none"}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}.*Received"):
        tff.bijectors.Residual(2, **arguments)
