"""Published experiments: every one builds, trains and evaluates, and says what it is."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.experiments import Experiment, Figure, Training

NAMES = list(tff.experiments)
SMALL = {
    "made": {"hidden_units": (64, 64)},
    "maf": {"num_layers": 2, "hidden_units": (64, 64)},
    "maf-10": {"num_layers": 2, "hidden_units": (64,)},
    "ffjord": {"num_flows": 1, "hidden_units": (8, 8), "rtol": 1e-2, "atol": 1e-2},
    "nsf-c": {"num_layers": 1, "hidden_units": (8,)},
    "nsf-ar": {"num_layers": 2, "hidden_units": (64,)},
    "glow": {"num_levels": 1, "steps_per_level": 1, "hidden_channels": 4},
}


def method_of(name):
    return name.split("/")[0]


def data_of(experiment, rows, seed=0):
    random = np.random.default_rng(seed)
    if method_of(experiment.name) == "glow":
        return random.integers(0, 256, (rows, *experiment.event_shape), dtype=np.uint8)
    x = random.normal(size=(rows, *experiment.event_shape))
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_the_flow_is_built_small_with_the_papers_parts(name):
    experiment = tff.experiments[name]
    flow = experiment.flow(seed=0, **SMALL[method_of(name)])
    assert tuple(flow.event_shape) == experiment.event_shape
    again = experiment.flow(seed=0, **SMALL[method_of(name)])
    for one, other in zip(flow.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", [name for name in NAMES if method_of(name) != "glow"])
def test_the_papers_own_flow_is_built(name):
    experiment = tff.experiments[name]
    flow = experiment.flow(seed=0)
    assert flow.event_shape == experiment.event_shape
    count = sum(math.prod(variable.shape) for variable in flow.trainable_variables)
    assert count > sum(
        math.prod(v.shape) for v in experiment.flow(seed=0, **SMALL[method_of(name)]).trainable_variables
    )


def test_the_papers_own_glow_is_built():
    flow = tff.experiments["glow/cifar10"].flow(seed=0)
    count = sum(math.prod(variable.shape) for variable in flow.trainable_variables)
    assert 40e6 < count < 50e6  # 44 million are known of the authors' model


# One data set of each method, the smallest, and what else is different in kind.
TRAINED = ["made/gas", "maf/power", "ffjord/power", "nsf-c/miniboone", "nsf-ar/power", "glow/cifar10"]


@pytest.mark.parametrize("name", TRAINED)
def test_two_steps_of_training_a_figure_and_a_file(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tff.FlowModel, "compile", without_xla(tff.FlowModel.compile))
    experiment = tff.experiments[name]
    x = data_of(experiment, 24)
    model = experiment.fit(x, num_steps=2, seed=0, verbose=0, **SMALL[method_of(name)])
    assert int(model.optimizer.iterations) == 2
    assert np.isfinite(model.history.history["loss"]).all() and np.isfinite(model.history.history["val_loss"]).all()
    figure = experiment.evaluate(model, x)
    assert np.isfinite(figure).all()
    model.save(tmp_path / "model.keras")
    again = experiment.evaluate(keras.models.load_model(tmp_path / "model.keras"), x)
    np.testing.assert_allclose(again, figure, rtol=1e-5)


def without_xla(compile):
    return lambda self, *args, **options: compile(self, *args, **{**options, "jit_compile": False})


def test_it_learns_as_the_paper_trains(monkeypatch):
    """Columns of which each is the one before with noise: a density far from a normal's."""
    monkeypatch.setattr(tff.FlowModel, "compile", without_xla(tff.FlowModel.compile))
    random = np.random.default_rng(0)
    x = np.cumsum(random.normal(size=(2000, 6)) * [1, 0.1, 0.1, 0.1, 0.1, 0.1], 1)
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    experiment = tff.experiments["maf/power"]
    experiment = dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, learning_rate=5e-3))
    model = experiment.fit(x[:1500], x[1500:1700], num_steps=100, seed=0, verbose=0, **SMALL["maf"])
    normal = -0.5 * np.mean(np.sum(x[1700:] ** 2 + math.log(2 * math.pi), 1))
    assert experiment.evaluate(model, x[1700:]).value > normal + 3


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_what_it_is(name):
    experiment = tff.experiments[name]
    method, data = name.split("/")
    assert experiment.name == name
    assert "arXiv" in experiment.paper and "table" in experiment.paper
    assert np.isfinite(experiment.reported.value)
    assert experiment.reported.error is None if method == "glow" else experiment.reported.error > 0
    assert experiment.unit == ("bits per dimension" if method == "glow" else "nats")
    assert experiment.data and experiment.differences.endswith(".")
    text = str(experiment)
    assert str(experiment.reported) in text and experiment.differences in text and "batch_size=" in text
    assert experiment.is_standardized == (method != "glow" and data != "bsds300")


def test_the_mapping_is_read_only_and_has_the_names():
    assert len(tff.experiments) == len(NAMES) == 36 and "nsf-ar/power" in tff.experiments
    assert tff.experiments.get("nsf-ar/gold") is None
    with pytest.raises(TypeError):
        tff.experiments["mine"] = tff.experiments["maf/gas"]
    with pytest.raises(TypeError):
        tff.experiments["maf/gas"].settings["num_layers"] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        tff.experiments["maf/gas"].name = "mine"


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(KeyError, match=r"nsf-ar/power.*Received: 'nsf/power'"):
        tff.experiments["nsf/power"]
    with pytest.raises(KeyError, match=r"made/power.*glow/lsun-church. Received: 7"):
        tff.experiments[7]


def test_wrong_data_and_settings_are_refused():
    experiment = tff.experiments["maf/power"]
    x = data_of(experiment, 40)
    with pytest.raises(ValueError, match=r"`x` of shape \[n, 6\] for 'maf/power'. Received: shape \(40, 5\)"):
        experiment.fit(x[:, :5])
    with pytest.raises(ValueError, match=r"`validation_data` of shape .* Received: shape \(6,\)"):
        experiment.fit(x, x[0])
    with pytest.raises(ValueError, match=r"`x` of shape .* Received: shape \(0, 6\)"):
        experiment.evaluate(tff.FlowModel(experiment.flow(num_layers=1)), x[:0])
    with pytest.raises(ValueError, match=r"mean 0 and standard deviation 1.*Received: column 2 with mean 7"):
        experiment.fit(x + 7 * np.eye(6)[2])
    with pytest.raises(ValueError, match="at least 10 rows.*Received: 9 rows"):
        tff.experiments["maf/bsds300"].fit(data_of(tff.experiments["maf/bsds300"], 9))
    with pytest.raises(ValueError, match=r"settings among .*num_layers.* Received: \['num_layer'\]"):
        experiment.flow(num_layer=1)
    with pytest.raises(ValueError, match="positive integer. Received: num_steps=0"):
        experiment.model(num_steps=0)


def test_the_figure_is_the_mean_and_two_standard_errors():
    experiment = tff.experiments["maf/power"]
    model = tff.FlowModel(experiment.flow(num_layers=1, hidden_units=(8,)))
    x = data_of(experiment, 100)
    log_prob = model.log_prob(x).numpy()
    figure = experiment.evaluate(model, x, batch_size=7)
    np.testing.assert_allclose(figure, (log_prob.mean(), 2 * log_prob.std() / 10), rtol=1e-5)
    assert str(Figure(1.0, 0.25)) == "1.00 ± 0.25" and str(Figure(1.0)) == "1.00"


def test_bits_per_dimension_of_a_new_glow_are_near_those_of_a_normal():
    """Images of uniform noise have 8 bits per dimension; a normal of their variance needs 8.25."""
    experiment = tff.experiments["glow/cifar10"]
    x = data_of(experiment, 16)
    model = tff.FlowModel(experiment.flow(seed=0, **SMALL["glow"]))
    model.adapt(x)
    assert 8 < experiment.evaluate(model, x).value < 8.4


def test_a_continuous_flow_is_judged_by_its_exact_trace():
    experiment = tff.experiments["ffjord/power"]
    model = tff.FlowModel(experiment.flow(seed=0, **SMALL["ffjord"]))
    for variable in model.trainable_variables:
        variable.assign_add(tf.random.stateless_normal(variable.shape, [0, 1], stddev=0.2))
    x = data_of(experiment, 50)
    exact = tff.FlowModel(tff.flows.with_solver(model.distribution, trace="exact")).log_prob(x).numpy().mean()
    np.testing.assert_allclose(experiment.evaluate(model, x).value, exact, rtol=1e-4)
    assert abs(model.log_prob(x).numpy().mean() - exact) > 1e-3


def test_schedules():
    steps = 100
    rates = {}
    for schedule in ("constant", "cosine", "warm-up", "plateau"):
        training = Training(10, 1e-2, schedule, num_steps=steps, warm_up_steps=50)
        optimizer = training.make_optimizer()
        optimizer.build([keras.Variable(0.0)])
        found = []
        for step in (0, 25, 50, 100):
            optimizer.iterations.assign(step)
            found.append(float(optimizer.learning_rate))
        rates[schedule] = found
    np.testing.assert_allclose(rates["constant"], 1e-2)
    np.testing.assert_allclose(rates["cosine"], [1e-2, 1e-2 * (1 + math.cos(math.pi / 4)) / 2, 5e-3, 0], atol=1e-8)
    np.testing.assert_allclose(rates["warm-up"], [0, 5e-3, 1e-2, 1e-2], atol=1e-8)
    kinds = [type(callback).__name__ for callback in Training(10, 1e-2, "plateau", patience=30).make_callbacks()]
    assert kinds == ["EarlyStopping", "ReduceLROnPlateau"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"schedule": "steep", "num_steps": 1}, "schedule='steep'"),
        ({"optimizer": "sgd", "num_steps": 1}, "optimizer='sgd'"),
        ({}, "to end the training"),
        ({"schedule": "cosine", "patience": 3}, "to end the training"),
    ],
)
def test_bad_trainings_are_refused(options, message):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        Training(10, 1e-3, **options)


def test_an_experiment_of_your_own():
    experiment = tff.experiments["nsf-c/power"]
    mine = dataclasses.replace(experiment, name="mine", event_shape=(3,), num_rows=None)
    assert isinstance(mine, Experiment)
    assert mine.flow(num_layers=1, hidden_units=(8,)).event_shape == [3]
