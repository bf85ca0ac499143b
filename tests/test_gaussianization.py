"""What is special about Gaussianization: it starts from data, and alone that is RBIG already."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows import bijectors
from tfp_flows.bijectors.gaussianization import _reflections
from tfp_flows.bijectors.linear import rotate, unit_vectors


def gaussian_log_likelihood(x, points):
    """The mean log-density of `points` under the normal of the mean and the full covariance of `x`."""
    centered = points - x.mean(0)
    covariance = np.cov(x, rowvar=False)
    squares = np.sum(centered * np.linalg.solve(covariance, centered.T).T, -1)
    return -np.mean(squares) / 2 - np.linalg.slogdet(2 * np.pi * covariance)[1] / 2


def test_adapt_alone_is_rbig():
    """Before any step of training, more than half a nat above a normal of full covariance, on fresh data."""
    x, fresh = tff.datasets.two_moons(10_000, seed=0), tff.datasets.two_moons(10_000, seed=1)
    model = tff.FlowModel(tff.flows.gaussianization(2, num_layers=6, seed=0))
    model.adapt(x)
    likelihood = np.mean(model.log_prob(fresh))
    assert likelihood > gaussian_log_likelihood(x, fresh) + 0.5
    assert likelihood < -tff.datasets.two_moons.entropy() + 0.1
    z = model.inverse(x).numpy()
    np.testing.assert_allclose(np.cov(z, rowvar=False), np.eye(2), atol=0.15)


def test_adapt_makes_each_coordinate_normal_and_the_whole_uncorrelated():
    generator = np.random.default_rng(0)
    x = np.exp(generator.normal(size=[5000, 3]) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.9], [0.0, 0.0, 0.5]]))
    layer = bijectors.Gaussianization(3, dtype="float64", seed=0)
    layer.adapt(x)
    covariance = np.cov(layer.inverse(x), rowvar=False)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-10)
    np.testing.assert_allclose(np.trace(covariance), 3, atol=0.5)


@pytest.mark.parametrize("num_reflections", [1, 2, 4, 5, 7])
def test_reflections_reach_every_rotation(num_reflections):
    """The first R axes exactly, and what else there is stays a rotation."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=[5, 5]))[0]
    vectors = tf.constant(_reflections(axes, num_reflections))
    turned = rotate(tf.constant(axes.T), unit_vectors(vectors)).numpy()
    np.testing.assert_allclose(turned @ turned.T, np.eye(5), atol=1e-14)
    np.testing.assert_allclose(np.abs(turned[:num_reflections]), np.eye(5)[:num_reflections], atol=1e-14)


def test_adapt_with_a_context_starts_from_all_data():
    x = np.random.default_rng(0).exponential(size=[2000, 2]).astype("float32")
    free = bijectors.Gaussianization(2, seed=0)
    given = bijectors.Gaussianization(2, context_size=3, seed=0)
    free.adapt(x)
    given.adapt(x, context=np.zeros([2000, 3], "float32"))
    np.testing.assert_allclose(given.inverse(x, context=tf.ones([3])), free.inverse(x), atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-11)])
def test_round_trip_from_random_weights(dtype, tolerance):
    """zuko's does not come back from there."""
    flow = tff.flows.gaussianization(6, num_layers=6, seed=0, dtype=dtype)
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, [0, k], dtype=dtype))
    x = tf.constant(3 * np.random.default_rng(0).normal(size=[200, 6]), dtype)
    z = flow.bijector.inverse(x)
    np.testing.assert_allclose(flow.bijector.forward(tf.identity(z)), x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_points_far_from_all_data_have_a_density(far):
    model = tff.FlowModel(tff.flows.gaussianization(2, num_layers=3, seed=0))
    model.adapt(tff.datasets.two_moons(1000, seed=0))
    assert np.isfinite(model.log_prob(np.float32([[far, -far], [0, far]]))).all()


def test_bad_data_is_refused_and_changes_nothing():
    layer = bijectors.Gaussianization(2, seed=0)
    before = [variable.numpy() for variable in layer.variables]
    for x, message in [([[np.nan, 1.0]] * 20, "20 rows with 20 non-finite values"), (np.zeros([0, 2]), "0 rows")]:
        with pytest.raises(ValueError, match=f"Received: {message}"):
            layer.adapt(x)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("arguments", [{"num_components": 0}, {"num_reflections": 0}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        bijectors.Gaussianization(3, **arguments)
