"""FlowModel: any distribution, trained by Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.context import context_arguments

MOONS = tff.datasets.two_moons(512, seed=0)


class Counter(keras.layers.Layer):
    """A conditioner that counts how often Python runs it: evaluations when eager, evaluations a step when traced."""

    def __init__(self, size):
        super().__init__()
        self.dense = keras.layers.Dense(size)
        self.count = 0

    def call(self, x, context=None):
        self.count += 1
        return self.dense(x if context is None else tf.concat([x, context], -1))


def counted_flow(context_size=0):
    counters = [Counter(2) for _ in range(3)]
    couplings = [
        tff.bijectors.RealNVP(2, conditioner=counter, context_size=context_size, name=f"coupling_{k}")
        for k, counter in enumerate(counters)
    ]
    # Through Chain, a nested Chain and Invert.
    chain = tfb.Chain([couplings[0], tfb.Chain([tfb.Permute([1, 0]), couplings[1]]), tfb.Invert(couplings[2])])
    for counter in counters:
        counter.count = 0
    return tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), chain), counters


def compiled(distribution, **kwargs):
    model = tff.FlowModel(distribution)
    model.compile(jit_compile=False, **kwargs)
    return model


@pytest.mark.parametrize("context_size", [0, 1])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("method", ["log_prob", "sample", "experimental_sample_and_log_prob"])
def test_one_conditioner_evaluation_a_layer(method, graph, context_size):
    flow, counters = counted_flow(context_size)
    arguments = context_arguments(flow, tf.ones([5, 1])) if context_size else {}

    def run():
        return getattr(flow, method)(MOONS[:5] if method == "log_prob" else 5, **arguments)

    (tf.function(run) if graph else run)()
    assert [counter.count for counter in counters] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["x alone", "one context", "contexts of rows", "one x", "two batch axes", "no rows"])
def test_many_rows_go_through_in_pieces(kind, monkeypatch):
    """Which bounds the memory of log_prob, where rows are the only batch axis."""
    conditional = "context" in kind or kind == "one x"
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, context_size=3 * conditional, seed=0))
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.3 * generator.normal(size=weight.shape))
    events, contexts = generator.normal(size=(25, 2)), generator.normal(size=(25, 3))
    x = {"one x": events[0], "two batch axes": events.reshape(5, 5, 2), "no rows": events[:0]}.get(kind, events)
    context = None if not conditional else contexts[0] if kind == "one context" else contexts
    whole = model.log_prob(x, context)
    sizes, run = [], model.methods._run
    monkeypatch.setattr("tfp_flows.model.compiled.ROWS_AT_ONCE", 10)
    monkeypatch.setattr(model.methods, "_run", lambda *arguments: sizes.append(arguments) or run(*arguments))
    in_pieces = model.log_prob(x, context)
    np.testing.assert_allclose(in_pieces, whole, rtol=1e-5, atol=1e-5)
    assert len(sizes) == (1 if kind in ("two batch axes", "no rows") else 3)


def test_own_samples_have_their_density_for_nothing():
    flow, counters = counted_flow()
    x = flow.sample(5)
    flow.log_prob(x)
    assert [counter.count for counter in counters] == [1, 1, 1]


def test_no_stale_answer_after_a_weight_update():
    # TFP's own parts keep an old log-determinant with a tensor that comes again; ours compute it with the value.
    chain = tfb.Chain([tfb.Scale(log_scale=tf.Variable([0.1, 0.2])), tff.bijectors.RealNVP(2, seed=0)])
    model = compiled(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), chain))
    x = tf.constant(MOONS[:4])
    for call in (model.log_prob, model, lambda x: model.predict(x, verbose=0)):
        before = np.array(call(x))
        for weight in model.trainable_weights:
            weight.assign(weight + 0.1)
        after = np.array(call(x))
        assert np.all(before != after)
        fresh = model.distribution.log_prob(tf.identity(x))
        np.testing.assert_allclose(after, fresh, rtol=1e-5)


def test_the_program_of_the_readme_learns(capsys):
    x = tff.datasets.two_moons(2000, seed=0)
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=4, seed=0))
    history = model.fit(x, epochs=8, validation_split=0.1, verbose=2).history
    assert history["loss"][-1] < history["loss"][0] - 0.3
    assert history["val_loss"][-1] < history["val_loss"][0]
    np.testing.assert_allclose(model.evaluate(x, verbose=0), -np.mean(model.log_prob(x)), rtol=1e-4)
    np.testing.assert_allclose(model.predict(x, verbose=0), model.log_prob(x), rtol=1e-4, atol=1e-4)
    model.summary(expand_nested=True)
    printed = capsys.readouterr().out
    assert "stack (Stack)" in printed and "val_loss" in printed


def autoregressive_jacobian(bijector, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = bijector.inverse(tf.identity(x))
    return tape.batch_jacobian(z, x)


def test_tfps_own_autoregressive_flow_trains_and_its_masks_hold():
    network = tfb.AutoregressiveNetwork(params=2, event_shape=[3], hidden_units=[16], activation="relu")
    maf = tfb.MaskedAutoregressiveFlow(network)
    model = compiled(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(3)), maf))
    x = np.random.default_rng(0).normal(size=(512, 3)).astype("float32") * [1.0, 2.0, 0.5]
    history = model.fit(x, epochs=3, verbose=0, batch_size=64).history
    assert history["loss"][-1] < history["loss"][0]
    jacobian = autoregressive_jacobian(maf, tf.constant(x[:5], tf.float32))
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)


def test_a_mixture_of_plain_variables_trains():
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.Variable(tf.zeros(3), name="logits")),
        tfd.MultivariateNormalDiag(
            tf.Variable(tf.random.normal([3, 2], seed=0), name="loc"),
            tfp.util.TransformedVariable(tf.ones([3, 2]), tfb.Softplus(), name="scale"),
        ),
    )
    model = compiled(mixture, optimizer=keras.optimizers.Adam(0.05))
    history = model.fit(MOONS, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 0.1
    assert len(model.trainable_weights) == 3
    assert np.all(mixture.components_distribution.stddev() > 0)


def test_ours_with_tfps_variables_train_and_constraints_hold():
    triangle = tfp.util.TransformedVariable(tf.eye(2), tfb.FillScaleTriL())
    chain = tfb.Chain(
        [tfb.Shift(tf.Variable(tf.zeros(2))), tfb.ScaleMatvecTriL(triangle), tff.bijectors.RealNVP(2, seed=0)]
    )
    model = compiled(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), chain))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.fit(MOONS, epochs=2, verbose=0, batch_size=64)
    assert all(np.any(weight.numpy() != old) for weight, old in zip(model.trainable_weights, before, strict=True))
    matrix = tf.convert_to_tensor(triangle).numpy()
    assert matrix[0, 1] == 0.0 and np.all(np.diag(matrix) > 0)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_joint_distributions_train(kind):
    parts = {"a": tfd.Normal(tf.Variable(0.0), 1.0), "b": tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), [2])}
    a, b = np.ones([128], "float32"), np.ones([128, 2], "float32")
    if kind is dict:
        model, data = compiled(tfd.JointDistributionNamed(parts), optimizer="sgd"), {"a": a, "b": b}
    else:
        model, data = compiled(tfd.JointDistributionSequential(list(parts.values())), optimizer="sgd"), (a, b)
    history = model.fit(data, epochs=2, verbose=0, batch_size=8).history
    assert history["loss"][-1] < history["loss"][0]
    assert tf.nest.flatten(model.sample(4, seed=0))[1].shape == (4, 2)


def conditional_data(n=512):
    generator = np.random.default_rng(0)
    context = generator.normal(size=(n, 1)).astype("float32")
    return context, (3 * context + 0.1 * generator.normal(size=(n, 2))).astype("float32")


def test_conditional_flows_train_on_pairs():
    context, x = conditional_data()
    model = compiled(tff.flows.realnvp(2, num_layers=2, context_size=1, seed=0), optimizer=keras.optimizers.Adam(2e-3))
    history = model.fit(context, x, epochs=20, batch_size=64, verbose=0, validation_data=(context, x)).history
    assert history["val_loss"][-1] < history["val_loss"][0] - 1
    assert abs(np.mean(model.sample(500, context=[1.0], seed=0)) - 3) < 0.5
    nll = model.evaluate(context, x, verbose=0)
    np.testing.assert_allclose(nll, -np.mean(model.log_prob(x, context)), rtol=1e-3)
    np.testing.assert_allclose(model.predict((context, x), verbose=0), model.log_prob(x, context), rtol=1e-3, atol=1e-3)
    pairs = tf.data.Dataset.from_tensor_slices((context, x)).batch(64)
    np.testing.assert_allclose(model.evaluate(pairs, verbose=0), nll, rtol=1e-4)
    np.testing.assert_allclose(model.predict(pairs, verbose=0), model.log_prob(x, context), rtol=1e-3, atol=1e-3)


def test_shapes_of_draws_follow_the_context():
    model = compiled(tff.flows.realnvp(2, num_layers=2, context_size=3))
    assert model.sample(5, context=np.zeros(3)).shape == (5, 2)
    assert model.sample(5, context=np.zeros((4, 3))).shape == (5, 4, 2)
    x, log_prob = model.sample_and_log_prob(5, context=np.zeros((4, 3)), seed=1)
    np.testing.assert_allclose(log_prob, model.log_prob(x, np.zeros((4, 3))), rtol=1e-4)
    z = model.inverse(x, np.zeros((4, 3)))
    np.testing.assert_allclose(model.forward(z, np.zeros((4, 3))), x, rtol=1e-4, atol=1e-5)


def test_seeds_make_draws_repeat():
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0))
    np.testing.assert_array_equal(model.sample(3, seed=1), model.sample(3, seed=1))
    assert np.any(model.sample(3, seed=1) != model.sample(3, seed=2))
    assert np.any(model.sample(3) != model.sample(3))
    keras.utils.set_random_seed(5)
    first = model.sample(3)
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(first, model.sample(3))


def test_sample_weights_weight_the_likelihood():
    weights = (MOONS[:, 0] > 0).astype("float32")
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0))
    log_prob = np.array(model.log_prob(MOONS))
    weighted = model.evaluate(MOONS, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(weighted, -np.mean(weights * log_prob), rtol=1e-4)

    def mean_after(weights):
        model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0), optimizer=keras.optimizers.Adam(0.01))
        model.fit(MOONS, sample_weight=weights, epochs=10, batch_size=64, verbose=0)
        return np.mean(model.sample(500, seed=0)[:, 0])

    assert mean_after(weights) > mean_after(1 - weights) + 0.5


def test_pipelines_with_and_without_weights():
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0))
    nll = model.evaluate(MOONS, verbose=0)
    bare = tf.data.Dataset.from_tensor_slices(MOONS).batch(100)
    np.testing.assert_allclose(model.evaluate(bare, verbose=0), nll, rtol=1e-4)
    model.fit(bare.repeat(), steps_per_epoch=3, epochs=2, verbose=0)
    context, x = conditional_data()
    model = compiled(tff.flows.realnvp(2, num_layers=2, context_size=1, seed=0))
    triples = tf.data.Dataset.from_tensor_slices((context, x, np.full(len(x), 2.0, "float32"))).batch(128)
    np.testing.assert_allclose(model.evaluate(triples, verbose=0), 2 * model.evaluate(context, x, verbose=0), rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 17, 18])
def test_an_epoch_has_the_steps_asked_for(steps):
    model = tff.FlowModel(tff.flows.gaussian(2, seed=0))
    model.fit(MOONS, batch_size=8, steps_per_epoch=steps, epochs=2, verbose=0)
    assert model.optimizer.iterations == 2 * steps
    model.fit(tf.data.Dataset.from_tensor_slices(MOONS).batch(8).repeat(), steps_per_epoch=steps, verbose=0)
    assert model.optimizer.iterations == 3 * steps


def test_pandas_frames_and_column_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(MOONS, columns=["east", "north"])
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0))
    model.fit(frame, verbose=0)
    np.testing.assert_allclose(model.log_prob(frame), model.log_prob(MOONS))
    frame.loc[3, "north"] = np.nan
    with pytest.raises(ValueError, match=r"column 1 \('north'\): 1 NaN"):
        model.fit(frame, verbose=0)


def test_keras_callbacks_work(tmp_path):
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0))
    best = str(tmp_path / "best.keras")
    history = model.fit(
        MOONS,
        epochs=4,
        validation_split=0.25,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
            keras.callbacks.ModelCheckpoint(str(tmp_path / "all.weights.h5"), save_weights_only=True),
            keras.callbacks.EarlyStopping(patience=0, min_delta=1e9, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
            keras.callbacks.BackupAndRestore(str(tmp_path / "backup")),
        ],
    ).history
    assert len(history["loss"]) == 2  # stopped after the first that is no better
    loaded = keras.models.load_model(best)
    assert np.isfinite(loaded.evaluate(MOONS, verbose=0))
    again = compiled(tff.flows.realnvp(2, num_layers=2, seed=1))
    again.load_weights(str(tmp_path / "all.weights.h5"))
    assert np.any(again.log_prob(MOONS) != compiled(tff.flows.realnvp(2, num_layers=2, seed=1)).log_prob(MOONS))


def test_swapped_averages_of_weights_reach_the_distribution():
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0), optimizer=keras.optimizers.Adam(0.1, use_ema=True))
    model.fit(MOONS, epochs=1, verbose=0, batch_size=64, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])
    assert np.isfinite(model.log_prob(MOONS)).all()


def test_adapt_starts_every_part_from_the_data_that_reaches_it():
    x = 100 + 30 * MOONS
    model = compiled(tff.flows.realnvp(2, num_layers=3, seed=0, standardize=True, act_norm=True))
    chain = model.distribution.bijector
    for part in chain.bijectors:
        for variable in part.trainable_variables:
            variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (1, 2)))
    model.adapt(x)
    reaching = tf.constant(x)
    for part in chain.bijectors:
        reaching = tf.identity(part.inverse(reaching))
        if hasattr(part, "adapt"):
            np.testing.assert_allclose(np.mean(reaching, 0), 0, atol=1e-4)
            np.testing.assert_allclose(np.std(reaching, 0), 1, atol=1e-4)
    assert abs(model.evaluate(x, verbose=0) - (model.evaluate(x, verbose=0))) < 1e-6


def test_float64_is_float64_from_data_to_loss():
    flow = tff.flows.realnvp(2, num_layers=2, dtype="float64", seed=0)
    model = compiled(flow)
    x = tff.datasets.two_moons(64, seed=0) * np.float64(1) + 1e-12
    exact = -np.mean(flow.log_prob(tf.constant(x)))
    np.testing.assert_allclose(model.predict(x, verbose=0), flow.log_prob(tf.constant(x)), rtol=1e-14)
    seen = []
    model.compile(loss=lambda x, log_prob: seen.append((x.dtype, log_prob.dtype)) or -log_prob, jit_compile=False)
    model.fit(x, verbose=0)
    assert seen[0][1] == tf.float64 and keras.config.floatx() == "float32"
    assert abs(exact) < 100


def test_bits_per_dim_is_nats_over_dimensions():
    model = compiled(tff.flows.realnvp(2, num_layers=2, seed=0), metrics=["bits_per_dim"])
    nll, bits = model.evaluate(MOONS, verbose=0)
    np.testing.assert_allclose(bits, nll / (2 * np.log(2)), rtol=1e-4)


def test_compile_replaces_loss_and_optimizer():
    model = compiled(
        tff.flows.realnvp(2, num_layers=2, seed=0), optimizer="sgd", loss=lambda x, log_prob: log_prob * 0 + 7.0
    )
    assert model.evaluate(MOONS, verbose=0) == 7.0
    assert isinstance(model.optimizer, keras.optimizers.SGD)


def test_a_tfp_monte_carlo_check_of_the_density():
    """TFP's own instrument: the volume under the density, against samples."""
    from tensorflow_probability.python.internal import test_util

    class Check(test_util.TestCase, test_util.VectorDistributionTestHelpers):
        def runTest(self):
            flow = tff.flows.realnvp(2, num_layers=2, seed=0)
            for variable in flow.trainable_variables:
                variable.assign_add(0.2 * tf.random.stateless_normal(variable.shape, (3, 4)))
            self.run_test_sample_consistent_log_prob(
                lambda tensors: tf.nest.map_structure(np.asarray, tensors),
                flow,
                num_samples=100_000,
                radius=1.0,
                center=0.0,
                rtol=0.05,
                seed=test_util.test_seed(hardcoded_seed=1),
            )

    from absl import flags

    flags.FLAGS(["pytest"], known_only=True)
    Check().debug()
