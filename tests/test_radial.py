"""What is special about radial flows: the formula, the closed-form inverse at its limits, the centre."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

import tfp_flows as tff
from tests.test_planar import round_trip_error
from tfp_flows import bijectors


def radial_of(event_size, dtype, seed, beta=None, alpha=None):
    """A radial flow of random parameters; `beta` and `alpha` are what comes before the constraints."""
    generator = np.random.default_rng(seed)
    radial = bijectors.Radial(event_size, dtype=dtype, seed=seed)
    radial.alpha.assign(generator.normal(size=1) if alpha is None else [alpha])
    radial.beta.assign(generator.normal(size=1) if beta is None else [beta])
    return radial


def test_formula():
    radial = radial_of(3, "float64", 0, beta=0.7, alpha=0.3)
    z = np.random.default_rng(1).normal(size=[20, 3])
    alpha = 1e-3 + (1 - 1e-3) * np.log1p((np.e - 1) * np.exp(0.3))
    r = np.linalg.norm(z - radial.center, axis=-1, keepdims=True)
    h, derivative = 1 / (alpha + r), -1 / (alpha + r) ** 2
    beta = 0.7 * alpha
    np.testing.assert_allclose(radial.forward(z), z + beta * h * (z - radial.center))
    log_det = 2 * np.log(1 + beta * h) + np.log(1 + beta * h + beta * derivative * r)
    np.testing.assert_allclose(radial.forward_log_det_jacobian(z), log_det[:, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("beta", [-1e3, -0.5, 50.0])  # the first is β = -0.999 α
@pytest.mark.parametrize("alpha", [-1e3, 0.0, 1e3])
def test_round_trip_of_one_layer(alpha, beta, scale, dtype):
    z = tf.constant(scale * np.random.default_rng(1).normal(size=[200, 3]), dtype)
    assert round_trip_error(radial_of(3, dtype, 2, beta, alpha), z) < 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_round_trip_of_32_layers(scale, dtype):
    layers = [radial_of(3, dtype, k, -1e3 if k == 16 else None) for k in range(32)]
    z = tf.constant(scale * np.random.default_rng(1).normal(size=[200, 3]), dtype)
    assert round_trip_error(tfb.Chain(layers), z) < 20


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_round_trip_of_32_mild_layers(dtype, tolerance):
    chain = tfb.Chain([radial_of(3, dtype, k, 0.1) for k in range(32)])
    z = tf.constant(np.random.default_rng(1).normal(size=[200, 3]), dtype)
    back = chain.inverse(tf.identity(chain.forward(z)))
    np.testing.assert_allclose(back, z, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_centre_itself(dtype):
    """There the distance has no derivative, and the flow has one."""
    radial = radial_of(3, dtype, 0, beta=2.0)
    x = tf.constant(radial.center)[tf.newaxis]
    for method in ("forward", "inverse"):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = getattr(radial, method)(tf.identity(x))
            log_det = getattr(radial, f"{method}_log_det_jacobian")(tf.identity(x))
        np.testing.assert_array_equal(y, x)
        jacobian = tape.batch_jacobian(y, x, experimental_use_pfor=False)
        np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det, rtol=1e-5)
        for gradient in tape.gradient(log_det, [x, *radial.trainable_variables]):
            assert np.isfinite(gradient).all()


def test_gradients_of_the_inverse():
    radial = radial_of(2, "float64", 1)
    x = tf.constant(np.random.default_rng(1).normal(size=[5, 2]))

    def total():
        return tf.reduce_sum(tf.sin(radial.inverse(tf.identity(x)))) + tf.reduce_sum(
            radial.inverse_log_det_jacobian(tf.identity(x))
        )

    with tf.GradientTape() as tape:
        value = total()
    for variable, gradient in zip(
        radial.trainable_variables, tape.gradient(value, radial.trainable_variables), strict=True
    ):
        start = variable.numpy()
        direction = np.random.default_rng(2).normal(size=start.shape)
        values = []
        for step in (2e-5, -2e-5, 4e-5, -4e-5):
            variable.assign(start + step * direction)
            values.append(total().numpy())
        variable.assign(start)
        difference = (8 * (values[0] - values[1]) - (values[2] - values[3])) / 24e-5
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6, atol=1e-9)


def test_the_density_is_normalized():
    flow = tff.flows.radial(2, num_layers=3, seed=0)
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [0, k]))
    axis = np.linspace(-12, 12, 401, dtype="float32")
    grid = np.stack(np.meshgrid(axis, axis), -1)
    np.testing.assert_allclose(np.exp(flow.log_prob(grid)).sum() * (axis[1] - axis[0]) ** 2, 1, atol=2e-3)
