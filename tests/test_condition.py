"""Contexts: bound by `tff.condition`, compressed by embeddings, and what wrong ones get."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.context import Conditioned, context_arguments

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(5, 2)).astype("float32")
CONTEXT = RANDOM.normal(size=(5, 3)).astype("float32")
SERIES = RANDOM.normal(size=(5, 12, 2)).astype("float32")


def moved(part):
    for variable in part.trainable_variables:
        variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (1, 2), dtype=variable.dtype))
    return part


def coupling(name):
    return tff.bijectors.RealNVP(2, context_size=3, hidden_units=(8,), seed=0, name=name)


def normal():
    return tfd.MultivariateNormalDiag(tf.zeros(2))


def tfps_autoregressive():
    network = tfb.AutoregressiveNetwork(
        2, event_shape=[2], conditional=True, conditional_event_shape=[3], hidden_units=[8], activation="tanh"
    )
    return tfb.MaskedAutoregressiveFlow(network, name="maf")


def tfps_coupling():
    network = keras.layers.Dense(2)
    network.build((None, 4))

    def shift_and_log_scale(x, output_units, context):
        return tf.split(0.1 * network(tf.concat([x, context + 0 * x], -1)), 2, -1)

    return tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=shift_and_log_scale, name="coupling")


COMPOSITIONS = {
    "one": lambda: coupling("one"),
    "chain": lambda: tfb.Chain([coupling("one"), tfb.Permute([1, 0]), coupling("two")]),
    "nested": lambda: tfb.Chain(
        [
            tfb.Chain([tfb.Shift([1.0, 2.0]), coupling("one")]),
            tfb.Invert(tfb.Chain([coupling("two"), coupling("three")])),
        ]
    ),
    "TFP's autoregressive flow": lambda: tfb.Chain([tfps_autoregressive(), coupling("two")]),
    "TFP's coupling": lambda: tfb.Chain([coupling("two"), tfps_coupling()]),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_bijectors_of_any_composition(name):
    bijector = COMPOSITIONS[name]()
    arguments = context_arguments(bijector, tf.constant(CONTEXT))
    bijector.forward(X, **arguments)  # builds the network of TFP's
    moved(bijector)
    bound = tff.condition(bijector, CONTEXT)
    assert isinstance(bound, tfb.Bijector) and bound.experimental_batch_shape() == [5]
    assert bound.experimental_batch_shape_tensor().numpy().tolist() == [5]
    assert {id(v) for v in bound.variables} == {id(v) for v in bijector.variables}
    for method in ("forward", "inverse", "forward_log_det_jacobian", "inverse_log_det_jacobian"):
        expected = getattr(bijector, method)(tf.constant(X), **arguments)
        np.testing.assert_allclose(getattr(bound, method)(tf.constant(X)), expected, rtol=1e-5, atol=1e-5)
    if name != "TFP's coupling":  # whose function, ours here, does not broadcast
        wide = bound.forward(tf.zeros([7, 1, 2]))
        assert wide.shape == (7, 5, 2)
        assert np.all(np.abs(np.diff(wide, axis=0)) < 1e-6) and np.any(np.std(wide, axis=1) > 0)


def test_distributions_get_the_batch_shape_and_independent_draws():
    flow = moved(tff.flows.realnvp(2, num_layers=2, context_size=3, dtype="float64", seed=0))
    contexts, x = CONTEXT.astype("float64"), X.astype("float64")
    posterior = tff.condition(flow, contexts)
    assert type(posterior) is type(flow)
    assert posterior.batch_shape == [5] and posterior.batch_shape_tensor().numpy().tolist() == [5]
    draws, log_prob = posterior.experimental_sample_and_log_prob(1000, seed=(0, 1))
    assert draws.shape == (1000, 5, 2)
    model = tff.FlowModel(flow)
    np.testing.assert_allclose(log_prob, model.log_prob(draws, contexts), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(posterior.log_prob(x), model.log_prob(x, contexts), rtol=1e-10, atol=1e-10)
    z = np.array(model.inverse(draws, contexts))
    assert np.abs(np.corrcoef(z[:, :, 0].T) - np.eye(5)).max() < 0.15  # not one draw of the base for all contexts
    one = tff.condition(flow, contexts[0])
    assert one.batch_shape == [] and one.sample(4).shape == (4, 2)
    np.testing.assert_allclose(one.log_prob(x), model.log_prob(x, contexts[0]), rtol=1e-10, atol=1e-10)
    assert tff.condition(flow, contexts[:, None]).sample(4).shape == (4, 5, 1, 2)


def test_inside_tfps_distributions():
    flow = moved(tff.flows.realnvp(2, num_layers=2, context_size=3, seed=0))
    posterior = tff.condition(flow, CONTEXT)
    as_event = tfd.Independent(posterior, 1)
    assert as_event.event_shape == [5, 2] and as_event.batch_shape == []
    np.testing.assert_allclose(as_event.log_prob(X), np.sum(posterior.log_prob(X)), rtol=1e-5)
    joint = tfd.JointDistributionSequential([posterior, lambda x: tfd.Normal(x[..., 0], 1.0)])
    assert joint.log_prob(joint.sample(7, seed=(0, 1))).shape == (7, 5)
    # The other way round: composed first, bound later.
    for composed, shape in [(tfd.Sample(flow, [4]), (3, 5, 4, 2)), (tfd.Independent(flow, 0), (3, 5, 2))]:
        bound = tff.condition(composed, CONTEXT)
        assert isinstance(bound, type(composed)) and bound.batch_shape == [5] and bound.sample(3).shape == shape
        assert np.isfinite(bound.log_prob(bound.sample(3))).all()
    pair = tff.condition(tfd.JointDistributionNamed({"a": flow, "b": tfd.Normal(0.0, 1.0)}), CONTEXT[0])
    assert pair.sample(3)["a"].shape == (3, 2)
    base = tfd.TransformedDistribution(normal(), coupling("base"))
    stacked = moved(tfd.TransformedDistribution(base, tfb.Chain([coupling("one")])))
    np.testing.assert_allclose(
        tff.condition(stacked, CONTEXT).log_prob(X),
        stacked.log_prob(X, **context_arguments(stacked, tf.constant(CONTEXT))),
        rtol=1e-5,
    )


def grid():
    """A flow bound to contexts of batch shape [5, 4]."""
    contexts = np.random.default_rng(2).normal(size=(5, 4, 3)).astype("float32")
    return tff.condition(moved(tff.flows.realnvp(2, num_layers=2, context_size=3, hidden_units=(8,), seed=0)), contexts)


SLICES = {
    "0": 0,
    "-1": -1,
    "1:3": slice(1, 3),
    "::2": slice(None, None, 2),
    "[..., 0]": (..., 0),
    "[1, 2]": (1, 2),
    "[:, 1:]": (slice(None), slice(1, None)),
    "newaxis": tf.newaxis,
    "...": ...,
}


@pytest.mark.parametrize("name", SLICES)
def test_slices_are_bound_to_slices_of_the_context(name):
    bound = grid()
    part, sliced = SLICES[name], bound[SLICES[name]]
    x = np.random.default_rng(3).normal(size=(5, 4, 2)).astype("float32")
    expected = bound.log_prob(x).numpy()[part]
    assert type(sliced) is type(bound) and sliced.batch_shape == expected.shape
    assert sliced.batch_shape_tensor().numpy().tolist() == list(expected.shape)
    index = part if isinstance(part, tuple) else (part,)
    of_events = x[(*index, slice(None)) if ... in index else (*index, ..., slice(None))]
    np.testing.assert_allclose(sliced.log_prob(of_events), expected, rtol=1e-5, atol=1e-5)
    assert sliced.sample(7, seed=1).shape == (7, *expected.shape, 2)
    assert {id(variable) for variable in sliced.variables} == {id(variable) for variable in bound.variables}
    bijector = bound.bijector[part]
    assert bijector.experimental_batch_shape() == expected.shape
    expected = bound.bijector.inverse_log_det_jacobian(tf.constant(x)).numpy()[part]
    np.testing.assert_allclose(bijector.inverse_log_det_jacobian(of_events), expected, rtol=1e-4, atol=1e-5)


def test_slices_of_slices_and_of_what_holds_bound_flows():
    bound = grid()
    x = np.random.default_rng(3).normal(size=(5, 4, 2)).astype("float32")
    np.testing.assert_allclose(bound[1:3][1][2].log_prob(x[2, 2]), bound.log_prob(x)[2, 2], rtol=1e-5)
    normals = tfd.MultivariateNormalDiag(tf.zeros([5, 4, 2]))
    for whole, batch_shape in [
        (tfd.Independent(bound, 1), []),
        (tfd.Sample(bound, [2]), [4]),
        (tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros([5, 4])), bound), []),
        (tfd.Mixture(tfd.Categorical(logits=tf.zeros([5, 4, 2])), [bound, normals]), [4]),
        (tfd.JointDistributionSequential([bound, tfd.Normal(tf.zeros([5, 4]), 1.0)]), [[4], [4]]),
        (tfd.TransformedDistribution(normals, tfb.Chain([tfb.Shift([1.0, 2.0]), bound.bijector])), [4]),
    ]:
        sliced, draws = whole[1], whole.sample(seed=1)
        assert tf.nest.map_structure(list, sliced.batch_shape) == batch_shape
        of_events = tf.nest.map_structure(lambda draw: draw[1], draws)
        expected = whole.log_prob(tf.nest.map_structure(tf.identity, draws))[1]
        np.testing.assert_allclose(sliced.log_prob(of_events), expected, rtol=1e-5)
        assert {id(variable) for variable in sliced.variables} == {id(variable) for variable in whole.variables}
    for whole in (tfd.BatchReshape(bound, [20]), tfd.BatchBroadcast(bound, with_shape=[6, 5, 4])):
        with pytest.raises((ValueError, NotImplementedError)):  # in TFP's words
            whole[1]


def test_slices_of_embedded_flows_and_structures():
    spectrum, time = keras.Input((4,), name="spectrum"), keras.Input((6, 2), name="time")
    joined = keras.layers.Concatenate()([spectrum, keras.layers.Flatten()(time)])
    network = keras.Model({"spectrum": spectrum, "time": time}, keras.layers.Dense(3)(joined))
    flow = moved(tff.flows.realnvp(2, num_layers=2, embedding=network, hidden_units=(8,), seed=0))
    random = np.random.default_rng(4)
    context = {"spectrum": random.normal(size=(5, 4)), "time": random.normal(size=(5, 6, 2))}
    bound = tff.condition(flow, context)
    for part, shape in [(2, []), (slice(1, 3), [2])]:
        assert bound[part].batch_shape == shape and bound[part].sample(3).shape == (3, *shape, 2)
        np.testing.assert_allclose(bound[part].log_prob(X[part]), bound.log_prob(X)[part], rtol=1e-5)


def test_the_batch_shape_of_bound_bijectors_leaves_out_further_dimensions_of_events():
    bound = tff.condition(coupling("one"), np.zeros([5, 4, 3], "float32"))
    # An event of rank 2 takes the last dimension of the batch for its own; one of rank 4 more than there is.
    for ndims, shape in [(1, [5, 4]), (2, [5]), (3, []), (4, [])]:
        assert bound.experimental_batch_shape(x_event_ndims=ndims) == shape
        assert bound.experimental_batch_shape_tensor(x_event_ndims=ndims).numpy().tolist() == shape
    # So in a distribution whose base has events of rank 2: one density for each of the five.
    base = tfd.Sample(tfd.Normal(0.0, 1.0), [4, 2])
    flow = tfd.TransformedDistribution(base, bound)
    assert flow.batch_shape == [5] and flow.event_shape == [4, 2]
    x = np.random.default_rng(3).normal(size=(5, 4, 2)).astype("float32")
    assert flow.log_prob(x).shape == (5,) and flow.sample(3).shape == (3, 5, 4, 2)


class CountedDense(keras.layers.Layer):
    """A conditioner that counts its evaluations."""

    count = 0

    def build(self, input_shape):
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        self.count += 1
        return self.dense(x)


@pytest.mark.parametrize("method", ["log_prob", "sample", "experimental_sample_and_log_prob"])
def test_bound_flows_evaluate_every_conditioner_once(method):
    counters = [CountedDense() for _ in range(2)]
    one, two = (tff.bijectors.RealNVP(2, conditioner=counter, context_size=3) for counter in counters)
    flow = tfd.TransformedDistribution(normal(), tfb.Chain([one, tfb.Invert(tfb.Chain([tfb.Permute([1, 0]), two]))]))
    for counter in counters:
        counter.count = 0
    bound = tff.condition(flow, CONTEXT)
    getattr(bound, method)(tf.constant(X) if method == "log_prob" else 3)
    assert [counter.count for counter in counters] == [1, 1]


def test_bound_flows_in_graphs_and_gradients():
    flow = moved(tff.flows.realnvp(2, num_layers=2, context_size=3, seed=0))
    posterior = tff.condition(flow, CONTEXT)

    @tf.function(jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(posterior.log_prob(x))
        return loss, tape.gradient(loss, flow.trainable_variables)

    loss, gradients = step(X)
    np.testing.assert_allclose(loss, np.sum(posterior.log_prob(tf.constant(X))), rtol=1e-5)
    assert all(np.any(tf.convert_to_tensor(gradient)) for gradient in gradients)
    # The context's own gradient as well: how the density moves with what was observed.
    context = tf.constant(CONTEXT)
    with tf.GradientTape() as tape:
        tape.watch(context)
        loss = tf.reduce_sum(tff.condition(flow, context).log_prob(X))
    assert np.any(tape.gradient(loss, context))


def test_bound_flows_train_and_are_saved(tmp_path):
    flow = tff.flows.realnvp(2, num_layers=2, context_size=3, seed=0)
    model = tff.FlowModel(tff.condition(flow, CONTEXT[0]))
    assert not model.is_conditional and len(model.weights) == len(flow.variables)
    model.save(tmp_path / "bound.keras")
    again = keras.models.load_model(tmp_path / "bound.keras")
    assert isinstance(again.distribution.bijector, Conditioned)
    np.testing.assert_allclose(again.log_prob(X), model.log_prob(X))


def test_tfps_conditional_flow_trains_by_fit():
    model = tff.FlowModel(tfd.TransformedDistribution(normal(), tfps_autoregressive()))
    assert model.context_shape == [3] and model.weights
    context = np.random.default_rng(0).normal(size=(512, 3)).astype("float32")
    x = 3 * context[:, :2] + 0.1 * np.random.default_rng(1).normal(size=(512, 2)).astype("float32")
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(context, x, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 0.5
    assert model.sample(4, context).shape == (4, 512, 2)


def convolutions(size=3):
    return keras.Sequential(
        [
            keras.Input((12, 2)),
            keras.layers.Conv1D(4, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(size),
        ]
    )


@keras.saving.register_keras_serializable("tests")
class Counted(keras.layers.Layer):
    """An embedding that counts its evaluations."""

    count = 0

    def build(self, input_shape):
        self.dense = keras.layers.Dense(3)
        self.dense.build((None, input_shape[1] * input_shape[2]))

    def call(self, series):
        self.count += 1
        return self.dense(keras.ops.reshape(series, (-1, series.shape[1] * series.shape[2])))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 3)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("method", ["log_prob", "sample", "experimental_sample_and_log_prob"])
def test_an_embedding_runs_once_a_call(method, graph):
    embedding = Counted()
    embedding.build((None, 12, 2))
    flow = moved(tff.flows.realnvp(2, num_layers=4, embedding=embedding, act_norm=True))
    embedding.count = 0
    arguments = context_arguments(flow, tf.constant(SERIES))

    def run():
        return getattr(flow, method)(tf.constant(X) if method == "log_prob" else 5, **arguments)

    (tf.function(run) if graph else run)()
    assert embedding.count == 1


def test_an_embedding_gives_what_embedding_by_hand_gives():
    flow, network = moved(tff.flows.realnvp(2, num_layers=2, context_size=3, seed=0)), convolutions()
    model, plain = tff.FlowModel(flow, embedding=network), tff.FlowModel(flow)
    np.testing.assert_allclose(model.log_prob(X, SERIES), plain.log_prob(X, network(SERIES)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        model.sample(3, SERIES, seed=1), plain.sample(3, network(SERIES), seed=1), rtol=1e-5, atol=1e-5
    )
    assert model.sample(3, SERIES[0]).shape == (3, 2)
    np.testing.assert_allclose(model.forward(model.inverse(X, SERIES), SERIES), X, rtol=1e-4, atol=1e-5)
    bound = tff.condition(model.distribution, SERIES)
    assert bound.batch_shape == [5]
    np.testing.assert_allclose(bound.log_prob(X), model.log_prob(X, SERIES), rtol=1e-5, atol=1e-5)


def test_an_embedding_is_trained_and_saved_with_the_flow(tmp_path):
    network = convolutions()
    model = tff.FlowModel(tff.flows.neural_spline_coupling(2, 2, embedding=network, standardize=True, seed=0))
    counts = {len(model.weights), len(model.distribution.variables), len({id(v) for v in model.distribution.variables})}
    assert len(counts) == 1
    series = np.random.default_rng(1).normal(size=(256, 12, 2)).astype("float32")
    x = 100 + 10 * series[:, 3]
    model.adapt(x, series)
    assert np.allclose(model.distribution.bijector.bijector.bijectors[0].shift, x.mean(0), rtol=1e-3)
    before = [weight.numpy() for weight in network.weights]
    model.fit(series, x, epochs=2, verbose=0)
    assert all(np.any(weight.numpy() != old) for weight, old in zip(network.weights, before, strict=True))
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_allclose(again.log_prob(x, series), model.log_prob(x, series), rtol=1e-5, atol=1e-5)
    model.export(str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.log_prob(x, series), model.log_prob(x, series), rtol=1e-5, atol=1e-5)
    assert served.sample(3, 1, series[:4]).shape == (3, 4, 2)
    assert len(served.model_variables) == len(model.weights)


def test_dictionaries_of_contexts(tmp_path):
    spectrum, time = keras.Input((4,), name="spectrum"), keras.Input((6, 2), name="time")
    joined = keras.layers.Concatenate()([spectrum, keras.layers.Flatten()(time)])
    network = keras.Model({"spectrum": spectrum, "time": time}, keras.layers.Dense(3)(joined))
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, embedding=network, hidden_units=(8,), seed=0))
    context = {"spectrum": np.ones([5, 4], "float32"), "time": np.ones([5, 6, 2], "float32")}
    one = {name: part[0] for name, part in context.items()}
    assert model.log_prob(X, context).shape == (5,) and model.sample(3, context).shape == (3, 5, 2)
    assert model.sample(3, one).shape == (3, 2) and tff.condition(model.distribution, context).batch_shape == [5]
    model.fit(context, X, verbose=0, validation_data=(context, X))
    pairs = tf.data.Dataset.from_tensor_slices((context, X)).batch(2)
    np.testing.assert_allclose(model.predict(pairs, verbose=0), model.predict((context, X), verbose=0), rtol=1e-4)
    model.export(str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.log_prob(X, context), model.log_prob(X, context), rtol=1e-5, atol=1e-5)
    wrong = {"spectrum": context["spectrum"], "times": context["time"]}
    for call in (model.log_prob, lambda x, c: model.fit(c, x), lambda x, c: tff.condition(model.distribution, c)):
        with pytest.raises(ValueError, match="Received.*times"):
            call(X, wrong)


BAD_CONTEXTS = {
    "size": (np.zeros([5, 4], "float32"), r"`one` expected a context of shape \(3,\).*Received: shape \(5, 4\)"),
    "rank": (np.float32(1.0), r"`one` expected a context of shape \(3,\).*Received: shape \(\)"),
    "missing": (None, r"`one` expected a context of shape \(3,\). Received: context=None"),
}


@pytest.mark.parametrize("name", BAD_CONTEXTS)
def test_bad_contexts_name_the_bijector(name):
    context, words = BAD_CONTEXTS[name]
    for part in (coupling("one"), tfd.TransformedDistribution(normal(), tfb.Chain([tfb.Shift(1.0), coupling("one")]))):
        with pytest.raises(ValueError, match=words):
            tff.condition(part, context)


def test_what_cannot_be_bound():
    with pytest.raises(ValueError, match="that takes a context. Received: tfp.distributions"):
        tff.condition(tff.flows.nice(2), CONTEXT)
    with pytest.raises(TypeError, match="Expected a `tfd.Distribution` or `tfb.Bijector`. Received"):
        tff.condition(keras.layers.Dense(2), CONTEXT)
    bound = tff.condition(coupling("one"), CONTEXT)
    with pytest.raises(ValueError, match=r"`one` takes no context, since it is already bound.*shape \(5, 3\)"):
        bound.forward(X, context=CONTEXT)
    with pytest.raises(ValueError, match="that takes a context. Received"):
        tff.condition(bound, CONTEXT)


def test_bad_embeddings():
    flow = tff.flows.nice(2, num_layers=2, context_size=3)
    with pytest.raises(ValueError, match=r"of shape \(3,\). Received: output of size 4"):
        tff.FlowModel(flow, embedding=convolutions(4))
    with pytest.raises(ValueError, match="whose input's shape is known.*Received"):
        tff.FlowModel(flow, embedding=keras.layers.Dense(3))
    with pytest.raises(ValueError, match=r"`\[batch, size\]`. Received: output shape \(None, 5, 3\)"):
        tff.FlowModel(flow, embedding=keras.Sequential([keras.Input((5, 2)), keras.layers.Dense(3)]))
    with pytest.raises(TypeError, match="to be a Keras layer. Received"):
        tff.FlowModel(flow, embedding="convolutions")
    with pytest.raises(TypeError, match="Expected a distribution with a bijector"):
        tff.FlowModel(tfd.Normal(tf.Variable(0.0), 1.0), embedding=convolutions())
    with pytest.raises(ValueError, match="Received: context_size=2"):
        tff.flows.nice(2, context_size=2, embedding=convolutions())
    model = tff.FlowModel(flow, embedding=convolutions())
    holes = SERIES.copy()
    holes[1, 3, 0] = np.nan
    with pytest.raises(ValueError, match="finite contexts. Received: column 6: 1 NaN"):
        model.fit(holes, X)
    with pytest.raises(ValueError, match=r"contexts of shape \('n', 12, 2\). Received: shape \(5, 12\)"):
        model.fit(SERIES[..., 0], X)
    with pytest.raises(ValueError, match=r"expected a context of shape \(12, 2\).*Received: shape \(5, 12\)"):
        model.log_prob(X, SERIES[..., 0])
    with pytest.raises(ValueError, match="Received: context=None"):
        model.fit(None, X)
