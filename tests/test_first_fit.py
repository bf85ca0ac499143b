"""What the first `fit` does for raw data, compositions that train by `fit(context, x)`, and flows in larger models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.model import pipelines, training

X = (1e4 + 2e3 * np.random.default_rng(0).normal(size=(40, 2))).astype("float32")
CONTEXT = (50 + 5 * np.random.default_rng(1).normal(size=(40, 1))).astype("float32")


def small_flow(context_size=1, **options):
    options = {"num_layers": 1, "hidden_units": (4,), "activation": "tanh", "seed": 0, **options}
    return tff.flows.realnvp(2, context_size=context_size, **options)


def eager(distribution, **arguments):
    """A model that runs without graphs, and whose training moves nothing."""
    model = tff.FlowModel(distribution, **arguments)
    compile_still(model)
    return model


def compile_still(model):
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, jit_compile=False, steps_per_execution=1)


def part_of(model, kind):
    bijector = model.distribution.bijector
    return next(part for part in (bijector, *bijector.submodules) if isinstance(part, kind))


def check_adapted(model, rows=slice(None)):
    """Events and contexts reach what is inside with mean 0 and variance 1, over these rows and no others."""
    standardize, context = part_of(model, tff.bijectors.Standardize), part_of(model, tff.bijectors.StandardizedContext)
    z = standardize.inverse(X[rows])
    np.testing.assert_allclose([np.mean(z, 0), np.std(z, 0)], [[0, 0], [1, 1]], atol=1e-3)
    c = context.inner_context(CONTEXT[rows])
    np.testing.assert_allclose([np.mean(c), np.std(c)], [0, 1], atol=1e-3)


# Adapting


def test_rows_that_are_refused_leave_nothing_adapted():
    model = eager(small_flow(standardize="context"))
    before = model.get_weights()
    with pytest.raises(ValueError, match="of a size at which the likelihood"):
        model.fit(CONTEXT, np.float32(1e25) * X, verbose=0)
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_the_first_fit_adapts_from_the_training_rows_alone(tmp_path):
    model = eager(small_flow(act_norm=True))
    model.fit(CONTEXT, X, validation_data=(CONTEXT + 100, X * 2), verbose=0)
    check_adapted(model)
    norm = next(part for part in model.distribution.submodules if part.name == "act_norm_0")
    z = norm.inverse(part_of(model, tff.bijectors.Standardize).inverse(X))
    np.testing.assert_allclose([np.mean(z, 0), np.std(z, 0)], [[0, 0], [1, 1]], atol=1e-3)

    norm.shift.assign([3.0, 4.0])  # nor does what training has moved start again
    before = model.get_weights()
    for again in (model, None):
        if again is None:
            model.save(tmp_path / "model.keras")
            again = keras.models.load_model(tmp_path / "model.keras")
            compile_still(again)  # whose optimizer has taken no step
        again.fit(CONTEXT - 20, X / 2, verbose=0)
        for now, then in zip(again.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)


def test_validation_split_leaves_its_rows_out():
    model = eager(small_flow())
    model.fit(CONTEXT, X, validation_split=0.25, verbose=0)
    check_adapted(model, slice(0, 30))


class Batches(keras.utils.PyDataset):
    """The rows in two batches."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(20 * index, 20 * index + 20)
        return CONTEXT[rows], X[rows]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras says so of every generator
@pytest.mark.parametrize("kind", ["tf.data", "generator", "PyDataset"])
def test_the_first_fit_adapts_from_a_pipelines_first_batches(kind, monkeypatch):
    data = {
        "tf.data": lambda: tf.data.Dataset.from_tensor_slices((CONTEXT, X)).batch(20),
        "generator": lambda: (Batches()[k] for k in range(2)),
        "PyDataset": Batches,
    }[kind]
    model = eager(small_flow())
    loss = model.fit(data(), verbose=0).history["loss"]
    check_adapted(model)
    np.testing.assert_allclose(loss, model.evaluate(CONTEXT, X, verbose=0), rtol=1e-5)  # no batch was lost
    monkeypatch.setattr(pipelines.peek, "__defaults__", (20,))  # rows are enough
    few = eager(small_flow())
    few.fit(data(), verbose=0)
    check_adapted(few, slice(0, 20))


def test_adapt_false_leaves_all_as_it_is():
    model = eager(small_flow(act_norm=True))
    before = model.get_weights()
    model.fit(CONTEXT, X / 1e4, adapt=False, verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_gaussianization_starts_from_the_training_rows():
    models = [eager(tff.flows.gaussianization(2, num_layers=1, num_components=3, seed=0)) for _ in range(2)]
    models[0].fit(X, validation_data=(X * 2,), verbose=0)
    models[1].adapt(X)
    for fitted, adapted in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(fitted, adapted, rtol=1e-6)
    before = models[0].get_weights()
    models[0].fit(X * 3, verbose=0)
    np.testing.assert_array_equal(before[0], models[0].get_weights()[0])


def test_adapt_brings_the_embedded_context_to_what_comes_after_an_embedding():
    """An ActNorm on the base's side of a conditional coupling sees what the coupling makes with the true context."""
    embedding = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    coupling = tff.bijectors.RealNVP(2, context_size=1, hidden_units=(4,), seed=0)
    for variable in coupling.trainable_variables:
        variable.assign_add(tf.random.stateless_normal(variable.shape, (1, 2)))
    norm = tff.bijectors.ActNorm(2)
    base = tfd.MultivariateNormalDiag(tf.zeros(2))
    model = eager(tfd.TransformedDistribution(base, tfb.Chain([coupling, norm])), embedding=embedding)
    x, context = (X - 1e4) / 2e3, CONTEXT / 50
    model.fit(context, x, verbose=0)
    z = model.inverse(x, context)
    np.testing.assert_allclose([np.mean(z, 0), np.std(z, 0)], [[0, 0], [1, 1]], atol=1e-3)
    assert np.abs(np.mean(model.inverse(x, 0 * context), 0)).max() > 0.01  # zeros would not have done


def test_numbers_too_large_for_a_gradient_are_refused():
    flow = small_flow(standardize=False, activation="linear", log_scale_bound=1e30)
    model = eager(flow)
    for variable in flow.trainable_variables:
        variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (3, 4)))
    before = model.get_weights()
    with pytest.raises(ValueError, match="gradient fit float32: take other units.*Received: values up to 1e"):
        model.fit(CONTEXT, np.where(np.arange(40)[:, None] == 9, np.float32(1e25), X), verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


# Presets


# Continuous flows have one layer; manifolds and images have no unit to be brought to.
OTHERS = {"continuous", "with_solver", "torus", "sphere", "product", "glow", "realnvp_image"}


@pytest.mark.parametrize("name", sorted(set(tff.flows.__all__) - OTHERS))
def test_presets_standardize_and_no_two_layers_start_alike(name):
    layers = {} if name == "gaussian" else {"num_layers": 2}
    flow = getattr(tff.flows, name)(3, context_size=2, seed=0, **layers, stack=False)
    kinds = [type(part).__name__ for part in (flow.bijector, *flow.bijector.submodules)]
    assert kinds[0] == "StandardizedContext" and kinds.count("Standardize") == 1
    matrices = [v.numpy() for v in flow.trainable_variables if v.shape.rank == 2 and np.std(v.numpy()) > 0]
    for k, one in enumerate(matrices):
        assert not any(one.shape == other.shape and np.array_equal(one, other) for other in matrices[:k])
    assert len(matrices) >= (0 if name == "gaussian" else 2)


def test_presets_leave_what_they_are_told_to():
    def kinds(**options):
        flow = small_flow(**options)
        return {type(part).__name__ for part in (flow.bijector, *flow.bijector.submodules)}

    ours = {"Standardize", "StandardizedContext"}
    assert ours & kinds() == ours
    assert ours & kinds(standardize=False) == set()
    assert ours & kinds(standardize="context") == {"StandardizedContext"}
    embedding = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert ours & kinds(context_size=0, embedding=embedding) == {"Standardize"}


# Compositions that `tff.condition` takes

UNIT = (X - 1e4) / 2e3


def mixture():
    return tfd.Mixture(tfd.Categorical(logits=tf.Variable([0.0, 0.5])), [small_flow(seed=seed) for seed in (0, 1)])


def joint():
    parts = {"a": small_flow(), "b": tfd.Normal(tf.Variable(0.0), 1.0)}
    return tfd.JointDistributionNamed(parts)


COMPOSITIONS = {
    "Mixture": (mixture, UNIT),
    "Independent": (lambda: tfd.Independent(small_flow(), 0), UNIT),
    "Sample": (lambda: tfd.Sample(small_flow(), [3]), np.stack([UNIT, UNIT + 1, UNIT - 1], 1)),
    "JointDistributionNamed": (joint, {"a": UNIT, "b": UNIT[:, 0]}),
    "JointDistributionSequential": (
        lambda: tfd.JointDistributionSequential([small_flow(), tfd.Normal(tf.Variable(0.0), 1.0)]),
        (UNIT, UNIT[:, 0]),
    ),
    "a flow over a flow": (lambda: tfd.TransformedDistribution(small_flow(), tfb.Shift(tf.Variable([1.0, 2.0]))), UNIT),
    "Mixture of Independent": (
        lambda: tfd.Mixture(
            tfd.Categorical(logits=tf.Variable([0.0, 0.5])),
            [tfd.Independent(small_flow(seed=seed), 0) for seed in (0, 1)],
        ),
        UNIT,
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_what_can_be_conditioned_trains(name):
    make, x = COMPOSITIONS[name]
    model = tff.FlowModel(make())
    assert model.context_shape == [1]
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True, jit_compile=False, steps_per_execution=1)
    before = [weight.numpy() for weight in model.trainable_weights]
    context = (CONTEXT - 50) / 5
    assert np.isfinite(model.fit(context, x, epochs=2, verbose=0).history["loss"]).all()
    moved = [np.any(weight.numpy() != old) for weight, old in zip(model.trainable_weights, before, strict=True)]
    assert all(moved)
    bound = tff.condition(model.distribution, context)
    np.testing.assert_allclose(model.evaluate(context, x, verbose=0), -np.mean(bound.log_prob(x)), rtol=1e-4)


def test_a_mixtures_components_are_adapted():
    model = eager(mixture())
    model.fit(CONTEXT, X, verbose=0)
    for component in model.distribution.components:
        assert component.bijector.is_adapted
        assert abs(np.mean(component.bijector.inner_context(CONTEXT))) < 1e-3


# Inside a larger Keras model


def negative(y, log_prob):
    return -log_prob


def larger_model(flow):
    """A head for y beside the flow, both fed by one embedding of the inputs."""
    inputs, x = keras.Input([1], name="inputs"), keras.Input([2], name="x")
    embedded = keras.layers.Dense(2, name="embedding")(inputs)
    outputs = {"log_prob": flow((embedded, x)), "y": keras.layers.Dense(1, name="head")(embedded)}
    model = keras.Model({"inputs": inputs, "x": x}, outputs)
    loss = {"log_prob": negative, "y": "mse"}
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False, run_eagerly=True)
    return model


def test_the_losses_of_a_larger_model_are_reported_right(tmp_path):
    flow = tff.FlowModel(small_flow(2, standardize=False), name="flow")
    assert not flow.compiled
    x, y = (X - 1e4) / 2e3, CONTEXT / 50
    model = larger_model(flow)
    data, target = {"inputs": y - 1, "x": x}, {"log_prob": np.zeros([40, 1], "float32"), "y": y}
    embedded = model.get_layer("embedding")(y - 1)
    nll = -np.mean(flow.log_prob(x, embedded))
    mse = np.mean((model.get_layer("head")(embedded) - y) ** 2)
    history = model.fit(data, target, verbose=0).history
    np.testing.assert_allclose(history["log_prob_loss"], nll, rtol=1e-4)
    np.testing.assert_allclose(history["y_loss"], mse, rtol=1e-4)
    np.testing.assert_allclose(history["loss"], nll + mse, rtol=1e-4)
    results = model.evaluate(data, target, verbose=0, return_dict=True)
    np.testing.assert_allclose(results["loss"], nll + mse, rtol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert not flow.compiled and not loaded.get_layer("flow").compiled
    for name, value in loaded.predict(data, verbose=0).items():
        np.testing.assert_allclose(value, model.predict(data, verbose=0)[name], rtol=1e-5)


# Callbacks that act on batches


class OnBatches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)


@pytest.mark.parametrize("kind", ["own", "both"])
def test_callbacks_see_every_batch(kind):
    own, seen = OnBatches(), []
    lambdas = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: seen.append(batch))
    model = tff.FlowModel(small_flow())
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    model.fit(CONTEXT, X, batch_size=8, verbose=0)
    assert model.steps_per_execution == 16
    callbacks = {"own": own, "both": [lambdas, own]}[kind]
    model.fit(CONTEXT, X, batch_size=8, verbose=0, callbacks=callbacks)
    assert [found for found in (own.seen, seen) if found] == [[0, 1, 2, 3, 4]] * (2 if kind == "both" else 1)


@pytest.mark.parametrize(
    "make, steps",
    [
        (lambda folder: keras.callbacks.TerminateOnNaN(), 1),
        (lambda folder: keras.callbacks.ModelCheckpoint(folder / "w.weights.h5", save_weights_only=True), 16),
        (lambda folder: keras.callbacks.ModelCheckpoint(folder / "w.keras", save_freq=5), 1),
        (lambda folder: keras.callbacks.BackupAndRestore(folder), 16),
        (lambda folder: keras.callbacks.BackupAndRestore(folder, save_freq=3), 1),
        (lambda folder: keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None), 16),
        (lambda folder: tff.callbacks.FlowDoctor(), 16),
        (lambda folder: keras.callbacks.EarlyStopping(monitor="loss"), 16),
    ],
    ids=[
        "TerminateOnNaN",
        "checkpoint",
        "checkpoint in steps",
        "backup",
        "backup in steps",
        "lambda",
        "doctor",
        "stop",
    ],
)
def test_how_many_batches_make_one_execution(make, steps, tmp_path):
    model = tff.FlowModel(small_flow())
    model.compile()
    assert model._steps_per_execution([make(tmp_path)]) == steps


def test_terminate_on_nan_stops_at_the_batch():
    model = tff.FlowModel(small_flow(0, standardize=False))
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False, loss=lambda x, log_prob: log_prob * np.nan)
    own = OnBatches()
    model.fit(X / 1e4, batch_size=8, verbose=0, callbacks=[own, keras.callbacks.TerminateOnNaN()])
    assert own.seen == [0]


def test_gradients_whose_squares_overflow_are_bounded():
    gradients = [tf.constant([3e25, -1e30]), None, tf.constant([[2.0]])]
    first, none, last = training.bounded(gradients)
    assert none is None
    np.testing.assert_allclose(first, [3e9, -1e14], rtol=1e-5)
    np.testing.assert_allclose(last, [[2e-16]], rtol=1e-5)
    small = [tf.constant([3.0, -4.0])]
    np.testing.assert_array_equal(training.bounded(small)[0], small[0])
    assert np.isnan(training.bounded([tf.constant([np.nan, 1.0])])[0]).any()
    assert np.isinf(training.bounded([tf.constant([np.inf, 1.0])])[0]).any()


def test_data_whose_gradients_squared_overflow_trains():
    x = 1e12 * np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, hidden_units=(4,), standardize=False, seed=0))
    model.compile(jit_compile=False)
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(x, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all() and all(np.isfinite(weight).all() for weight in model.get_weights())
    after = [weight.numpy() for weight in model.trainable_weights]
    assert any(np.any(one != other) for one, other in zip(before, after, strict=True))


def on_spheres(size=40):
    x = np.random.default_rng(0).normal(size=(size, 3))
    return np.float32(x / np.linalg.norm(x, axis=-1, keepdims=True))


def shares(size=40):
    return np.float32(np.random.default_rng(0).dirichlet([1, 1, 1], size))


def logarithm():
    return tfd.TransformedDistribution(tff.flows.gaussian(3, seed=0), tfb.Exp())


@pytest.mark.parametrize(
    "make, x",
    [
        (lambda: tff.flows.sphere(num_layers=1, hidden_units=(4,), seed=0), on_spheres()),
        (lambda: tff.flows.sphere(num_layers=2, hidden_units=(4,), seed=0, stack=False), on_spheres()),
        (
            lambda: tff.flows.product("e1+s2", num_layers=1, hidden_units=(4,), seed=0),
            np.concatenate([X[:, :1], on_spheres()], 1),
        ),
        (
            lambda: tff.flows.product("s2+s2", num_layers=4, hidden_units=(4,), seed=0),
            np.concatenate([on_spheres(), on_spheres()], 1),
        ),
        (lambda: tff.flows.product("a2", num_layers=1, hidden_units=(4,), seed=0), shares()),
        (logarithm, shares()),
    ],
    ids=["sphere", "sphere, a chain", "product", "two spheres", "simplex", "TFP's bijector"],
)
def test_data_outside_the_support_are_refused_by_every_fit(make, x):
    model = eager(make())
    outside = x.copy()
    outside[3, -1] -= 2
    for _ in range(2):
        with pytest.raises(ValueError, match="inside the support of .* in row 3"):
            model.fit(outside, verbose=0)
        model.fit(x, verbose=0)


def test_what_stands_inverted_before_the_data_supports_all_numbers():
    angles = np.float32([[1.0, 2.0], [0.5, -2.0]])
    base = tfd.Independent(tfd.SphericalUniform(3), 0)
    chart = tfb.Invert(tff.bijectors.SphericalCoordinates())
    flow = tfb.Chain([chart, tff.bijectors.SphereFlow(hidden_units=(4,), seed=0)])
    eager(tfd.TransformedDistribution(base, flow)).fit(angles, verbose=0)
