"""Copies: TFP's `copy` and `copy.copy` share the weights, `deepcopy`, `pickle` and `clone_model` do not."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tests.test_serialization import CASES, weights_of

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
CONTEXT = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def moved(part):
    for variable in part.trainable_variables:
        variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (1, 2), dtype=variable.dtype))
    return part


def embedding():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "tanh")])


def own_conditioner():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(4)])


def coupling(**arguments):
    return tff.bijectors.Coupling(3, tff.transformers.Affine(), **arguments)


def adapted():
    bijector = tff.bijectors.Standardize(3)
    bijector.adapt(tf.constant(10.0 + X))
    return bijector


BIJECTORS = {
    "planar": lambda: tff.bijectors.Planar(3),
    "linear, permuted": lambda: tff.bijectors.LULinear(3, permute=True),
    "autoregressive, random orders": lambda: tff.bijectors.MAF(3, input_order="random", hidden_units=(6,)),
    "coupling, context": lambda: tff.bijectors.RealNVP(3, context_size=2, hidden_units=(4,), name="mine"),
    "coupling, own conditioner": lambda: coupling(conditioner=own_conditioner(), context_size=2),
    "spline, unconditional": lambda: tff.bijectors.NeuralSplineCoupling(3, unconditional=True, hidden_units=(4,)),
    "adapted": adapted,
    "embedded": lambda: tff.bijectors.Embedded(
        tff.bijectors.RealNVP(3, context_size=2, hidden_units=(4,)), embedding()
    ),
    "conditioned": lambda: tff.condition(tff.bijectors.RealNVP(3, context_size=2, hidden_units=(4,)), CONTEXT),
    "standardized context": lambda: tff.bijectors.StandardizedContext(
        tff.bijectors.RealNVP(3, context_size=2, hidden_units=(4,))
    ),
    "chain": lambda: tfb.Chain(
        [tfb.Shift(tf.Variable([1.0, 2.0, 3.0])), tfb.Invert(tff.bijectors.NICE(3, hidden_units=(4,)))]
    ),
}
# What these bijectors take beside the event.
CONTEXTS = {
    "standardized context": CONTEXT,
    "coupling, context": CONTEXT,
    "coupling, own conditioner": CONTEXT,
    "embedded": np.tile(CONTEXT, 2),
}


def inverse(bijector, name):
    """Values and log-determinants, from new tensors: TFP's cache keeps those of old ones."""
    arguments = {"context": tf.constant(CONTEXTS[name])} if name in CONTEXTS else {}
    x = tf.constant(X)
    return np.concatenate(
        [bijector.inverse(x, **arguments), bijector.inverse_log_det_jacobian(x, **arguments)[:, None]], axis=1
    )


@pytest.mark.parametrize("name", BIJECTORS)
def test_copies_of_bijectors_share_the_weights(name):
    bijector = moved(BIJECTORS[name]())
    for other in (bijector.copy(), bijector.copy(name="another"), copy.copy(bijector)):
        assert type(other) is type(bijector) and other is not bijector
        assert [id(variable) for variable in other.variables] == [id(variable) for variable in bijector.variables]
        np.testing.assert_array_equal(inverse(other, name), inverse(bijector, name))
    assert bijector.copy(name="another").name == bijector.copy(name="another").parameters["name"] == "another"
    assert bijector.copy().name == bijector.name
    other = bijector.copy(name="another")
    before = inverse(bijector, name)
    for variable in bijector.variables:
        variable.assign(variable * 1.5 + 0.25)
    assert np.abs(inverse(other, name) - before).max() > 1e-3
    np.testing.assert_array_equal(inverse(other, name), inverse(bijector, name))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
@pytest.mark.parametrize("name", BIJECTORS)
def test_deep_copies_of_bijectors_have_weights_of_their_own(name, duplicate):
    bijector = moved(BIJECTORS[name]())
    other = duplicate(bijector)
    assert type(other) is type(bijector) and other.name == bijector.name
    expected = inverse(bijector, name)
    np.testing.assert_allclose(inverse(other, name), expected, rtol=1e-6, atol=1e-6)
    # What the copy computes with is what it counts, and nothing of the original.
    assert len(other.variables) == len(bijector.variables)
    assert not {id(variable) for variable in other.variables} & {id(variable) for variable in bijector.variables}
    for variable in other.variables:
        variable.assign(variable * 1.5 + 0.25)
    np.testing.assert_array_equal(inverse(bijector, name), expected)
    assert np.abs(inverse(other, name) - expected).max() > 1e-3


def test_a_copy_means_what_tfps_means():
    variable = tf.Variable(1.0)
    assert tfb.Shift(variable).copy(name="another").shift is variable
    bijector = tff.bijectors.RealNVP(3, hidden_units=(4,))
    same = bijector.copy(hidden_units=bijector.parameters["hidden_units"])
    assert same.variables[0] is bijector.variables[0]
    for changed in ({"event_size": 4}, {"hidden_units": (8,)}, {"seed": 7}, {"no_such_argument": 1}):
        with pytest.raises(ValueError, match="to change its name at most, since a copy shares the weights.*Received: "):
            bijector.copy(**changed)


def test_slices_of_bijectors_do_not_lose_the_weights():
    bijector = moved(tff.bijectors.Planar(3))
    base = tfd.MultivariateNormalDiag(tf.zeros([5, 3]))
    flow = tfd.TransformedDistribution(base, bijector)
    for part in (flow[0], flow[1:3], flow[..., tf.newaxis], flow[...]):
        assert part.variables[0] is flow.variables[0]
    assert flow[0].batch_shape == [] and flow[1:3].batch_shape == [2]
    plain = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(3)), bijector)
    for sliced in (bijector, tfb.Chain([bijector]), plain):
        with pytest.raises(ValueError, match="Expected a slice along a batch shape; .* has none.*Received"):
            sliced[tf.newaxis]


FLOWS = {name: make for name, (make, keywords) in CASES.items() if not keywords}
FLOWS["preset"] = lambda: moved(tff.flows.realnvp(3, num_layers=2, hidden_units=(4,)))
FLOWS["independent flow"] = lambda: tfd.Independent(
    moved(
        tfd.TransformedDistribution(
            tfd.MultivariateNormalDiag(tf.zeros([2, 3])), tff.bijectors.RealNVP(3, hidden_units=(4,))
        )
    ),
    1,
)
FLOWS["mixture of flows"] = lambda: tfd.Mixture(
    tfd.Categorical(logits=tf.Variable([0.0, 1.0])),
    [moved(tff.flows.realnvp(3, num_layers=2, hidden_units=(4,))) for _ in range(2)],
)


@pytest.mark.filterwarnings("ignore:The initializer VarianceScaling")  # one instance for all layers, as TFP has it
@pytest.mark.parametrize("name", FLOWS)
def test_copies_of_distributions(name):
    flow = FLOWS[name]()
    x = flow.sample(4, seed=1)

    def log_prob(distribution):
        return distribution.log_prob(tf.nest.map_structure(tf.identity, x))

    expected = log_prob(flow)
    if name != "keyword_arguments":  # whose `copy` fails in TFP
        assert [id(v) for v in flow.copy(name="another").variables] == [id(v) for v in flow.variables]
    assert [id(v) for v in copy.copy(flow).variables] == [id(v) for v in flow.variables]
    for duplicate in (copy.deepcopy, pickled) if name != "joint_namedtuple" else (copy.deepcopy,):  # a local class
        other = duplicate(flow)
        assert type(other) is type(flow) and other.name == flow.name
        np.testing.assert_allclose(log_prob(other), expected, rtol=1e-5, atol=1e-6)
        old, new = weights_of(flow), weights_of(other)
        assert len(old) == len(new)
        assert not {id(weight.value) for weight in old} & {id(weight.value) for weight in new}
        for weight in new:
            weight.assign(weight * 0.0)
        np.testing.assert_allclose(log_prob(flow), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_what_was_shared_is_shared_in_a_deep_copy(duplicate):
    variable, layer = tf.Variable([1.0, 2.0, 3.0]), own_conditioner()
    couplings = [coupling(conditioner=layer, context_size=2, name=name) for name in "ab"]
    chain = tfb.Chain([tfb.Shift(variable), *couplings, tfb.Scale(variable)])
    other = duplicate(chain)
    shift, first, second, scale = other.bijectors
    assert shift.shift is scale.scale and first.conditioner is second.conditioner
    assert first.variables[0] is second.variables[0] is first.conditioner.weights[0].value
    assert len(other.variables) == len(chain.variables)


def test_copies_of_tfps_networks():
    network = tfb.AutoregressiveNetwork(2, event_shape=[3], hidden_units=[6], input_order="random")
    assert copy.deepcopy(network).event_shape == network.event_shape  # before it has weights
    flow = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros(3)), tfb.MaskedAutoregressiveFlow(network, name="maf")
    )
    flow.log_prob(X)
    network.set_weights([weight + 0.1 for weight in network.get_weights()])
    np.testing.assert_allclose(copy.deepcopy(flow).log_prob(X), flow.log_prob(tf.constant(X)), rtol=1e-5)
    random = tfb.MaskedAutoregressiveFlow(tfb.AutoregressiveNetwork(2, hidden_degrees="random"))
    with pytest.raises(TypeError, match="Cannot copy or pickle .*hidden_degrees='random'"):
        copy.deepcopy(random)


@pytest.fixture(scope="module")
def trained():
    flow = tff.flows.realnvp(3, num_layers=2, hidden_units=(4,), embedding=embedding(), standardize=True, seed=0)
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.01), metrics=["bits_per_dim"], jit_compile=False)
    model.fit(np.tile(CONTEXT, 2), X, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, keras.models.clone_model])
def test_copies_of_models(trained, duplicate):
    context = np.tile(CONTEXT, 2)
    before = trained.log_prob(X, context)
    other = duplicate(trained)
    assert type(other) is tff.FlowModel and other.name == trained.name
    assert [weight.shape for weight in other.weights] == [weight.shape for weight in trained.weights]
    ids = {id(weight.value) for weight in trained.weights}
    assert not ids & {id(weight.value) for weight in other.weights}
    assert not {id(v) for v in trained.distribution.variables} & {id(v) for v in other.distribution.variables}
    if duplicate is keras.models.clone_model:  # in Keras's words, "newly instantiated weights", and not compiled
        assert any(np.any(new != old) for new, old in zip(other.get_weights(), trained.get_weights(), strict=True))
    else:
        np.testing.assert_allclose(other.log_prob(X, context), before, rtol=1e-5, atol=1e-5)
        assert other.optimizer.iterations == trained.optimizer.iterations
        assert other.optimizer.learning_rate == 0.01
    other.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    other.fit(context, X, verbose=0)
    np.testing.assert_array_equal(trained.log_prob(X, context), before)
    assert np.abs(other.log_prob(X, context) - before).max() > 1e-3


def test_what_cannot_be_pickled_says_why():
    flow = tfd.TransformedDistribution(
        tfd.Normal(0.0, 1.0), tfb.Inline(lambda x: x, lambda y: y, lambda y: 0.0 * y, forward_min_event_ndims=0)
    )
    assert copy.deepcopy(flow).log_prob(0.5) == flow.log_prob(0.5)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(flow)
