"""The bridge, and the undocumented behaviour of Keras that it rests on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.tracking import AdoptedVariable, layers_of, weights_of


def test_keras_lets_a_weight_be_an_existing_variable():
    """If this fails, Keras no longer takes `_value` from `_initialize_with_initializer`; see AdoptedVariable."""
    variable = tf.Variable([1.0, 2.0], name="scope/shift")
    adopted = AdoptedVariable(variable)
    assert adopted.value is variable
    assert adopted.name == "scope.shift"
    adopted.assign([3.0, 4.0])
    np.testing.assert_array_equal(variable, [3.0, 4.0])
    variable.assign([5.0, 6.0])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(adopted), [5.0, 6.0])


def test_an_optimizer_moves_the_variable_and_applies_its_constraint():
    variable = tf.Variable([1.0, 2.0], constraint=lambda value: value * tf.constant([1.0, 0.0]))
    adopted = AdoptedVariable(variable)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.apply([tf.constant([1.0, 1.0])], [adopted])
    np.testing.assert_allclose(variable, [0.9, 0.0])


def test_frozen_variables_stay_frozen():
    assert not AdoptedVariable(tf.Variable(1.0, trainable=False)).trainable


def test_layers_hold_every_variable_once_under_the_innermost_part():
    shared = tf.Variable(tf.zeros([2]), name="shared")
    flow = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.Variable([0.0, 0.0], name="loc"), tf.ones([2])),
        tfb.Chain(
            [
                tfb.Shift(shared, name="near"),
                tff.bijectors.RealNVP(2, name="middle"),
                tfb.Shift(shared, name="far"),
                tfb.ScaleMatvecTriL(tfp_triangle(), name="triangle"),
            ]
        ),
    )
    layers = layers_of(flow)
    weights = [weight for layer in layers for weight in weights_of(layer)]
    assert len({id(weight) for weight in weights}) == len(weights) == len(flow.variables)
    assert {id(weight) for weight in weights} == {id(variable) for variable in flow.variables}
    by_name = {layer.name: layer for layer in layers}
    assert type(by_name["middle"]).__name__ == "RealNVP"
    assert len(by_name["middle"].weights) == 6
    assert len(by_name["triangle"].weights) == 1
    assert sum(name in by_name for name in ("near", "far")) == 1


def tfp_triangle():
    from tensorflow_probability import util

    return util.TransformedVariable(tf.eye(2), tfb.FillScaleTriL())


def test_keras_layers_that_tfp_cannot_see_are_found():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    bijector = tfb.RealNVP(1, shift_and_log_scale_fn=lambda x, size: tf.split(network(x), 2, -1))
    assert layers_of(bijector) == []  # nothing sees into a closure
    bijector.network = network
    (layer,) = layers_of(bijector)
    assert [id(weight) for weight in layer.weights] == [id(weight) for weight in network.weights]


@pytest.mark.parametrize("frozen", ["middle", "near"])
def test_a_frozen_layer_is_not_trained(frozen):
    chain = tfb.Chain([tfb.Shift(tf.Variable([1.0, 1.0]), name="near"), tff.bijectors.RealNVP(2, name="middle")])
    model = tff.FlowModel(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), chain))
    model.get_layer(frozen).trainable = False
    model.compile(jit_compile=False)
    before = {layer.name: [w.numpy() for w in layer.weights] for layer in model.layers}
    model.fit(tff.datasets.two_moons(64, seed=0), verbose=0)
    for layer in model.layers:
        moved = any(np.any(w.numpy() != b) for w, b in zip(layer.weights, before[layer.name], strict=True))
        assert moved == (layer.name != frozen)


def test_summary_shows_the_shapes_of_events(capsys):
    model = tff.FlowModel(tff.flows.nice(3, num_layers=2, context_size=2, hidden_units=(4,)))
    model.summary()
    printed = capsys.readouterr().out
    assert "(None, 3)" in printed and "?" not in printed
