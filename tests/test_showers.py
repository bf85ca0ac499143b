"""Showers: the likelihood that is known, against the simulation; and directions summarized."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import distributions as tfd

import tfp_flows as tff


def test_the_integral_over_the_energy_is_right():
    showers = tff.datasets.Showers(energy=5.0)
    context, theta = (part[0].astype(np.float64) for part in showers.sample(1, seed=3))
    charge, time = np.round(context[:30] ** 2), context[30:]
    way = showers.sensors - theta[:3]
    distance = np.sqrt(np.sum(way**2, 1) + 0.01)
    brightness = np.exp(2 * (way @ theta[3:] / distance - 1) - distance) / distance**2
    energies = np.linspace(1e-3, 60, 20_000)
    logs = stats.poisson.logpmf(charge[:, None], energies * brightness[:, None]).sum(0)
    logs += stats.gamma.logpdf(energies, 4, scale=5.0 / 4)
    expected = np.log(np.trapezoid(np.exp(logs - logs.max()), energies)) + logs.max()
    seen = charge > 0
    expected += stats.norm.logpdf(time[seen], distance[seen], 0.2 / np.sqrt(charge[seen])).sum()
    expected += stats.norm.logpdf(theta[:3], 0, 0.5).sum() - np.log(4 * np.pi)
    assert abs(showers.joint_log_prob(theta, context).numpy() - expected) < 1e-4 * abs(expected)


def test_draws_are_those_of_the_likelihood():
    # E[p(c|θ') / p(c|θ)] over c ~ p(c|θ) is 1 for every θ' near θ: simulation and density are one model.
    showers = tff.datasets.Showers()
    theta = np.tile([0.1, -0.2, 0.3, 0.0, 0.6, 0.8], [20_000, 1])
    context = showers.observe(theta, np.random.default_rng(0))
    moved = theta + np.array([0.02, 0.01, -0.02, 0, 0, 0])
    ratio = showers.joint_log_prob(moved, context) - showers.joint_log_prob(theta, context)
    prior = stats.norm.logpdf(moved[0, :3], 0, 0.5).sum() - stats.norm.logpdf(theta[0, :3], 0, 0.5).sum()
    weights = np.exp(ratio.numpy() - prior)
    assert weights.std() > 0.05
    assert abs(weights.mean() - 1) < 5 * weights.std() / np.sqrt(len(weights))


def test_shapes_and_seeds():
    showers = tff.datasets.Showers()
    context, theta = showers.sample(7, seed=1)
    assert context.dtype == theta.dtype == np.float32
    np.testing.assert_array_equal(context, showers.sample(7, seed=1)[0])
    np.testing.assert_allclose(np.linalg.norm(theta[:, 3:], axis=1), 1, atol=1e-6)
    assert showers.joint_log_prob(theta[:, None], context).shape == (7, 7)
    assert np.all((context[:, 30:] == 0) == (context[:, :30] == 0))
    with pytest.raises(ValueError, match="Received"):
        tff.datasets.Showers(noise=0.0)


@pytest.mark.parametrize("concentration", [0.1, 3.0, 100.0, 1e4])
def test_directions_are_summarized_by_mean_and_concentration(concentration):
    mean = tf.constant([0.0, 0.6, 0.8], tf.float64)
    x = tfd.VonMisesFisher(mean, tf.constant(concentration, tf.float64)).sample([20_000, 2], seed=(0, 1))
    direction, found = tff.inference.von_mises_fisher(x)
    assert direction.shape == (2, 3) and found.shape == (2,)
    np.testing.assert_allclose(found, concentration, rtol=0.05, atol=0.05)
    if concentration > 1:
        np.testing.assert_allclose(direction, np.tile(mean, [2, 1]), atol=0.03)


def test_extreme_directions_have_finite_summaries():
    same = np.tile([0.0, 0.0, 1.0], [10, 1])
    opposite = np.concatenate([same, -same])
    for x in (same, opposite):
        assert all(np.isfinite(part).all() for part in tff.inference.von_mises_fisher(x))
    with pytest.raises(ValueError, match="Received"):
        tff.inference.von_mises_fisher(np.zeros([5, 2]))
