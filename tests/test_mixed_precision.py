"""Keras's policy "mixed_bfloat16": networks in bfloat16, densities in float32; and float64 from end to end."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff

FLOWS = {
    "realnvp": lambda **more: tff.flows.realnvp(3, num_layers=3, **more),
    "neural_spline_coupling": lambda **more: tff.flows.neural_spline_coupling(3, num_layers=3, **more),
    "maf": lambda **more: tff.flows.maf(3, num_layers=2, **more),
    "neural_spline_autoregressive": lambda **more: tff.flows.neural_spline_autoregressive(3, num_layers=2, **more),
}


@pytest.fixture
def mixed():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def both(name, **more):
    """The same flow with networks in float32 and in bfloat16, and with random weights everywhere."""
    pair = []
    before = keras.config.dtype_policy()
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        flow = FLOWS[name](hidden_units=(32, 32), seed=0, **more)
        random = np.random.default_rng(0)
        for variable in flow.trainable_variables:
            variable.assign_add(random.normal(size=variable.shape, scale=0.1).astype(variable.dtype.as_numpy_dtype))
        pair.append(flow)
    keras.config.set_dtype_policy(before)
    return pair


@pytest.mark.parametrize("name", FLOWS)
def test_what_bfloat16_costs(name):
    full, mixed = both(name)
    x = full.sample(2000, seed=(0, 1))
    difference = np.abs(mixed.log_prob(tf.identity(x)) - full.log_prob(tf.identity(x)))
    # bfloat16 has 8 binary digits: another function, near by, not one with noise.
    assert 1e-5 < np.median(difference) < 0.02
    assert np.quantile(difference, 0.99) < 0.2
    assert {variable.dtype for variable in mixed.variables} == {tf.float32}
    assert mixed.log_prob(x).dtype == tf.float32


@pytest.mark.parametrize("name", ["realnvp", "neural_spline_coupling"])
def test_couplings_stay_bijective(name):
    mixed = both(name)[1]
    x = mixed.sample(2000, seed=(0, 1))
    z = mixed.bijector.inverse(tf.identity(x))
    error = np.abs(mixed.bijector.forward(tf.identity(z)) - x).max(1)
    # Rounding may take an input of a network over a step of bfloat16: seldom, and then by such a step.
    assert np.quantile(error, 0.9) < 1e-4
    assert error.max() < 0.1


@pytest.mark.parametrize("name", ["maf", "neural_spline_autoregressive"])
def test_both_directions_of_autoregressive_flows_round_alike(name):
    mixed = both(name)[1]
    x, log_prob = mixed.experimental_sample_and_log_prob(2000, seed=(0, 1))
    difference = np.abs(mixed.log_prob(tf.identity(x)) - log_prob)
    assert np.quantile(difference, 0.9) < 1e-4
    # Where rounding takes a number over a step of bfloat16, it is such a step.
    assert np.quantile(difference, 0.99) < 1e-3


def test_the_density_is_normalised(mixed):
    flow = tff.flows.neural_spline_coupling(2, num_layers=2, hidden_units=(16,), seed=0)
    random = np.random.default_rng(1)
    for variable in flow.trainable_variables:
        variable.assign_add(random.normal(size=variable.shape, scale=0.3))
    line = np.linspace(-8, 8, 1601, dtype=np.float32)
    points = np.stack(np.meshgrid(line, line), -1)
    total = np.exp(flow.log_prob(points), dtype=np.float64).sum() * (line[1] - line[0]) ** 2
    np.testing.assert_allclose(total, 1, atol=2e-3)


def test_networks_compute_in_bfloat16_behind_the_first_layer(mixed):
    coupling = tff.bijectors.RealNVP(4, hidden_units=(8, 8), context_size=2, seed=0)
    network = coupling.conditioner
    assert network.input_layer(tf.ones([1, 2])).dtype == tf.float32
    assert network.hidden_layers[0](tf.ones([1, 8])).dtype == tf.bfloat16
    assert network(tf.ones([1, 2]), tf.ones([1, 2])).dtype == tf.bfloat16
    made = tff.bijectors.MAF(4, seed=0).conditioner
    assert made(tf.ones([1, 4])).dtype == tf.bfloat16
    # The first layer keeps digits that bfloat16 has not.
    for layer, size in ((network, 2), (made, 4)):
        for weight in layer.weights:
            weight.assign(np.random.default_rng(0).normal(size=weight.shape))
        context = (tf.zeros([2, 2]),) if layer is network else ()
        near = 100 + tf.constant([[0.0] * size, [0.2] * size])  # one number in bfloat16
        first, second = layer(near, *context).numpy()
        assert (first != second).any()


@pytest.mark.parametrize("context_mode", ["add", "gated"])
@pytest.mark.parametrize("kind", ["ResidualMLP", "MLP"])
def test_every_kind_of_network(mixed, kind, context_mode):
    network = getattr(tff.conditioners, kind)(
        3, 4, hidden_units=(8, 8), context_size=2, context_mode=context_mode, dtype="mixed_bfloat16", seed=0
    )
    assert network(tf.ones([5, 3]), tf.ones([5, 2])).shape == [5, 4]
    made = tff.bijectors.MAF(3, hidden_units=(8, 8), residual=True, context_mode=context_mode, context_size=2, seed=0)
    x = tf.ones([5, 3])
    z = made.inverse(x, context=tf.ones([5, 2]))
    np.testing.assert_allclose(made.forward(tf.identity(z), context=tf.ones([5, 2])), x, atol=0.05)


def test_a_flow_trains_as_well_in_bfloat16():
    x = tff.datasets.two_moons(2048, seed=0)
    losses = []
    before = keras.config.dtype_policy()
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = tff.FlowModel(tff.flows.realnvp(2, num_layers=4, hidden_units=(16, 16), seed=0))
        model.compile(keras.optimizers.Adam(5e-3))
        model.fit(x, epochs=10, batch_size=128, verbose=0, shuffle=False)
        losses.append(model.evaluate(x, verbose=0))
    keras.config.set_dtype_policy(before)
    assert losses[1] < 2.2 and abs(losses[0] - losses[1]) < 0.1  # 2.55 before training


def test_a_model_saved_under_the_policy_loads_without(mixed, tmp_path):
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, hidden_units=(8, 8), seed=0))
    for weight in model.trainable_weights:
        weight.assign_add(tf.random.stateless_normal(weight.shape, (0, 0), stddev=0.2))
    model.save(tmp_path / "flow.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    x = tff.datasets.two_moons(64, seed=0)
    np.testing.assert_allclose(loaded.log_prob(x), model.log_prob(x), atol=0.1)
    assert (loaded.log_prob(x) != model.log_prob(x)).numpy().any()  # it computes in float32


@pytest.mark.parametrize("name", FLOWS)
def test_float64_knows_nothing_of_it(name, mixed):
    full, under_policy = both(name, dtype=tf.float64)
    x = tf.random.stateless_normal([100, 3], (0, 0), dtype=tf.float64)
    np.testing.assert_array_equal(full.log_prob(tf.identity(x)), under_policy.log_prob(tf.identity(x)))
    assert under_policy.sample(3, seed=(0, 0)).dtype == tf.float64
