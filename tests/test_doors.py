"""One door for data: whatever brings it, it is converted and checked the same way, before anything changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.model import pipelines

pd = pytest.importorskip("pandas")

X = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
CONTEXT = np.random.default_rng(1).integers(0, 5, size=(12, 1))  # which every dtype holds exactly
WEIGHT = np.random.default_rng(2).uniform(0.5, 2.0, size=12).astype("float32")


def small_flow(context_size=0, **options):
    options = {"num_layers": 1, "hidden_units": (4,), "seed": 0, **options}
    return tff.flows.realnvp(2, context_size=context_size, **options)


def eager(flow, **compile_arguments):
    """A model that runs without graphs, and whose training moves nothing."""
    model = tff.FlowModel(flow)
    settings = {"optimizer": keras.optimizers.SGD(0.0), "jit_compile": False, "steps_per_execution": 1}
    model.compile(**{**settings, "run_eagerly": True, **compile_arguments})
    return model


@pytest.fixture(scope="module")
def conditional():
    model = eager(small_flow(1))
    model.adapt(X, context=CONTEXT)
    return model


@pytest.fixture(scope="module")
def unconditional():
    return eager(small_flow())


@pytest.fixture(scope="module")
def exact(conditional):
    """log p(x|c), by the distribution itself."""
    return conditional.distribution.log_prob(X, bijector_kwargs={"context": tf.constant(CONTEXT, tf.float32)}).numpy()


def close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-5)


# Contexts of any dtype, in any container, through every door

CONTEXTS = {
    "float64": lambda c: c.astype("float64"),
    "float16": lambda c: c.astype("float16"),
    "int64": lambda c: c,
    "uint8": lambda c: c.astype("uint8"),
    "list": lambda c: c.tolist(),
    "object": lambda c: c.astype(object),
    "tensor": lambda c: tf.constant(c, tf.float64),
    "bfloat16 tensor": lambda c: tf.cast(c, tf.bfloat16),
    "frame": lambda c: pd.DataFrame(c, columns=["count"]),
    "nullable": lambda c: pd.DataFrame(c, columns=["count"], dtype="Int64"),
    "nullable floats": lambda c: pd.DataFrame(c, columns=["count"], dtype="Float64"),
    "object frame": lambda c: pd.DataFrame(c.astype(object), columns=["count"]),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_contexts_held_in_memory(conditional, exact, name):
    context = CONTEXTS[name](CONTEXT)
    loss = -np.mean(exact)
    close(conditional.fit(context, X, validation_data=(context, X), verbose=0).history["val_loss"], loss)
    close(conditional.train_on_batch(context, X), loss)
    close(conditional.test_on_batch(context, X), loss)
    close(conditional.predict((context, X), verbose=0), exact)
    close(conditional.log_prob(X, context), exact)
    if name not in ("list", "object", "object frame"):  # which no Keras layer takes in a call
        close(conditional((context, X)), exact)


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(part[5 * index : 5 * index + 5] for part in self.parts)


def generator(*parts):
    batches = Batches(*parts)
    return (batches[k] for k in range(len(batches)))


def without_shapes(*parts):
    """A pipeline of which TensorFlow knows dtypes and no ranks."""
    types = tuple(part.dtype for part in parts)
    return tf.data.Dataset.from_generator(lambda: generator(*parts), output_types=types)


PIPELINES = {
    "tf.data": lambda *parts: tf.data.Dataset.from_tensor_slices(parts).batch(5),
    "without shapes": without_shapes,
    "generator": generator,
    "PyDataset": Batches,
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras says so of every generator
@pytest.mark.parametrize(
    "name, dtype",
    [
        ("tf.data", "float64"),
        ("tf.data", "int64"),
        ("without shapes", "float64"),
        ("generator", "float16"),
        ("PyDataset", "float64"),
    ],
)
def test_pipelines_with_a_smaller_last_batch(conditional, exact, name, dtype):
    make, context = PIPELINES[name], CONTEXT.astype(dtype)
    close(conditional.fit(make(context, X), verbose=0).history["loss"], -np.mean(exact))
    close(conditional.predict(make(context, X), verbose=0), exact)
    close(conditional.evaluate(make(context, X, WEIGHT.astype("float64")), verbose=0), -np.mean(WEIGHT * exact))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_ranks_that_only_the_model_knows_in_a_graph(conditional, exact):
    model = eager(conditional.distribution, run_eagerly=False)
    data = without_shapes(CONTEXT, X, WEIGHT)
    history = model.fit(data, validation_data=data, verbose=0).history
    close([history["loss"], history["val_loss"]], -np.mean(WEIGHT * exact))


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_context_by_name_is_the_context_by_position(conditional, method, exact):
    def loss(*data, **named):
        result = getattr(conditional, method)(*data, verbose=0, **named)
        return result.history["loss"][0] if method == "fit" else result

    close(loss(CONTEXT, X, sample_weight=WEIGHT), -np.mean(WEIGHT * exact))
    close(loss(X, context=CONTEXT, sample_weight=WEIGHT), -np.mean(WEIGHT * exact))
    with pytest.raises(ValueError, match=r"`fit\(context, x\)` or `fit\(x, context=context\)`. Received: both"):
        loss(CONTEXT, X, context=CONTEXT)


@pytest.mark.parametrize("make", [pd.Series, list, lambda w: pd.Series(w, dtype="Float64"), lambda w: w[:, None]])
def test_sample_weights_of_any_kind(conditional, exact, make):
    weight, loss = make(WEIGHT), -np.mean(WEIGHT * exact)
    history = conditional.fit(CONTEXT, X, sample_weight=weight, validation_data=(CONTEXT, X, weight), verbose=0).history
    close([history["loss"], history["val_loss"]], loss)
    close(conditional.evaluate(CONTEXT, X, sample_weight=weight, verbose=0), loss)
    close(conditional.train_on_batch(CONTEXT, X, sample_weight=weight), loss)
    close(conditional.test_on_batch(CONTEXT, X, sample_weight=weight), loss)


def test_weights_of_unconditional_events(unconditional):
    loss = -np.mean(WEIGHT * unconditional.distribution.log_prob(X))
    weight = pd.Series(WEIGHT)
    close(unconditional.fit(X, sample_weight=weight, adapt=False, verbose=0).history["loss"], loss)
    close(unconditional.fit(X, validation_data=(X, weight), verbose=0).history["val_loss"], loss)
    close(unconditional.evaluate(generator(X, WEIGHT), verbose=0), loss)


def test_floatx_stays_what_it_is_while_another_dtype_trains():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(keras.config.floatx())

    def loss(x, log_prob):
        seen.extend([keras.config.floatx(), x.dtype.name])
        return -log_prob

    model = eager(small_flow(1, dtype="float64"), loss=loss)
    seen.clear()
    model.fit(CONTEXT, X, callbacks=[Look()], verbose=0)
    assert seen == ["float32", "float64", "float32"]


# What is wrong is named, and nothing has changed

NAN = np.where(np.arange(12)[:, None] == 7, np.float32([np.nan, 0]), X)
MIXED = pd.DataFrame({"height": X[:, 0], "children": np.arange(12)})
REFUSED = {
    "integers": (lambda m: m.fit(np.zeros([12, 2], int), context=CONTEXT), TypeError, "uniform noise.*: dtype int64"),
    "integers, one column": (lambda m: m.fit(CONTEXT, MIXED), TypeError, r"Received: column 'children' of dtype int64"),
    "integers, nullable": (
        lambda m: m.evaluate(CONTEXT, MIXED.astype({"children": "Int64"})),
        TypeError,
        "column 'children' of dtype int64",
    ),
    "integers, objects": (
        lambda m: m.evaluate(CONTEXT, MIXED.astype(object)),
        TypeError,
        "Received: column 'children' of dtype int64",
    ),
    "integers in a pipeline": (
        lambda m: m.fit(PIPELINES["tf.data"](CONTEXT, np.zeros([12, 2], int))),
        TypeError,
        "uniform noise.*: dtype int64",
    ),
    "integers in validation": (
        lambda m: m.fit(CONTEXT, X, validation_data=(CONTEXT, np.zeros([12, 2], int))),
        TypeError,
        "uniform noise.*: dtype int64",
    ),
    "integers in a batch": (lambda m: m.train_on_batch(CONTEXT, MIXED), TypeError, "column 'children'"),
    "integers to log_prob": (lambda m: m.log_prob(MIXED, CONTEXT), TypeError, "column 'children'"),
    "words": (
        lambda m: m.fit(pd.DataFrame({"colour": ["red"] * 12}), X),
        TypeError,
        "contexts that are numbers. Received: column 'colour' of dtype",
    ),
    "NaN, nullable": (
        lambda m: m.fit(pd.DataFrame({"age": pd.array([None, *range(11)], "Int64")}), X),
        ValueError,
        r"finite contexts. Received: column 0 \('age'\): 1 NaN",
    ),
    "NaN in validation": (
        lambda m: m.fit(CONTEXT, X, validation_data=(CONTEXT, NAN)),
        ValueError,
        "finite data. Received: column 0: 1 NaN",
    ),
    "NaN in weights": (
        lambda m: m.fit(CONTEXT, X, sample_weight=np.where(np.arange(12) == 3, np.nan, WEIGHT)),
        ValueError,
        "finite sample weights. Received: column 0: 1 NaN",
    ),
    "infinite weights in a batch": (
        lambda m: m.train_on_batch(CONTEXT, X, sample_weight=WEIGHT * np.inf),
        ValueError,
        "finite sample weights. Received: column 0: 12 infinite",
    ),
    "NaN in validation weights": (
        lambda m: m.fit(CONTEXT, X, validation_data=(CONTEXT, X, pd.Series(WEIGHT * np.nan))),
        ValueError,
        "finite sample weights",
    ),
    "too large": (lambda m: m.fit(CONTEXT, X.astype("float64") * 1e300), ValueError, "too large for float32"),
    "context of another length": (
        lambda m: m.fit(CONTEXT[:9], X),
        ValueError,
        "as many contexts and weights as events. Received: 12 data, 9 contexts",
    ),
    "weights of another length": (
        lambda m: m.evaluate(CONTEXT, X, sample_weight=WEIGHT[:5]),
        ValueError,
        "Received: 12 data, 12 contexts, 5 sample weights",
    ),
    "weights of two columns": (
        lambda m: m.fit(CONTEXT, X, sample_weight=X),
        ValueError,
        r"sample weights of shape \('n',\). Received: shape \(12, 2\)",
    ),
    "wrong size in a pipeline": (
        lambda m: m.fit(PIPELINES["tf.data"](CONTEXT, X[:, :1])),
        ValueError,
        r"data of shape \('n', 2\). Received: shape \(None, 1\)",
    ),
    "no context in a generator": (lambda m: m.fit(batch for batch in [X]), ValueError, "Received: x alone"),
    "context beside a pipeline": (
        lambda m: m.fit(PIPELINES["tf.data"](X), context=CONTEXT),
        ValueError,
        "come from the pipeline itself.*Received",
    ),
    "class weights": (
        lambda m: m.fit(CONTEXT, X, class_weight={0: 1.0}),
        ValueError,
        "Use `sample_weight`.*Received: class_weight=",
    ),
    "class weights of a batch": (
        lambda m: m.train_on_batch(CONTEXT, X, class_weight={0: 1.0}),
        ValueError,
        "Use `sample_weight`.*Received: class_weight=",
    ),
    "loss by name": (lambda m: m.compile(loss="mse"), ValueError, "compares predictions.*Received: loss='mse'"),
    "x alone": (lambda m: m(X), ValueError, r"Expected a pair \(context, x\).*Received: x alone"),
    "symbolic": (
        lambda m: m.log_prob(keras.Input([2]), CONTEXT),
        TypeError,
        r"call the FlowModel itself.*flow\(\(context, x\)\). Received: <KerasTensor",
    ),
}


@pytest.fixture(scope="module")
def untouched():
    """A model whose parts would be adapted, and whose weights would move, by the first step."""
    return eager(small_flow(1, act_norm=True), optimizer=keras.optimizers.Adam(0.1))


def state(model):
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]


@pytest.mark.parametrize("name", REFUSED)
def test_bad_data_is_named_and_changes_nothing(untouched, name):
    run, error, words = REFUSED[name]
    before = state(untouched)
    with pytest.raises(error, match=words) as raised:
        run(untouched)
    assert "Received: " in str(raised.value)
    for now, then in zip(state(untouched), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("validation_data", [NAN, (NAN,), (X, WEIGHT * np.nan)], ids=["x", "(x,)", "weights"])
def test_validation_data_of_unconditional_flows_is_checked(unconditional, validation_data):
    with pytest.raises(ValueError, match="Expected finite .* Received: column 0"):
        unconditional.fit(X, validation_data=validation_data, verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize("what, parts", [("data", (NAN[7:], WEIGHT[7:])), ("sample weights", (X, WEIGHT * np.nan))])
def test_a_pipeline_fails_where_it_brings_what_is_not_finite(unconditional, method, what, parts):
    before = state(unconditional)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Expected finite {what} in every batch. Received"):
        getattr(unconditional, method)(PIPELINES["tf.data"](*parts), verbose=0)
    for now, then in zip(state(unconditional), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_bits_per_dim_is_a_weighted_metric_by_name(conditional, exact):
    model = eager(conditional.distribution, weighted_metrics=["bits_per_dim"])
    results = model.evaluate(CONTEXT, X, sample_weight=WEIGHT, verbose=0, return_dict=True)
    close(results["bits_per_dim"], -np.average(exact, weights=WEIGHT) / (2 * np.log(2)))


# The support of TFP's bijectors and distributions


def positive(x_part):
    return tfd.TransformedDistribution(small_flow(standardize=False), x_part)


@pytest.mark.parametrize(
    "flow, name",
    [
        (lambda: positive(tfb.Exp()), "exp.*Exp"),
        (lambda: positive(tfb.Chain([tfb.Scale(2.0), tfb.Exp(), tfb.Shift(1.0)])), "exp.*Exp"),
        (lambda: positive(tfb.Blockwise([tfb.Identity(), tfb.Softplus()], [1, 1])), "softplus.*Softplus"),
        (lambda: positive(tfb.Invert(tfb.Log())), "exp.*Exp"),
    ],
    ids=["Exp", "inside a chain", "blockwise", "inverted"],
)
def test_rows_outside_a_bijectors_support(flow, name):
    x = np.exp(X)
    x[[4, 7], 1] = -1.0
    model = eager(flow())
    with pytest.raises(
        ValueError, match=f"inside the support of `{name}.*Received: -.* in row 4, column ., and 1 more"
    ):
        model.fit(x, verbose=0)
    assert np.isfinite(model.fit(np.exp(X), verbose=0).history["loss"]).all()


def test_rows_outside_the_support_of_a_distribution():
    x = np.exp(X[:, 0])
    x[3] = -1.0
    model = eager(tfd.LogNormal(tf.Variable(0.0), 1.0))  # of TFP's, with a bijector
    with pytest.raises(ValueError, match="support of `exp` .*Received: -1.0 in row 3$"):
        model.fit(x, verbose=0)
    gamma = eager(tfd.Gamma(tf.Variable(2.0), 1.0, name="gamma"))
    with pytest.raises(ValueError, match="support of `gamma`. Received: 1 rows.*the first of them row 3: -1.0"):
        gamma.fit(x, verbose=0)


# Batches of one size, for one compiled program


def test_arrays_are_dealt_to_batches_of_one_size():
    batches = list(pipelines.training_batches(np.arange(10), 4, shuffle=True).as_numpy_iterator())
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert set(np.concatenate(batches)) == set(range(10))
    evenly = pipelines.training_batches(np.arange(9), 4, shuffle=False)
    assert [batch.tolist() for batch in evenly.as_numpy_iterator()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_smaller_batch_of_a_pipeline_is_filled_with_its_own_rows():
    data = tf.data.Dataset.from_tensor_slices((np.arange(12), X)).batch(5)
    batches = list(pipelines.filled(data).as_numpy_iterator())
    assert [rows.tolist() for rows, _ in batches[1:]] == [[5, 6, 7, 8, 9], [10, 11, 10, 11, 10]]
    np.testing.assert_array_equal(batches[2][1], X[[10, 11, 10, 11, 10]])
    assert len(pipelines.filled(data)) == 3


class Counted(keras.layers.Layer):
    """A conditioner that counts how often Python runs it: once for every program that is traced."""

    def __init__(self):
        super().__init__()
        self.dense, self.sizes = keras.layers.Dense(2), []

    def call(self, x, context=None):
        self.sizes.append(x.shape[0])
        return self.dense(x if context is None else tf.concat([x, context], -1))


def test_one_program_trains_and_one_evaluates():
    counted = Counted()
    bijector = tff.bijectors.RealNVP(2, conditioner=counted, context_size=1)
    model = tff.FlowModel(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), bijector))
    model.compile(jit_compile=False)
    counted.sizes.clear()
    validation = {"validation_data": (CONTEXT[:7], X[:7]), "validation_batch_size": 5}
    model.fit(CONTEXT, X, batch_size=5, epochs=2, verbose=0, **validation)
    model.fit(CONTEXT, X, batch_size=5, verbose=0, **validation)
    assert counted.sizes == [4, None]


def test_pipelines_are_filled_where_xla_compiles(monkeypatch):
    seen = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, data, **_: seen.append([len(x) for _, x in data]))
    model = tff.FlowModel(small_flow(1))
    for jit_compile in (True, False):
        model.compile(jit_compile=jit_compile)
        model.fit(PIPELINES["tf.data"](CONTEXT, X), adapt=False)
    assert seen == [[5, 5, 5], [5, 5, 2]]


# Open sizes


def test_events_and_contexts_of_open_sizes_broadcast():
    flow = small_flow(1)
    signature = [tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None, 1], tf.float32)]
    log_prob = tf.function(
        lambda x, context: flow.log_prob(x, bijector_kwargs={"context": context}), input_signature=signature
    )
    context = CONTEXT.astype("float32")
    for n in (3, 4, 5, 1):
        close(log_prob(X[:n], context[:1]), log_prob(X[:n], np.repeat(context[:1], n, 0)))
        close(log_prob(X[:1], context[:n]), log_prob(np.repeat(X[:1], n, 0), context[:n]))
    assert log_prob(X[:3], context[:1]).shape == (3,)


def test_seeds_that_agree_in_32_bits_draw_differently():
    model = tff.FlowModel(small_flow())
    assert np.all(np.array(model.sample(4, seed=1)) != model.sample(4, seed=2**32 + 1))
    np.testing.assert_array_equal(model.sample(4, seed=2**32 + 1), model.sample(4, seed=2**32 + 1))
