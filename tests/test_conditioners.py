"""The dense conditioners."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.context.joining import call_conditioner, concatenate
from tfp_flows.flows.flow import flow_of

KINDS = [tff.conditioners.MLP, tff.conditioners.ResidualMLP]


def moved(layer, seed=0):
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(weight + 0.3 * generator.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_starts_at_its_output_bias(kind):
    layer = kind(3, 2, (8, 8), context_size=2, output_bias=[1.0, -2.0])
    out = layer(tf.random.normal([5, 3]), tf.random.normal([5, 2]))
    np.testing.assert_array_equal(out, np.tile([1.0, -2.0], (5, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_fixes_every_weight(kind):
    one, same, other = (kind(3, 2, (8, 8), context_size=2, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one.weights, same.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(np.array(a) != np.array(b)) for a, b in zip(one.weights, other.weights, strict=True))
    kernels = [np.array(w).ravel()[:4] for w in one.weights if "kernel" in w.path and np.any(w)]
    assert len({tuple(kernel) for kernel in kernels}) == len(kernels)  # no two layers alike


def test_mlp_with_a_context_is_a_dense_network_of_both():
    layer = moved(tff.conditioners.MLP(3, 4, (8, 6), activation="tanh", context_size=2, seed=0))
    x, context = tf.random.normal([5, 3]), tf.random.normal([5, 2])
    hidden = tf.concat([x, context], -1) @ tf.concat([layer.input_layer.kernel, layer.context_layer.kernel], 0)
    hidden = tf.tanh(hidden + layer.input_layer.bias)
    hidden = tf.tanh(hidden @ layer.hidden_layers[0].kernel + layer.hidden_layers[0].bias)
    expected = hidden @ layer.output_layer.kernel + layer.output_layer.bias
    np.testing.assert_allclose(layer(x, context), expected, rtol=1e-5, atol=1e-6)


def test_residual_blocks_start_as_the_identity_and_add():
    layer = tff.conditioners.ResidualMLP(3, 4, (8, 8), activation="tanh", seed=0)
    moved(layer.output_layer)
    x = tf.random.normal([5, 3])
    expected = layer.output_layer(tf.tanh(layer.input_layer(x)))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    (inner, outer), _ = layer.blocks
    moved(outer)
    hidden = layer.input_layer(x)
    hidden = hidden + outer(tf.tanh(inner(tf.tanh(hidden))))
    np.testing.assert_allclose(layer(x), layer.output_layer(tf.tanh(hidden)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_float64_is_float64(kind):
    layer = kind(3, 2, (8, 8), context_size=2, dtype="float64")
    assert {weight.dtype for weight in layer.weights} == {"float64"}
    assert layer(tf.ones([5, 3], tf.float64), tf.ones([5, 2], tf.float64)).dtype == tf.float64


@pytest.mark.parametrize("kind", KINDS)
def test_keras_saves_them(kind):
    layer = kind(3, 2, (8, 8), activation="tanh", context_size=2, output_bias=[1.0, 2.0], seed=3, name="net")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.name == "net"
    for a, b in zip(layer.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_concatenation_broadcasts():
    out = concatenate(tf.zeros([5, 1, 3]), tf.ones([4, 2]))
    assert out.shape == (5, 4, 5)
    np.testing.assert_array_equal(out[0, 0], [0, 0, 0, 1, 1])


def test_a_context_for_all_is_multiplied_once():
    """One context and many rows: its matrix product has one row."""
    layer = tff.conditioners.MLP(3, 2, (8,), context_size=4)
    shapes = []
    plain = layer.context_layer.call
    layer.context_layer.call = lambda context: shapes.append(context.shape) or plain(context)
    call_conditioner(layer, tf.zeros([100, 3]), tf.zeros([4]))
    assert shapes == [(1, 4)]


@pytest.mark.parametrize("make", [tff.conditioners.MLP, tff.conditioners.MADE])
def test_hidden_layers_start_with_kernels_and_biases_of_one_width(make):
    layer = make(100, 2, hidden_units=(400, 300), seed=0)
    weights = [np.asarray(tf.convert_to_tensor(weight)) for weight in layer.trainable_variables]
    *hidden, output_kernel, output_bias = weights
    for kernel, bias in zip(hidden[::2], hidden[1::2], strict=True):
        limit = 1 / np.sqrt(len(kernel))
        for weight in (kernel, bias):
            assert np.abs(weight).max() <= limit and np.std(weight) == pytest.approx(limit / np.sqrt(3), rel=0.1)
            assert abs(weight.mean()) < 0.15 * limit
        assert abs(np.corrcoef(kernel[0], bias)[0, 1]) < 0.2  # two draws, not one
    assert not output_kernel.any() and not output_bias.any()


def dropout_network(**options):
    layer = tff.conditioners.ResidualMLP(2, 2, (32, 32), seed=0, **options)
    return moved(layer)


def test_dropout_acts_in_training_alone():
    layer, x = dropout_network(dropout=0.5), tf.random.normal([64, 2], seed=1)
    plain = dropout_network()
    for mine, its in zip(layer.trainable_variables, plain.trainable_variables, strict=True):
        mine.assign(its)
    np.testing.assert_array_equal(layer(x), plain(x))
    one, other = layer(x, training=True), layer(x, training=True)
    assert np.abs(one - layer(x)).max() > 0.01 and np.abs(one - other).max() > 0.01
    assert not plain.non_trainable_variables  # no random state without dropout


def test_dropout_keeps_the_mean_of_what_the_last_matrix_of_a_block_takes():
    layer = tff.conditioners.ResidualMLP(2, 1, (4000,), seed=0, dropout=0.25)
    layer.blocks[0][1].kernel.assign(tf.eye(4000))
    layer.output_layer.kernel.assign(tf.ones([4000, 1]))
    x = tf.ones([1, 2])
    np.testing.assert_allclose(layer(x, training=True), layer(x), rtol=0.05)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dropout_acts_in_fit_and_not_in_log_prob(jit_compile):
    """With a learning rate of 0 the loss of a step is the same in every epoch, unless something is drawn in it."""
    x = tff.datasets.two_moons(64, seed=0)
    losses = {}
    for dropout in (0.0, 0.5):
        network = moved(tff.conditioners.ResidualMLP(1, 2, (16,), seed=0, dropout=dropout))
        model = tff.FlowModel(
            flow_of(lambda conditioner=network, **shared: [[tff.bijectors.RealNVP(2, conditioner=conditioner)]], 2)
        )
        model.compile(keras.optimizers.SGD(0.0), jit_compile=jit_compile)
        history = model.fit(x, epochs=3, batch_size=64, shuffle=False, verbose=0, validation_data=x).history
        losses[dropout] = history["loss"]
        np.testing.assert_allclose(history["val_loss"], history["val_loss"][0], rtol=1e-6)
        np.testing.assert_allclose(-np.mean(model.log_prob(x)), history["val_loss"][0], rtol=1e-5)
    assert np.ptp(losses[0.0]) < 1e-5 and np.ptp(losses[0.5]) > 1e-3


def test_dropout_is_part_of_the_config_and_saved(tmp_path):
    layer = tff.conditioners.ResidualMLP(2, 2, (8,), seed=0, dropout=0.3, dtype="float64")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.dropout == 0.3 and len(again.dropout_layers) == 1
    assert again(tf.ones([1, 2], tf.float64), training=True).dtype == tf.float64
    coupling = tff.bijectors.NeuralSplineCoupling(4, conditioner=tff.conditioners.ResidualMLP(2, 46, (8,), dropout=0.3))
    model = tff.FlowModel(flow_of(lambda **shared: [[coupling]], 4))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    model.compile(jit_compile=False)
    model.fit(x, verbose=0)
    model.save(tmp_path / "dropout.keras")
    again = keras.models.load_model(tmp_path / "dropout.keras")
    np.testing.assert_array_equal(again.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, "0.1", True])
def test_bad_dropout_is_refused(dropout):
    with pytest.raises(ValueError, match=r"below 1. Received: dropout="):
        tff.conditioners.ResidualMLP(2, 2, (8,), dropout=dropout)


def test_dropout_stays_out_of_a_stack():
    """Its gradient evaluates every layer again, where a random state would have moved on."""
    turns = [
        tff.bijectors.RealNVP(2, conditioner=tff.conditioners.ResidualMLP(1, 2, (8,), dropout=0.5)) for _ in range(2)
    ]
    with pytest.raises(ValueError, match="without a `conditioner` argument"):
        tff.bijectors.Stack(turns)


@pytest.mark.parametrize("normalization", ["weight", "act"])
def test_scales_of_normalized_convolutions_are_in_the_file(normalization, tmp_path):
    flow = tff.flows.glow([4, 4, 1], 1, 1, 8, normalization=normalization, seed=0)
    model = tff.FlowModel(flow)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * tf.random.stateless_normal(variable.shape, [0, 1]))
    model.save(tmp_path / "images.keras")
    x = np.random.default_rng(0).uniform(0.1, 0.9, (5, 4, 4, 1)).astype(np.float32)
    again = keras.models.load_model(tmp_path / "images.keras")
    np.testing.assert_array_equal(again.log_prob(x), model.log_prob(x))
