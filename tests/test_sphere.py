"""The sphere: densities without poles, points on it and off it, and the chart."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tests.cases import unit_vectors


def perturbed(flow, size=0.3):
    """The flow with its weights moved away from their start."""
    generator = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign_add(size * generator.normal(size=variable.shape).astype(variable.dtype.as_numpy_dtype))
    return flow


@pytest.fixture(scope="module")
def flow():
    return perturbed(tff.flows.sphere(num_layers=3, hidden_units=(16,), seed=0, stack=False), 0.1)


def grid(num_heights=200, num_azimuths=400):
    """Nodes of Gauss's rule in the height and of the trapezoid's in the azimuth, with their areas."""
    heights, weights = np.polynomial.legendre.leggauss(num_heights)
    azimuths = 2 * np.pi * (np.arange(num_azimuths) + 0.5) / num_azimuths
    h, azimuth = np.meshgrid(heights, azimuths, indexing="ij")
    radius = np.sqrt(1 - h**2)
    points = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), h], -1).reshape(-1, 3)
    return points.astype(np.float32), np.repeat(weights, num_azimuths) * 2 * np.pi / num_azimuths


def ring(radius, side, num_points=64):
    angles = 2 * np.pi * np.arange(num_points) / num_points
    height = np.full(num_points, side * np.sqrt(1 - radius**2))
    return np.stack([radius * np.cos(angles), radius * np.sin(angles), height], -1)


def at_layer(flow, k, points):
    """The points on the data's side that are these at the k-th `SphereFlow`."""
    parts = flow.bijector.bijectors
    index = [i for i, part in enumerate(parts) if isinstance(part, tff.bijectors.SphereFlow)][k]
    x = tf.constant(points, tf.float32)
    for part in parts[:index][::-1]:
        x = part.forward(x)
    return tf.identity(x)


def test_the_density_integrates_to_one(flow):
    points, areas = grid()
    log_prob = tff.FlowModel(flow).log_prob(points).numpy().astype(np.float64)
    assert np.ptp(log_prob) > 1
    assert abs(np.exp(log_prob) @ areas - 1) < 1e-3


@pytest.mark.parametrize("k", range(3))
@pytest.mark.parametrize("side", [1, -1])
def test_the_density_is_continuous_at_the_poles_of_every_layer(flow, k, side):
    spreads = [np.ptp(flow.log_prob(at_layer(flow, k, ring(radius, side)))) for radius in (1e-2, 1e-3, 1e-4)]
    # In proportion to the radius, by the slope of the other layers.
    assert spreads[1] < spreads[0] / 5 + 1e-4 and spreads[2] < spreads[1] / 5 + 1e-4
    pole = flow.log_prob(at_layer(flow, k, [[0.0, 0.0, side]]))
    assert np.abs(flow.log_prob(at_layer(flow, k, ring(1e-4, side))) - pole).max() < 1e-2


@pytest.mark.parametrize("radius", [0.0, 1e-30, 1e-15, 1e-8, 1e-5, 1e-3])
def test_values_and_gradients_are_finite_at_the_poles(radius):
    layer = perturbed(tff.bijectors.SphereFlow(hidden_units=(8,), seed=0))
    for side in (1, -1):
        x = tf.constant(ring(radius, side, 5), tf.float32)
        for method in ("forward", "inverse"):
            with tf.GradientTape() as tape:
                tape.watch(x)
                values = [getattr(layer, method)(x), getattr(layer, f"{method}_log_det_jacobian")(x)]
            gradients = [tf.convert_to_tensor(g) for g in tape.gradient(values, [x, *layer.trainable_variables])]
            assert all(np.isfinite(value).all() for value in values + gradients)
            # Of log p along the sphere, too: it is a density with a bounded slope.
            assert np.abs(gradients[0]).max() < 1e3


def test_a_layer_is_a_dilation_and_a_turn_near_its_poles():
    layer = perturbed(tff.bijectors.SphereFlow(hidden_units=(8,), seed=0))
    x = layer.forward(tf.constant(ring(1e-3, 1), tf.float32)).numpy()
    radii = np.hypot(x[:, 0], x[:, 1])
    np.testing.assert_allclose(radii, radii[0], rtol=1e-4)
    assert abs(radii[0] / 1e-3 - np.exp(-layer.dilation.numpy().item() / 2)) < 1e-3


def test_round_trips_in_float32(flow):
    z = tf.constant(unit_vectors(np.random.default_rng(0).normal(size=[20_000, 3])), tf.float32)
    x = flow.bijector.forward(z)
    errors = np.abs(flow.bijector.inverse(tf.identity(x)) - z).max(-1)
    assert errors.max() < 1e-4 and np.median(errors) < 1e-6
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-6)


def test_rotated_data_have_the_likelihood_of_the_rotated_model(flow):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=[3, 3]))[0].astype(np.float32)
    turn = tfb.ScaleMatvecLinearOperator(tf.linalg.LinearOperatorFullMatrix(rotation))
    rotated = tfd.TransformedDistribution(flow.distribution, tfb.Chain([turn, flow.bijector]))
    x = unit_vectors(np.random.default_rng(0).normal(size=[100, 3])).astype(np.float32)
    np.testing.assert_allclose(rotated.log_prob(x @ rotation.T), flow.log_prob(x), atol=1e-3)


def test_points_off_the_sphere_are_refused_and_rounding_is_projected(flow):
    x = tf.constant([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="unit vectors. Received"):
        flow.log_prob(x * [[1.0], [1.01]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="unit vectors"):
        tff.FlowModel(flow).log_prob(tf.zeros([1, 3]))
    np.testing.assert_allclose(flow.log_prob(1.0003 * x), flow.log_prob(x), atol=1e-4)
    compiled = tf.function(flow.log_prob, jit_compile=True)
    found = compiled(x * [[1.0], [1.01]]).numpy()
    assert np.isfinite(found[0]) and found[1] == -np.inf


def test_an_event_that_is_not_finite_does_not_affect_other_rows(flow):
    found = flow.log_prob(tf.constant([[np.nan, 0.0, 1.0], [0.0, 0.6, 0.8]])).numpy()
    assert not np.isfinite(found[0]) and np.isfinite(found[1])


def test_training_leaves_the_uniform_density(flow):
    x = tfd.VonMisesFisher([0.0, 0.0, 1.0], 20.0).sample(2048, seed=(0, 1)).numpy()
    model = tff.FlowModel(tff.flows.sphere(num_layers=1, hidden_units=(8,), seed=0))
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, epochs=20, verbose=0)
    entropy = -np.mean(tfd.VonMisesFisher([0.0, 0.0, 1.0], 20.0).log_prob(x))
    assert model.evaluate(x, verbose=0) < entropy + 0.3 < np.log(4 * np.pi) - 0.5


def test_a_base_of_von_mises_and_fisher():
    base = tfd.VonMisesFisher([0.0, 1.0, 0.0], 5.0)
    flow = tff.flows.sphere(num_layers=1, base=base, seed=0)
    x = unit_vectors(np.random.default_rng(0).normal(size=[10, 3])).astype(np.float32)
    expected = base.log_prob(flow.bijector.inverse(x))  # at initialization the flow is a reflection
    np.testing.assert_allclose(flow.log_prob(x), expected, atol=1e-5)


def test_the_chart_has_the_density_of_the_coordinates():
    chart = tff.bijectors.SphericalCoordinates(dtype="float64")
    uniform = tfd.Independent(tfd.SphericalUniform(3, dtype=tf.float64), 0)
    density = tfd.TransformedDistribution(uniform, tfb.Invert(chart))
    coordinates = np.array([[0.3, -3.0], [np.pi / 2, 0.0], [3.0, 2.0]])
    np.testing.assert_allclose(density.log_prob(coordinates), np.log(np.sin(coordinates[:, 0]) / (4 * np.pi)))
    x = chart.forward(coordinates)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1)
    np.testing.assert_allclose(chart.inverse(tf.identity(x)), coordinates)
    assert chart.forward_event_shape([7, 2]) == [7, 3] and density.event_shape == [2]


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="act_norm"):
        tff.flows.sphere(act_norm=True)
    with pytest.raises(ValueError, match="num_layers"):
        tff.flows.sphere(num_layers=0)


def test_a_picture_of_samples_and_of_nothing():
    pytest.importorskip("matplotlib").use("agg")
    x = unit_vectors(np.random.default_rng(0).normal(size=[200, 3]) + np.array([0.0, 0.0, 3.0]))
    axes = tff.plotting.sphere(samples=x, truth=x[0], num_points=30).axes[0]
    longitude, latitude = axes.lines[0].get_xdata(), axes.lines[0].get_ydata()
    np.testing.assert_allclose(np.sin(latitude), x[0, 2])
    np.testing.assert_allclose(np.cos(latitude) * np.cos(longitude), x[0, 0])
    with pytest.raises(ValueError, match="neither"):
        tff.plotting.sphere()
