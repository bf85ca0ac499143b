"""What is special about elementwise flows."""

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows import bijectors, transformers


def test_every_coordinate_has_its_own_map():
    elementwise = bijectors.Elementwise(3, transformers.Affine())
    elementwise.theta.assign([[1.0, 2.0, 3.0], [0.0, 0.5, -0.5]])
    scale = np.exp(3 * np.tanh(np.array([0.0, 0.5, -0.5]) / 3))
    np.testing.assert_allclose(elementwise.forward(tf.ones([3])), scale + np.arange(1, 4), rtol=1e-6)
    np.testing.assert_allclose(elementwise.forward_log_det_jacobian(tf.ones([3])), np.log(scale).sum(), atol=1e-6)


def test_a_context_says_where_a_new_flow_starts_as_well():
    free = bijectors.Elementwise(2, transformers.LogisticMixture(3), dtype="float64", seed=0)
    given = bijectors.Elementwise(2, transformers.LogisticMixture(3), context_size=4, dtype="float64", seed=0)
    x = np.random.default_rng(0).normal(size=[5, 2])
    np.testing.assert_allclose(given.inverse(x, context=tf.ones([4], tf.float64)), free.inverse(x), rtol=1e-12)


def test_diagonal_affine_regresses_mean_and_width():
    """x ~ N(2c, (0.1 + c)²): the conditional scale and shift find both."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    context = generator.uniform(size=[8000, 1]).astype("float32")
    x = 2 * context + (0.1 + context) * generator.normal(size=[8000, 1]).astype("float32")
    base = tfd.MultivariateNormalDiag(tf.zeros([1]))
    affine = bijectors.DiagonalAffine(1, context_size=1, hidden_units=(32,), seed=0)
    model = tff.FlowModel(tfd.TransformedDistribution(base, affine))
    model.compile(keras.optimizers.Adam(5e-3), jit_compile=False)
    model.fit(context, x, epochs=20, verbose=0)
    for c in (0.3, 0.8):
        draws = model.sample(20_000, context=np.float32([c]), seed=1).numpy()
        np.testing.assert_allclose(draws.mean(), 2 * c, atol=0.15)
        np.testing.assert_allclose(draws.std(), 0.1 + c, rtol=0.25)
