"""Circles and tori: densities without a seam."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tests.test_sphere import perturbed
from tfp_flows.transformers.circular_spline import wrap

FLOWS = {
    "circle": lambda **options: tff.flows.torus(1, num_layers=2, **options),
    "coupling": lambda **options: tff.flows.torus(2, num_layers=2, **options),
    "autoregressive": lambda **options: tff.flows.torus(2, num_layers=2, kind="autoregressive", **options),
}
every_flow = pytest.mark.parametrize("kind", FLOWS)


def made(kind, dtype="float64"):
    return perturbed(FLOWS[kind](hidden_units=(8,), dtype=tf.as_dtype(dtype), seed=0))


@every_flow
def test_the_density_integrates_to_one(kind):
    flow = made(kind, "float32")
    size = flow.event_shape[0]
    n = 20_000 if size == 1 else 1200
    line = -np.pi + 2 * np.pi * (np.arange(n) + 0.5) / n
    points = np.stack(np.meshgrid(*[line] * size), -1).reshape(-1, size).astype(np.float32)
    log_prob = tff.FlowModel(flow).log_prob(points).numpy().astype(np.float64)
    assert np.ptp(log_prob) > 0.2
    assert abs(np.exp(log_prob).sum() * (2 * np.pi / n) ** size - 1) < 1e-4


@every_flow
@pytest.mark.parametrize("i", [0, 1])
def test_value_and_derivative_agree_at_both_sides_of_the_seam(kind, i):
    flow = made(kind)
    size = flow.event_shape[0]
    if i >= size:
        i = 0
    others = np.random.default_rng(0).uniform(-3, 3, size=[5, size])
    sides = []
    for seam in (-np.pi, np.pi - 1e-9):
        x = tf.constant(np.where(np.arange(size) == i, seam, others))
        with tf.GradientTape() as tape:
            tape.watch(x)
            density = tf.exp(flow.log_prob(x))
        sides.append((density, tape.gradient(density, x)))
    np.testing.assert_allclose(sides[0][0], sides[1][0], atol=1e-5)
    np.testing.assert_allclose(sides[0][1], sides[1][1], atol=1e-5)
    assert np.abs(sides[0][1]).max() > 1e-3


@every_flow
def test_angles_stand_for_points_and_draws_are_in_range(kind):
    flow = made(kind, "float32")
    x = flow.sample(1000, seed=(0, 1))
    assert np.all((x >= -np.float32(np.pi)) & (x <= np.float32(np.pi)))
    assert np.isfinite(flow.log_prob(tf.identity(x))).all()
    np.testing.assert_allclose(flow.log_prob(x[:50] - 4 * np.pi), flow.log_prob(x[:50]), atol=1e-3)
    back = flow.bijector.forward(tf.identity(flow.bijector.inverse(tf.identity(x))))
    assert np.abs(wrap(back - x)).max() < 1e-4


def test_every_angle_depends_on_every_other():
    flow = perturbed(
        tff.flows.torus(3, num_layers=2, kind="autoregressive", hidden_units=(16,), dtype=tf.float64, seed=0)
    )
    z = tf.constant(np.random.default_rng(0).uniform(-3, 3, size=[4, 3]))
    with tf.GradientTape() as tape:
        tape.watch(z)
        x = flow.bijector.forward(z)
    assert np.all(np.any(np.array(tape.batch_jacobian(x, z)) != 0, axis=0))


def test_a_base_of_von_mises():
    base = tfd.Independent(tfd.VonMises([0.0, 1.0], 2.0), 1)
    flow = tff.flows.torus(2, num_layers=1, base=base, seed=0)
    x = tf.constant([[0.5, 3.0], [-3.0, -1.0]])
    np.testing.assert_allclose(flow.log_prob(x), base.log_prob(x), atol=1e-5)


def test_training_finds_two_peaks_across_the_seam():
    circle = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.VonMises([0.0, np.pi], [8.0, 30.0]))
    x = wrap(circle.sample([2048, 1], seed=(0, 1))).numpy()
    model = tff.FlowModel(tff.flows.torus(1, num_layers=1, hidden_units=(4,), seed=0))
    model.compile(keras.optimizers.Adam(0.03))
    model.fit(x, epochs=20, verbose=0)
    assert model.evaluate(x, verbose=0) < -np.mean(circle.log_prob(x)) + 0.05


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="kind"):
        tff.flows.torus(2, kind="other")
    with pytest.raises(ValueError, match="input_order"):
        tff.bijectors.CircularAutoregressive(3, [0, 1, 1])
    with pytest.raises(ValueError, match="num_bins"):
        tff.transformers.CircularSpline(num_bins=0)
