"""What is special about planar flows: the constraint, the inverse at its limits, its derivatives, training on data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

import tfp_flows as tff
from tfp_flows import bijectors
from tfp_flows.bijectors.hidden_unit import HIDDEN_UNITS

ACTIVATIONS = list(HIDDEN_UNITS)
FUNCTIONS = {
    "tanh": np.tanh,
    "softplus": lambda a: np.logaddexp(a, 0),
    "leaky_relu": lambda a: np.where(a > 0, a, a / 5),
}


def planar_of(event_size, activation, dtype, seed, product=None):
    """A planar flow of random parameters; `product` is the w·u before the constraint."""
    generator = np.random.default_rng(seed)
    w, u, b = generator.normal(size=event_size), generator.normal(size=event_size), generator.normal(size=1)
    if product is not None:
        u += (product - w @ u) * w / (w @ w)
    planar = bijectors.Planar(event_size, activation, dtype=dtype, seed=seed)
    for variable, value in zip((planar.w, planar.u, planar.b), (w, u, b), strict=True):
        variable.assign(value)
    return planar


def jacobians(bijector, z):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        x = bijector.forward(tf.identity(z))  # what the cache knows has no gradient
    return tape.batch_jacobian(x, z, experimental_use_pfor=False).numpy().astype("float64")


def round_trip_error(bijector, z):
    """The greatest error of inverse(forward(z)), over epsilon times the inverse's stretch times the numbers' size."""
    x = bijector.forward(z)
    back = bijector.inverse(tf.identity(x))
    stretch = 1 / np.linalg.svd(jacobians(bijector, z), compute_uv=False)[:, -1]
    size = np.maximum(np.max(np.abs(np.concatenate([z, x], -1)), -1), 1)
    unit = np.finfo(z.dtype.as_numpy_dtype).eps * np.maximum(stretch, 1) * size
    known = unit < 0.01 * size  # where nothing is left after the loss there is nothing to compare
    assert known.mean() > 0.9
    return np.max((np.abs(back - z).max(-1) / unit)[known])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_formula(activation):
    planar = planar_of(3, activation, "float64", seed=0, product=1.5)
    z = np.random.default_rng(1).normal(size=[20, 3])
    w, u, b = planar.w.numpy(), planar.u.numpy(), planar.b.numpy()
    np.testing.assert_allclose(planar.forward(z), z + u * FUNCTIONS[activation](z @ w + b)[:, np.newaxis], rtol=1e-12)


@pytest.mark.parametrize("product", [-1e30, -1e4, -3.0, -0.5, 0.0, 2.0])
def test_constraint(product):
    """w·û stays above -0.999, and is w·u itself where that is positive."""
    planar = planar_of(2, "tanh", "float64", 0, product)
    _, _, _, constrained = planar._constrained(None)
    assert constrained.numpy().item() >= -1 + 1e-3 - 1e-9 * max(1, abs(product))
    if product >= 0:
        np.testing.assert_allclose(constrained, [product], atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-12, 1e-4])
def test_a_vanishing_w_is_safe(length, dtype):
    """The paper's û has a pole there."""
    planar = planar_of(2, "tanh", dtype, 0)
    planar.w.assign(length * np.array([1.0, -2.0]))
    planar.u.assign([-3.0, 1.0])
    x = tf.ones([4, 2], dtype)
    with tf.GradientTape() as tape:
        z = planar.inverse(x)
        loss = tf.reduce_sum(z) + tf.reduce_sum(planar.inverse_log_det_jacobian(tf.identity(x)))
    for gradient in tape.gradient(loss, planar.trainable_variables):
        assert np.isfinite(gradient).all()
    np.testing.assert_allclose(planar.forward(tf.identity(z)), x, rtol=1e-6)
    np.testing.assert_allclose(planar._constrained(None)[1], [-3, 1], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("product", [-1e3, -0.9, 30.0])  # the first is w·û = -1 + 1e-3
def test_round_trip_of_one_layer(product, scale, activation, dtype):
    planar = planar_of(3, activation, dtype, 2, product)
    z = tf.constant(scale * np.random.default_rng(1).normal(size=[500, 3]), dtype)
    assert round_trip_error(planar, z) < 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_round_trip_of_32_layers(scale, dtype):
    """One of them at the limit, the others as they come."""
    layers = [planar_of(3, "tanh", dtype, k, -1e3 if k == 16 else None) for k in range(32)]
    z = tf.constant(scale * np.random.default_rng(1).normal(size=[200, 3]), dtype)
    assert round_trip_error(tfb.Chain(layers), z) < 20


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_round_trip_of_32_mild_layers(dtype, tolerance):
    layers = [planar_of(3, ACTIVATIONS[k % 3], dtype, k, 0.1) for k in range(32)]
    for layer in layers:
        layer.u.assign(0.1 * layer.u)
    chain = tfb.Chain(layers)
    z = tf.constant(np.random.default_rng(1).normal(size=[200, 3]), dtype)
    back = chain.inverse(tf.identity(chain.forward(z)))
    np.testing.assert_allclose(back, z, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("product", [-0.999, -0.5, 3.0, 1e6])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_root_is_found_everywhere(activation, product):
    y = tf.constant(np.concatenate([np.linspace(-5, 5, 1001), np.geomspace(1, 1e15, 50), -np.geomspace(1, 1e15, 50)]))
    c = tf.constant(product, tf.float64)
    a = HIDDEN_UNITS[activation].root(c, y)
    h, slope = HIDDEN_UNITS[activation](a)
    rounding = 4 * np.finfo("float64").eps * (1 + np.abs(y) + np.abs(a) + np.abs(c * h))
    assert np.all(np.abs(a + c * h - y) <= rounding + np.abs((1 + c * slope) * a) * 1e-15)


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_gradients_of_the_inverse(activation):
    """Of z and of the log-determinant, with respect to the point and every parameter, against finite differences."""
    planar = planar_of(2, activation, "float64", 1)
    x = tf.constant(np.random.default_rng(1).normal(size=[5, 2]))

    def total(x):
        z = planar.inverse(x)
        return tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(planar.inverse_log_det_jacobian(tf.identity(x)))

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = total(x)
    gradients = tape.gradient(value, [x, planar.w, planar.u, planar.b])
    point = tf.Variable(x)
    for variable, gradient in zip([point, planar.w, planar.u, planar.b], gradients, strict=True):
        start = variable.numpy()
        direction = np.random.default_rng(2).normal(size=start.shape)
        values = []
        for step in (1e-3, -1e-3, 2e-3, -2e-3):
            variable.assign(start + step * direction)
            values.append(total(tf.identity(point)).numpy())
        variable.assign(start)
        difference = (8 * (values[0] - values[1]) - (values[2] - values[3])) / 12e-3
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6)


def test_the_density_is_normalized():
    flow = tff.flows.planar(2, num_layers=3, seed=0)
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [0, k]))
    axis = np.linspace(-12, 12, 401, dtype="float32")
    grid = np.stack(np.meshgrid(axis, axis), -1)
    mass = np.exp(flow.log_prob(grid)).sum() * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(mass, 1, atol=2e-3)


def test_it_trains_on_data():
    """What needs the density of given points, and so the inverse."""
    keras.utils.set_random_seed(0)
    x = tff.datasets.two_moons(4096, seed=0)
    model = tff.FlowModel(tff.flows.planar(2, num_layers=4, standardize=True, seed=0))
    model.compile(keras.optimizers.Adam(1e-2))
    model.adapt(x)
    losses = model.fit(x, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.1


def test_an_unknown_activation_is_refused():
    with pytest.raises(
        ValueError, match=r"Expected `activation` to be one of .*leaky_relu.* Received: activation='relu'"
    ):
        bijectors.Planar(2, activation="relu")
