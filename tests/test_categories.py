"""The exact parts of tables: categories one after the other, and numbers of which some are absent."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff

SIZES = [2, 1, 4]
EVERY = np.array(list(itertools.product(*map(range, SIZES))))


def perturbed(part, size=0.5):
    random = np.random.default_rng(0)
    for weight in part.trainable_variables:
        weight.assign(weight + size * random.normal(size=weight.shape))
    return part


@pytest.fixture(scope="module")
def categories():
    return perturbed(tff.distributions.Categories(SIZES, context_size=3, hidden_units=(8, 8), seed=0))


@pytest.fixture(scope="module")
def partial():
    return perturbed(tff.distributions.Partial(3, context_size=2, hidden_units=(8,), dtype=tf.float64, seed=0), 0.2)


@pytest.mark.parametrize("context_size", [0, 2])
def test_blocks_see_the_blocks_before_them(context_size):
    network = perturbed(tff.conditioners.BlockMADE(SIZES, (8, 8), context_size, activation="tanh", seed=0))
    x = tf.constant(np.random.default_rng(1).normal(size=[1, 7]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = network(x, context=tf.ones([1, context_size]) if context_size else None)
    jacobian = tape.jacobian(output, x)[0, :, 0].numpy()
    block = np.repeat(np.arange(3), SIZES)
    assert ((jacobian != 0) == (block[:, np.newaxis] > block)).all()
    again = type(network).from_config(network.get_config())
    again.set_weights(network.get_weights())
    arguments = {"context": tf.ones([1, context_size])} if context_size else {}
    np.testing.assert_array_equal(again(x, **arguments), network(x, **arguments))


def test_probabilities_sum_to_one(categories):
    for context in np.random.default_rng(1).normal(size=[3, 3]).astype("float32"):
        log_prob = categories.log_prob(EVERY, context=tf.constant(context))
        assert tf.reduce_sum(tf.exp(log_prob)).numpy() == pytest.approx(1.0, abs=1e-6)
        assert np.ptp(log_prob) > 0.1
    assert np.isneginf(categories.log_prob([[2, 0, 0], [0, 0, -1]], context=tf.zeros([3]))).all()


def test_draws_have_the_probabilities(categories):
    context = tf.constant([0.3, -1.0, 0.5])
    x = categories.sample(20_000, seed=(0, 1), context=context).numpy()
    found = (x[:, np.newaxis] == EVERY).all(-1).mean(0)
    np.testing.assert_allclose(found, categories.prob(EVERY, context=context), atol=0.015)
    assert categories.sample([2, 5], seed=(0, 1), context=tf.zeros([4, 3])).shape == (2, 5, 4, 3)
    assert categories.sample(0, seed=(0, 1), context=context).shape == (0, 3)


def test_networks_are_refused_that_are_too_narrow():
    with pytest.raises(ValueError, match="at least 4 units.*Received: hidden_units"):
        tff.distributions.Categories([2] * 5, hidden_units=(3,))
    with pytest.raises(ValueError, match=r"Received: block_sizes\[1\]=0"):
        tff.conditioners.BlockMADE([2, 0])


@pytest.mark.parametrize("present", [(1, 0, 0), (0, 0, 1), (0, 1, 1)], ids=str)
def test_what_is_there_has_a_density(partial, present):
    """It integrates to one over what is there, whatever stands where something is absent."""
    axis = np.linspace(-30.0, 30.0, 301)
    grid = np.meshgrid(*[axis if there else [7.0] for there in present], indexing="ij")
    x = tf.constant(np.stack([part.ravel() for part in grid], -1))
    p = partial.prob(x, present=tf.constant(present, tf.float64), context=tf.zeros([2], tf.float64))
    total = p.numpy().sum() * (axis[1] - axis[0]) ** sum(present)
    assert total == pytest.approx(1.0, abs=1e-3)


def test_draws_of_numbers_follow_their_density(partial):
    present = tf.tile([[1.0, 0.0, 1.0]], [20_000, 1])
    context = tf.ones([20_000, 2], tf.float64)
    x = partial.draw(present, context, seed=(0, 1))
    assert not np.any(x[:, 1])
    # The mean of exp(c) / p over draws from p is the integral of exp(c): here of a box that holds most of them.
    inside = np.all(np.abs(x.numpy()[:, ::2]) < 2, -1)
    log_prob = partial.log_prob(x, present=present, context=context).numpy()
    assert inside.mean() > 0.5
    assert np.mean(inside * np.exp(-log_prob)) == pytest.approx(16.0, rel=0.1)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_are_finite(partial, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = partial.log_prob(x, present=tf.constant([1.0, 0.0, 1.0]), context=tf.zeros([2], tf.float64))
        return log_prob, tape.gradient(log_prob, [x, *partial.trainable_variables])

    for size in (0.0, 1.0, 1e6, 1e15):
        log_prob, found = gradients(tf.constant([[size, -size, size], [-size, size, size]], tf.float64))
        assert all(np.isfinite(part).all() for part in (log_prob, *found)), size


def test_mixed_precision_leaves_probabilities_alone():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        categories = perturbed(tff.distributions.Categories(SIZES, seed=0))
    finally:
        keras.config.set_dtype_policy("float32")
    assert categories.log_prob(EVERY).dtype == tf.float32
    assert tf.reduce_sum(categories.prob(EVERY)).numpy() == pytest.approx(1.0, abs=1e-5)
