"""Tables: what columns are found to be, frames to rows and back, and densities of rows that are densities."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.tables.continua import Chart
from tfp_flows.tables.export import input_names
from tfp_flows.tables.kinds import column_of
from tfp_flows.tables.schema import Schema

pd = pytest.importorskip("pandas")
RANDOM = np.random.default_rng(0)
N = 400


def table():
    """A column of every kind, with the order and dtypes that have to come back."""
    random = np.random.default_rng(1)
    start = pd.Timestamp("2024-03-01 00:30")
    return pd.DataFrame(
        {
            "size": random.lognormal(size=N),
            "shift": random.normal(0.0, 3.0, N),
            "far": 1e9 + random.normal(size=N),
            "grade": pd.Categorical(random.choice(["low", "high"], N), ["low", "mid", "high"], ordered=True),
            "city": random.choice(["Bern", "Köln"], N),
            "count": random.poisson(3.0, N),
            "wide": pd.array(random.integers(0, 5000, N), dtype="Int32"),
            "price": np.round(random.lognormal(3.0, 0.5, N), 2).astype("float32"),
            "rain": np.where(random.random(N) < 0.5, 0.0, random.gamma(2.0, size=N)),
            "flag": random.random(N) < 0.3,
            "when": start + pd.to_timedelta(random.integers(0, 3000, N), "h"),
            "zoned": (start + pd.to_timedelta(random.integers(0, 900, N), "D")).tz_localize("Europe/Berlin"),
            "angle": random.uniform(0.0, 360.0, N),
            "share": random.beta(2.0, 3.0, N),
            "always": 3.5,
        }
    )


OPTIONS = {"kinds": {"angle": "periodic"}, "bounds": {"angle": (0, 360), "share": (0, 1)}}
EXPECTED = {
    "size": ("positive", 0, "log"),
    "shift": ("unbounded", 0, "unbounded"),
    "far": ("unbounded", 0, "unbounded"),
    "grade": ("category", 3, None),
    "city": ("category", 2, None),
    "wide": ("integer", 0, "softplus"),
    "price": ("rounded", 0, "log"),
    "rain": ("mixture", 1, None),
    "flag": ("category", 2, None),
    "when": ("date-time", 0, "unbounded"),
    "zoned": ("date-time", 0, "unbounded"),
    "angle": ("periodic", 0, "periodic"),
    "share": ("bounded", 0, "bounded"),
    "always": ("constant", 1, None),
}


def schema_of(frame, kinds=None, bounds=None, missing="raise"):
    kinds, bounds = kinds or {}, bounds or {}
    columns = [column_of(frame[name], kinds.get(name), bounds.get(name), missing) for name in frame.columns]
    return Schema(columns, missing=missing)


def perturbed(model, size=0.3, seed=0):
    """The model with all its weights moved, so that nothing is the identity or uniform any more."""
    random = np.random.default_rng(seed)
    for weight in model.flow_model.trainable_weights:
        weight.assign(weight + size * random.normal(size=weight.shape))
    return model


def small(frame, seed=0, **options):
    return tff.TableModel.from_data(frame, seed=seed, **{"num_layers": 1, "hidden_units": (16,), **options})


def log_prob(model, frame):
    """As `model.log_prob`, without compiling anything."""
    rows, context, _ = model.schema.encode(frame)
    distribution = model.flow_model.distribution
    if context is not None:
        distribution = tff.condition(distribution, tf.cast(context, distribution.dtype))
    return distribution.log_prob(tf.cast(rows, distribution.dtype)).numpy().astype("float64")


# Kinds


def test_kinds_are_found():
    columns = {column.name: column for column in schema_of(table(), **OPTIONS).columns}
    for name, (kind, atoms, shape) in EXPECTED.items():
        column = columns[name]
        assert (column.kind, len(column.atoms)) == (kind, atoms), name
        if shape:
            assert column.continuum.shape == shape, name
    count = columns["count"]
    assert count.kind == "integer" and count.atoms == tuple(range(int(table()["count"].max()) + 1))
    assert columns["when"].continuum.step * columns["when"].ticks == 3600e6  # hours, in the frame's microseconds
    assert columns["zoned"].continuum.step == 1 / 24  # a day, but for summer time
    assert columns["price"].continuum.step == pytest.approx(0.01)
    assert columns["far"].continuum.offset == pytest.approx(1e9, abs=2)


def test_kinds_can_be_stated():
    values = pd.Series(RANDOM.integers(1, 10, N), name="x")
    assert column_of(values).continuum is None
    assert column_of(values, "category").labels == tuple(range(1, 10))
    assert column_of(values, "positive").continuum is None  # integers of a small range, whatever their sign
    floats = pd.Series(RANDOM.gamma(2.0, size=N), name="x")
    assert column_of(floats, "unbounded").continuum.low is None
    learned = column_of(floats, "bounded").continuum
    assert learned.low < floats.min() and learned.high > floats.max()
    assert column_of(floats, bounds=(None, 100.0)).continuum.shape == "below"
    hours = pd.Series(RANDOM.integers(0, 24, N), name="x")
    assert column_of(hours, "periodic", (0, 24)).continuum.is_periodic


def test_bounds_of_integers_are_integers():
    values = pd.Series(RANDOM.integers(3, 9, N), name="x")
    assert column_of(values, bounds=(0.5, 10.5)).atoms == tuple(range(1, 11))
    wide = column_of(pd.Series(RANDOM.integers(0, 1000, N), name="x"), bounds=(-0.5, 1200.9)).continuum
    assert (wide.low + wide.offset, wide.high + wide.offset, wide.shape) == (0, 1200, "bounded")
    radians = column_of(pd.Series(np.round(RANDOM.uniform(0, 6.28, N), 2), name="x"), "periodic", (0, 2 * np.pi))
    assert radians.continuum.step == 0 and radians.decimals is None


def test_heaps_have_probabilities_of_their_own():
    heaped = np.concatenate([np.repeat([0.5, 1.0, 1.5], 300), np.round(RANDOM.uniform(0.2, 3.0, 300), 2)])
    column = column_of(pd.Series(heaped, name="carat"))
    assert {0.5, 1.0, 1.5} <= set(column.atoms) and column.continuum.step == pytest.approx(0.01)


@pytest.mark.parametrize("heaps", [(0.5,), (0.7, 0.71), (0.5, 0.75, 1.0)], ids=str)
def test_heaps_stand_out_from_frequent_values(heaps):
    """Of each cell around 0.5 there is 1.5 % of the rows, of the heap 5.5 %."""
    random = np.random.default_rng(0)
    carat = np.exp(random.normal(-0.5, 0.5, 5000)).round(2)
    for k, heap in enumerate(heaps):
        carat[200 * k : 200 * (k + 1)] = heap
    assert column_of(pd.Series(carat, name="carat")).atoms == heaps


SMOOTH = {
    "normal": lambda random, n: random.normal(5.0, 1.0, n).round(2),
    "narrow": lambda random, n: random.normal(0.0, 9.0, n).round(),
    "heavy tails": lambda random, n: (20 * random.standard_t(2, n)).round(),
    "edge": lambda random, n: random.exponential(3.0, n).round(1),
    "skewed": lambda random, n: random.lognormal(3.0, 1.0, n).round().astype(int),
    "counts": lambda random, n: random.poisson(100.0, n),
    "wide counts": lambda random, n: random.negative_binomial(1, 0.03, n),
    "uniform": lambda random, n: random.integers(0, 500, n),
}


@pytest.mark.parametrize("n", [500, 20_000])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_columns_have_no_heaps(name, n):
    for seed in range(4):
        assert column_of(pd.Series(SMOOTH[name](np.random.default_rng(seed), n), name="x")).kind != "mixture"


def test_columns_are_a_table():
    text = str(tff.TableModel.from_data(table(), **OPTIONS, num_layers=1, seed=0).columns)
    assert "periodic" in text and "nothing: it is constant" in text and len(text.splitlines()) >= len(EXPECTED)


# Frames


def test_frames_come_back_as_they_were():
    frame = table()
    schema = schema_of(frame, **OPTIONS)
    rows, _, kept = schema.encode(frame.iloc[::-1][sorted(frame.columns)])  # in any order of columns
    assert len(kept) == N
    pd.testing.assert_frame_equal(schema.decode(rows), frame.iloc[::-1].reset_index(drop=True))
    # In float32, as a flow has it, and from a file's configuration.
    again = Schema.from_config(schema.get_config())
    pd.testing.assert_frame_equal(again.decode(np.float32(rows)), schema.decode(rows), rtol=1e-5, atol=1e-4)
    exact = ["grade", "city", "count", "wide", "price", "flag", "when", "zoned", "always"]
    pd.testing.assert_frame_equal(again.decode(np.float32(rows))[exact], schema.decode(rows)[exact])


def test_rounded_numbers_are_what_they_were_written_as():
    """0.1 of float32 is another number than 0.1, but the same value of a column."""
    frame = pd.DataFrame({"dose": RANDOM.choice(np.float32([0.1, 0.2, 0.3, 0.7]), N)})
    schema = schema_of(frame)
    assert schema.columns[0].atoms == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)[0]), frame)


def test_tables_of_other_kinds(tmp_path):
    frame = table()[["size", "count", "city", "when"]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    expected = schema_of(frame).encode(frame)[0]
    for source in (tmp_path / "t.csv", str(tmp_path / "t.parquet"), frame.to_dict("series")):
        read = tff.tables.frames.read(source)
        np.testing.assert_allclose(schema_of(read).encode(read)[0], expected, rtol=1e-12)
    records = frame[["size", "count"]].to_records(index=False)
    assert tff.tables.frames.read(np.array(records)).columns.tolist() == ["size", "count"]

    class Polars:
        def to_pandas(self):
            return frame

    assert tff.tables.frames.read(Polars()) is frame


def test_missing_values():
    frame = table()[["size", "city", "count", "when"]].astype({"count": "Int64"})
    for k, name in enumerate(frame.columns):
        frame.loc[k::7, name] = None
    with pytest.raises(ValueError, match="'size'.*Received: 58 missing"):
        small(frame)
    schema = schema_of(frame, missing="model")
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)[0]), frame)
    model = perturbed(small(frame, missing="model"))
    assert np.isfinite(log_prob(model, frame)).all()
    dropping = small(frame, missing="drop")
    rows, _, kept = dropping.schema.encode(frame, training=True)
    assert len(rows) == len(kept) == len(frame.dropna())
    with pytest.raises(ValueError, match="Received: 58 missing"):
        dropping.log_prob(frame)


# Densities


def nodes(column, points):
    """(values, weights) of a quadrature over a column: 1 for atoms, widths for a continuum, 1 for cells."""
    labels = column.labels if column.labels is not None else column.atoms
    values = [*labels, *([None] if column.has_missing else [])]
    weights = [1.0] * len(values)
    part = column.continuum
    if part is not None and part.step:
        y = part.low + np.arange(20_000) * part.step
        values, weights = [*values, *(y + part.offset)], [*weights, *np.ones(len(y))]
    elif part is not None:
        if part.is_periodic:
            y = np.linspace(part.low, part.high, points)
        else:
            y = Chart([part], "float64").forward(np.linspace(-9, 9, points)[:, np.newaxis])[:, 0].numpy()
        between = np.diff(y) / 2
        values = [*values, *(y + part.offset)]
        weights = [*weights, *(np.append(between, 0) + np.append(0, between))]
    return pd.Series(values, dtype=object), np.array(weights)


def integral(model, points=2001, **given):
    """The sum and the integral of p over all columns that are modelled, at the values that are given of others."""
    columns = model.schema.modelled_columns
    series, weights = zip(*[nodes(column, points) for column in columns], strict=True)
    places = np.meshgrid(*[np.arange(len(values)) for values in series], indexing="ij")
    frame = {
        column.name: values.iloc[place.ravel()].reset_index(drop=True).astype(_numbers(column.dtype))
        for column, values, place in zip(columns, series, places, strict=True)
    }
    frame = pd.DataFrame({**frame, **given})
    p = np.exp(log_prob(model, frame)) * np.prod([w[k.ravel()] for w, k in zip(weights, places, strict=True)], 0)
    return p.sum()


def _numbers(dtype):
    return "Float64" if "float" in dtype.lower() else dtype


@pytest.mark.parametrize("name", ["size", "share", "angle", "rain", "grade", "count", "price"])
def test_densities_of_one_column_integrate_to_one(name):
    options = {key: {k: v for k, v in value.items() if k == name} for key, value in OPTIONS.items()}
    model = perturbed(small(table()[[name]], dtype=tf.float64, **options))
    # Of dequantized cells there is one draw each: a stratified estimate.
    assert integral(model) == pytest.approx(1.0, abs=0.02 if name == "price" else 3e-4)


@pytest.mark.parametrize("names", [("grade", "size"), ("rain", "size"), ("flag", "count"), ("rain", "angle")], ids=str)
def test_densities_of_two_columns_integrate_to_one(names):
    options = {key: {k: v for k, v in value.items() if k in names} for key, value in OPTIONS.items()}
    model = perturbed(small(table()[list(names)], dtype=tf.float64, **options), 0.1)
    assert integral(model, points=301) == pytest.approx(1.0, abs=2e-3)


def test_densities_with_missing_values_and_contexts_integrate_to_one():
    frame = table()[["rain", "size", "shift", "city"]]
    frame.loc[::5, "rain"] = None
    frame.loc[1::5, "size"] = None
    options = {"context_columns": ["shift", "city"], "missing": "model", "dtype": tf.float64}
    model = perturbed(small(frame, **options), 0.1)
    one = integral(model, points=301, shift=1.0, city="Bern")
    assert one == pytest.approx(1.0, abs=2e-3)
    # The context matters, and it is not a part of the density.
    both = [log_prob(model, frame.assign(city=city)) for city in ("Bern", "Köln")]
    assert np.abs(both[0] - both[1]).max() > 0.01


def test_a_new_model_has_the_frequencies_of_the_table():
    frame = table()[["count"]]
    counts = frame["count"].value_counts(normalize=True)
    found = np.exp(log_prob(small(frame), pd.DataFrame({"count": counts.index})))
    np.testing.assert_allclose(found, counts, rtol=1e-3)


def test_absent_numbers_do_not_matter():
    """The exact marginal: where rain is 0, the density of the rest is that of the outcome times that of the rest."""
    model = perturbed(small(table()[["rain", "size"]], dtype=tf.float64))
    rows, _, _ = model.schema.encode(table()[["rain", "size"]])
    moved = rows.numpy()
    moved[moved[:, 0] > 0, -1] = 5.0  # the number of a column that is at an atom
    distribution = model.flow_model.distribution
    np.testing.assert_array_equal(distribution.log_prob(rows), distribution.log_prob(moved))


@pytest.mark.parametrize("options, bound", [({}, 5.0), ({"bound": 4.0}, 4.0)])
@pytest.mark.parametrize("flow", ["neural_spline_autoregressive", "neural_spline_coupling"])
def test_splines_reach_into_the_tails_of_columns(flow, options, bound):
    model = small(table()[["price", "far"]], flow=flow, **options)
    parts = model.flow_model.distribution.submodules
    assert {part.transformer.bound for part in parts if hasattr(part, "transformer")} == {bound}


def test_units():
    """A column in other units has a density in those."""
    frame = table()[["size"]]
    meters = small(frame, dtype=tf.float64)
    inches = small(frame * 40.0, dtype=tf.float64)
    expected = log_prob(meters, frame) - np.log(40.0)
    np.testing.assert_allclose(log_prob(inches, frame * 40.0), expected, atol=1e-6)


# The whole life


FITTED = ["size", "grade", "city", "count", "wide", "price", "rain", "flag", "when", "share", "always"]


@pytest.fixture(scope="module")
def fitted():
    model = small(dependent_table(), hidden_units=(32,), bounds={"share": (0, 1)})
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    history = model.fit(dependent_table(), epochs=30, verbose=0)
    assert {"loss", "val_loss"} <= set(history.history)
    assert history.history["loss"][-1] < history.history["loss"][0] - 1.0
    return model


def dependent_table():
    """Columns of most kinds; the price depends on the size, and both on the city."""
    frame = table()[FITTED]
    size = frame["size"] * np.where(frame["city"] == "Bern", 1.0, 4.0)
    price = np.round(20.0 * size * np.exp(0.05 * np.random.default_rng(2).normal(size=N)) + 1.0, 2)
    return frame.assign(size=size, price=price.astype("float32"))


def test_samples_are_rows_of_the_table(fitted):
    frame, sample = dependent_table(), fitted.sample(3000, seed=1)
    assert sample.dtypes.to_dict() == frame.dtypes.to_dict() and list(sample.columns) == list(frame.columns)
    assert sample["size"].gt(0).all() and sample["rain"].ge(0).all() and sample["share"].between(0, 1).all()
    assert sample["count"].between(0, frame["count"].max()).all() and sample["wide"].ge(0).all()
    assert set(sample["grade"]) <= {"low", "mid", "high"} and set(sample["city"]) == {"Bern", "Köln"}
    assert (np.round(sample["price"].astype(float), 2).astype("float32") == sample["price"]).all()
    assert (sample["when"].dt.minute == 30).all() and (sample["always"] == 3.5).all()
    assert np.isfinite(fitted.log_prob(sample)).all()
    pd.testing.assert_frame_equal(fitted.sample(5, seed=3), fitted.sample(5, seed=3))


def test_samples_depend_as_the_table_does(fitted):
    sample = fitted.sample(3000, seed=2)
    assert 0.4 < (sample["rain"] == 0).mean() < 0.6
    assert np.corrcoef(np.log(sample["size"]), np.log(sample["price"].astype(float)))[0, 1] > 0.9
    ratio = sample.groupby("city")["size"].median()
    assert 2.5 < ratio["Köln"] / ratio["Bern"] < 6.0


def test_evaluation_is_the_mean(fitted):
    log_probs = fitted.log_prob(dependent_table())
    assert log_probs.shape == (N,)
    assert fitted.evaluate(dependent_table()) == pytest.approx(-log_probs.mean(), abs=0.1)  # noise of other batches


def test_files(fitted, tmp_path):
    fitted.save(tmp_path / "table.keras")
    again = tff.TableModel.load(tmp_path / "table.keras")
    rows = fitted.schema.encode(dependent_table())[0]
    rows = tf.cast(rows, tf.float32)
    np.testing.assert_array_equal(
        again.flow_model.distribution.log_prob(rows), fitted.flow_model.distribution.log_prob(tf.identity(rows))
    )
    assert str(again.columns) == str(fitted.columns)


def test_served(tmp_path):
    """By TensorFlow alone: a signature with an input for every column."""
    frame = table()[["size", "city", "rain", "flag", "when", "always"]]
    frame.loc[::9, "city"] = None
    model = perturbed(small(frame, missing="model"), 0.1)
    model.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures
    specs = served["log_prob"].structured_input_signature[1]
    served_as = frame.assign(when=frame["when"].astype("int64"), city=frame["city"].fillna("<missing>"))
    inputs = {name: tf.constant(served_as[name].tolist(), specs[name].dtype) for name in frame}
    found = served["log_prob"](**inputs)["log_prob"]
    np.testing.assert_allclose(found, log_prob(model, frame), atol=2e-3)
    for name, value in (("city", "Atlantis"), ("size", -1.0), ("rain", np.nan)):
        impossible = {**inputs, name: tf.constant([value] * N, specs[name].dtype)}
        assert np.isneginf(served["log_prob"](**impossible)["log_prob"]).all(), name
    draws = served["sample"](n=tf.constant(500), seed=tf.constant(1))
    assert set(draws) == set(frame) and set(draws["city"].numpy()) == {b"Bern", "Köln".encode(), b"<missing>"}
    described = json.loads((tmp_path / "served" / "assets.extra" / "columns.json").read_text())
    assert described["inputs"]["size"] == "size" and described["missing"] == "model"


@pytest.mark.parametrize("decimals", [1, 2, 3])
@pytest.mark.parametrize("spread", [10, 1000])  # few values, atoms each; many, cells of a continuum
def test_rounded_values_are_served_as_written(decimals, spread, tmp_path):
    """A graph is optimized: a quotient by 10 would be a product with 0.1, and 4.1 another number."""
    frame = pd.DataFrame({"x": (RANDOM.normal(size=N) * spread).round() / 10**decimals})
    model = perturbed(small(frame), 0.1)
    model.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures
    found = served["log_prob"](x=tf.constant(frame["x"].to_numpy()))["log_prob"]
    np.testing.assert_allclose(found, model.log_prob(frame), atol=2e-3)
    drawn = served["sample"](n=tf.constant(500), seed=tf.constant(1))["x"].numpy()
    np.testing.assert_array_equal(drawn, drawn.round(decimals))


def test_names_of_inputs():
    columns = [column_of(pd.Series([0.5, 1.5, 2.25], name=name)) for name in ("a (cm)", "a [cm]", "n", "é")]
    names = input_names(Schema(columns))
    assert list(names.values()) == ["a__cm_", "a__cm__", "n_", "column"]


def test_contexts():
    frame = table()[["size", "city", "count"]]
    model = perturbed(small(frame, context_columns=["city", "count"]), 0.1)
    sample = model.sample(frame[["count", "city"]].iloc[:50], seed=0)
    pd.testing.assert_frame_equal(sample[["city", "count"]], frame[["city", "count"]].iloc[:50])
    assert list(sample.columns) == list(frame.columns) and sample["size"].gt(0).all()
    np.testing.assert_allclose(model.log_prob(frame), log_prob(model, frame), atol=1e-4)
    with pytest.raises(TypeError, match="Expected a table.*Received: int"):
        model.sample(10)


def test_periodic_columns_have_no_seam():
    frame = pd.DataFrame({"hour": RANDOM.integers(0, 24, N)})
    model = perturbed(small(frame, kinds={"hour": "periodic"}, bounds={"hour": (0, 24)}))
    rows = model.flow_model.distribution.sample(500, seed=(0, 1))
    hours = model.schema.decode(rows)["hour"]
    assert hours.between(0, 23).all() and hours.nunique() == 24
    every = pd.DataFrame({"hour": np.arange(24)})
    assert np.exp(log_prob(model, every)).sum() == pytest.approx(1.0, abs=0.05)
