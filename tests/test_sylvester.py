"""What is special about Sylvester flows: the formula, orthonormal columns, the inverse from the last unit up."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tests.test_planar import planar_of, round_trip_error
from tfp_flows import bijectors


def sylvester_of(event_size, num_units, activation, dtype, seed, size=1.0, product=None):
    """A Sylvester flow of random parameters; `product` is every R_mm R~_mm before the constraint."""
    generator = np.random.default_rng(seed)
    sylvester = bijectors.Sylvester(event_size, num_units, activation, dtype=dtype, seed=seed)
    for variable in (sylvester.outer, sylvester.inner, sylvester.b):
        variable.assign(size * generator.normal(size=variable.shape))
    if product is not None:
        matrix = np.zeros([num_units, num_units])
        matrix[np.diag_indices(num_units)] = product
        sylvester.outer.assign(tfb.FillTriangular(upper=True).inverse(matrix.astype(dtype)))
    return sylvester


@pytest.mark.parametrize("activation", ["tanh", "softplus", "leaky_relu"])
def test_formula(activation):
    sylvester = sylvester_of(5, 3, activation, "float64", 0)
    columns, outer, inner, b, _ = (part.numpy() for part in sylvester._matrices(None))
    np.testing.assert_allclose(columns @ columns.T, np.eye(3), atol=1e-14)
    np.testing.assert_array_equal(outer, np.triu(outer))
    np.testing.assert_array_equal(inner, np.triu(inner))
    z = np.random.default_rng(1).normal(size=[10, 5])
    h = {"tanh": np.tanh, "softplus": lambda a: np.logaddexp(a, 0), "leaky_relu": lambda a: np.maximum(a, a / 5)}
    x = z + h[activation](z @ columns.T @ inner.T + b) @ outer.T @ columns
    np.testing.assert_allclose(sylvester.forward(z), x, rtol=1e-12)


def test_one_unit_is_a_planar_flow():
    sylvester = sylvester_of(3, 1, "tanh", "float64", 0)
    columns, outer, inner, b, _ = (part.numpy() for part in sylvester._matrices(None))
    planar = planar_of(3, "tanh", "float64", 0)
    planar.w.assign(inner[0, 0] * columns[0])
    planar.u.assign(outer[0, 0] * columns[0])
    planar.b.assign(b)
    assert outer[0, 0] * inner[0, 0] > 0  # where the constraints of the two change nothing
    z = np.random.default_rng(1).normal(size=[10, 3])
    np.testing.assert_allclose(sylvester.forward(z), planar.forward(z), rtol=1e-12)
    np.testing.assert_allclose(sylvester.forward_log_det_jacobian(z), planar.forward_log_det_jacobian(z), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "softplus", "leaky_relu"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_round_trip(scale, activation, dtype):
    z = tf.constant(scale * np.random.default_rng(1).normal(size=[100, 6]), dtype)
    assert round_trip_error(sylvester_of(6, 4, activation, dtype, 2, size=0.5), z) < 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_at_the_limit(dtype):
    """Every product R_mm R~_mm at -0.999."""
    z = tf.constant(np.random.default_rng(1).normal(size=[100, 4]), dtype)
    assert round_trip_error(sylvester_of(4, 4, "tanh", dtype, 2, size=0.3, product=-1e3), z) < 20


def test_gradients_of_the_inverse():
    sylvester = sylvester_of(4, 3, "tanh", "float64", 1, size=0.5)
    x = tf.constant(np.random.default_rng(1).normal(size=[5, 4]))

    def total():
        z = sylvester.inverse(tf.identity(x))
        return tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(sylvester.inverse_log_det_jacobian(tf.identity(x)))

    with tf.GradientTape() as tape:
        value = total()
    gradients = tape.gradient(value, sylvester.trainable_variables)
    for variable, gradient in zip(sylvester.trainable_variables, gradients, strict=True):
        start = variable.numpy()
        direction = np.random.default_rng(2).normal(size=start.shape)
        values = []
        for step in (1e-3, -1e-3, 2e-3, -2e-3):
            variable.assign(start + step * direction)
            values.append(total().numpy())
        variable.assign(start)
        difference = (8 * (values[0] - values[1]) - (values[2] - values[3])) / 12e-3
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6)


@pytest.mark.parametrize("arguments", [{"num_units": 4}, {"num_units": 0}, {"activation": "relu"}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        bijectors.Sylvester(3, **arguments)
