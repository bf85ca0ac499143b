"""FlowDoctor, BijectivityMonitor, FlowPictures, TimeBudget."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.callbacks import BijectivityMonitor, FlowDoctor, FlowPictures, diagnose
from tfp_flows.model import training

X = tff.datasets.two_moons(512, seed=0)
FAR = X.max() + 0.5  # a value that no row of X has


class Broken(tff.bijectors.RealNVP):
    """A RealNVP that spoils one thing for events with a first coordinate above `FAR`."""

    def __init__(self, spoil, value=np.nan):
        super().__init__(2, hidden_units=(4,), seed=0, name="broken")
        self.spoil, self.value = spoil, value

    def _cached_inverse(self, x, context=None):
        spoilt = x[..., :1] > FAR
        z, attributes = super()._cached_inverse(x, context)
        if self.spoil == "values":
            z = tf.where(spoilt, self.value, z)
        elif self.spoil == "log-determinant":
            attributes = {name: tf.where(spoilt[..., 0], self.value, kept) for name, kept in attributes.items()}
        elif self.spoil == "gradient":
            z = tf.where(spoilt, _nan_gradient(z), z)
        return z, attributes


@tf.custom_gradient
def _nan_gradient(z):
    return z, lambda gradient: tf.where(gradient == 0, gradient, np.nan)


def model_of(*bijectors, **compile_arguments):
    flow = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), tfb.Chain(bijectors))
    model = tff.FlowModel(flow)
    model.compile(**{"jit_compile": False, **compile_arguments})
    return model


def sound(seed):
    return tff.bijectors.RealNVP(2, hidden_units=(4,), seed=seed, name=f"sound_{seed}")


def with_far_row(row, value=None):
    x = X.copy()
    x[row] = [FAR + 1.0 if value is None else value, 0.25]
    return x


def state(model):
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]


class Record(keras.callbacks.Callback):
    """Keeps the weights at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append(state(self.model))


# diagnose


def test_diagnose_finds_nothing_in_a_sound_flow():
    model = model_of(sound(1), tfb.Permute([1, 0]), sound(2))
    assert diagnose(model, X) is None
    assert diagnose(model.distribution, with_far_row(3)) is None


@pytest.mark.parametrize("spoil", ["values", "log-determinant"])
def test_diagnose_names_the_bijector_and_the_rows(spoil):
    finding = diagnose(model_of(sound(1), Broken(spoil), sound(2)), with_far_row(7))
    assert finding.what == spoil
    assert finding.place == "bijector 2 of 3 from the data, `broken` (Broken)"
    np.testing.assert_array_equal(finding.rows, [7])


def test_diagnose_follows_the_gradient():
    finding = diagnose(model_of(sound(1), Broken("gradient"), sound(2)), with_far_row(7)[:20])
    assert finding.what.startswith("gradient of the weight")
    assert "`broken`" in finding.place
    np.testing.assert_array_equal(finding.rows, [7])


def test_diagnose_in_nested_chains_and_inverted():
    inner = tfb.Chain([sound(1), tfb.Invert(tfb.Chain([tfb.Shift([1.0, 0.0]), tfb.Scale([np.inf, 1.0])]))])
    finding = diagnose(model_of(inner, sound(2)), X[:5])
    assert finding.what == "values" and "2 of 4" in finding.place and "(Scale)" in finding.place


def test_diagnose_names_data_context_embedding_and_base():
    embedding = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, context_size=2, seed=0), embedding=embedding)
    context = np.ones([512, 3], np.float32)
    assert diagnose(model, X, context) is None
    assert diagnose(model, with_far_row(4, np.nan), context).place == "the data"
    finding = diagnose(model, X, np.where(np.arange(512)[:, None] == 6, np.inf, context))
    assert finding.place == "the context" and finding.rows == [6]
    finding = diagnose(model, with_far_row(4, 1e30), context)
    assert finding.place.startswith("the base") and finding.rows == [4]
    embedding.layers[-1].bias.assign([np.nan, 0.0])
    finding = diagnose(model, X, context)
    assert finding.place == "the embedding" and finding.rows.size == 512


def test_diagnose_of_a_distribution_without_bijector():
    normal = tfd.Sample(tfd.Normal(0.0, 1.0), 2, name="plain")
    assert diagnose(normal, X) is None
    assert str(diagnose(normal, with_far_row(0, 1e30))) == "log-density of `plain`"


def test_diagnose_of_a_structure_of_tensors():
    parts = {"a": tfd.Normal(0.0, 1.0), "b": tfd.Normal(0.0, 1.0)}
    joint = tfd.JointDistributionNamed(parts, batch_ndims=0, use_vectorized_map=False)
    flow = tfd.TransformedDistribution(joint, tfb.JointMap({"a": tfb.Scale(2.0), "b": tfb.Exp()}), name="joint")
    a, b = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    assert diagnose(flow, {"a": a, "b": b}) is None
    finding = diagnose(flow, {"a": a, "b": b - 1.5})
    assert str(finding) == "log-density of `joint`" and finding.rows == [0]


# FlowDoctor


@pytest.mark.parametrize("spoil", ["values", "log-determinant", "gradient"])
def test_doctor_names_the_broken_layer_and_the_row(spoil, caplog):
    x = with_far_row(100)
    model = model_of(sound(1), Broken(spoil))
    doctor, record = FlowDoctor(data=x, max_failures=2), Record()
    start = state(model)
    with caplog.at_level(logging.WARNING):
        history = model.fit(x, epochs=2, callbacks=[doctor, record], verbose=0).history
    assert len(doctor.failures) == 2
    for said in doctor.failures:
        assert "`broken` (Broken)" in said and "(in the data: 100)" in said and f"{FAR + 1:.5g}"[:4] in said
    assert doctor.failures[0] in caplog.text
    # Both epochs failed, so the weights are those before; the learning rate is halved twice.
    for kept, first in zip(record.states[-1][: len(model.weights)], start, strict=False):
        np.testing.assert_array_equal(kept, first)
    np.testing.assert_allclose(model.optimizer.learning_rate, 1e-3 / 4)
    assert np.isfinite(history["loss"]).all()


def test_doctor_brings_back_the_last_good_epoch():
    model, doctor, record = model_of(sound(1), sound(2)), FlowDoctor(), Record()

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                model.trainable_weights[-1].assign(model.trainable_weights[-1] * np.nan)

    history = model.fit(X, epochs=4, callbacks=[Spoil(), doctor, record], verbose=0).history
    assert len(doctor.failures) == 1 and "epoch 3" in doctor.failures[0]
    rate = [str(v.path) for v in model.optimizer.variables].index(model.optimizer._learning_rate.path)
    steps = [str(v.path) for v in model.optimizer.variables].index(model.optimizer._iterations.path)
    for k, (good, healed) in enumerate(zip(record.states[1], record.states[2], strict=True)):
        # All but the learning rate and the count of steps, the optimizer's moments included.
        if k not in (len(model.weights) + rate, len(model.weights) + steps):
            np.testing.assert_array_equal(healed, good)
    assert history["loss"][3] < history["loss"][1]
    np.testing.assert_allclose(model.optimizer.learning_rate, 5e-4)


def test_a_failed_step_changes_nothing_under_xla():
    x = with_far_row(0)  # the first batch of each epoch fails
    model = model_of(sound(1), Broken("gradient"), jit_compile=True)
    before = state(model)
    data = tf.data.Dataset.from_tensor_slices(x).batch(128)
    guard = FlowDoctor().guard(model)
    with training.guarded(model, guard, steps_per_execution=2):
        keras.Model.fit(model, data, epochs=1, verbose=0)  # nobody brings anything back here
    assert guard.failures.numpy() == 1
    before[len(model.weights)] = 4  # but the optimizer's count of steps
    for now, then in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert any((row == x[0]).all() for row in guard.failed_rows())


def test_doctor_leaves_a_sound_run_as_it_is():
    losses = []
    for callbacks in ([], [FlowDoctor()]):
        model = model_of(sound(1), sound(2), metrics=["bits_per_dim"])
        history = model.fit(X[:500], epochs=2, batch_size=64, shuffle=False, validation_data=(X,), callbacks=callbacks)
        losses.append(history.history)
    assert losses[0].keys() == losses[1].keys()
    for name, values in losses[0].items():
        np.testing.assert_allclose(losses[1][name], values, rtol=1e-5)


def test_a_fit_without_doctor_is_keras_own():
    model = model_of(sound(1), Broken("log-determinant"))
    model.fit(with_far_row(0), callbacks=[FlowDoctor()], verbose=0)
    assert model.guard is None
    # Neither does a later evaluation leave anything behind that holds the weights.
    before = state(model)
    assert np.isnan(model.evaluate(with_far_row(0), verbose=0))
    assert np.isfinite(model.train_on_batch(X[1:65])) and any(map(np.any, map(np.not_equal, before, state(model))))
    history = model.fit(with_far_row(0), verbose=0).history
    assert np.isnan(history["loss"]).any()


def test_doctor_skips_rows_that_are_not_finite():
    x = with_far_row(300, np.nan)
    context = np.zeros([512, 1], np.float32)
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, context_size=1, hidden_units=(4,), seed=0))
    model.compile(jit_compile=False, metrics=["bits_per_dim"])
    doctor = FlowDoctor(data=x)
    data = tf.data.Dataset.from_tensor_slices((context, x)).batch(64)
    history = model.fit(data, epochs=2, callbacks=[doctor], verbose=0).history
    assert len(doctor.failures) == 2 and "the data" in doctor.failures[0] and "300" in doctor.failures[0]
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["bits_per_dim"]).all()
    np.testing.assert_allclose(model.optimizer.learning_rate, 1e-3)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_skipped_batch_leaves_no_trace_in_moving_averages():
    layers = keras.layers
    embedding = keras.Sequential([keras.Input((1,)), layers.BatchNormalization(), layers.Dense(1)])
    flow = tff.flows.realnvp(2, num_layers=2, context_size=1, hidden_units=(4,), seed=0)
    model = tff.FlowModel(flow, embedding=embedding)
    model.compile(jit_compile=False)
    context = np.ones([512, 1], np.float32)
    context[300] = np.nan
    doctor = FlowDoctor()
    model.fit(tf.data.Dataset.from_tensor_slices((context, X)).batch(64), callbacks=[doctor], verbose=0)
    assert len(doctor.failures) == 1 and "the context" in doctor.failures[0] and "skipped" in doctor.failures[0]
    average = next(weight for weight in model.weights if "moving_mean" in weight.path).numpy()
    assert 0 < average < 1  # on the way from 0 to 1, by the batches before the failed one


def test_doctor_gives_up_with_all_that_was_said():
    model = model_of(Broken("values"))
    with pytest.raises(RuntimeError, match=r"at most 1 failures in training. Received:(.|\n)*`broken`(.|\n)*`broken`"):
        model.fit(with_far_row(0), epochs=9, callbacks=[FlowDoctor(max_failures=1)], verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("held_out", ["cliff", "not finite", "infinite"])
def test_doctor_watches_the_held_out_loss(held_out):
    bad_epoch = 1 if held_out == "infinite" else 2
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 100, 0.5)
    model, record, doctor = model_of(sound(1), tff.bijectors.Standardize(2)), Record(), FlowDoctor()
    model.compile(keras.optimizers.Adam(schedule), jit_compile=False)

    class Fall(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            if len(record.states) + 1 == bad_epoch:  # after its training
                log_scale = next(weight for weight in model.weights if weight.path == "log_scale")
                log_scale.assign([-5.0, {"cliff": 0.0, "not finite": np.nan, "infinite": -60.0}[held_out]])

    history = model.fit(X, epochs=3, validation_data=(X,), callbacks=[Fall(), doctor, record], verbose=0).history
    assert len(doctor.failures) == 1 and doctor.failures[0].startswith(f"epoch {bad_epoch}: val_loss is ")
    assert ("`standardize" in doctor.failures[0]) == (held_out == "not finite")
    assert history["val_loss"][2] <= history["val_loss"][0]
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.5 * schedule(model.optimizer.iterations), rtol=1e-5)
    config = keras.saving.serialize_keras_object(model.optimizer)
    assert keras.saving.deserialize_keras_object(config)._learning_rate.factor == 0.5


def test_callbacks_refuse_what_they_cannot_treat():
    with pytest.raises(ValueError, match="Received: factor=2"):
        FlowDoctor(factor=2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for callback in (FlowDoctor(), BijectivityMonitor(X), FlowPictures(X, "nowhere")):
        with pytest.raises(TypeError, match=f"`{type(callback).__name__}`.* of a FlowModel. Received: <Sequential"):
            model.fit(X, X[:, :1], callbacks=[callback], verbose=0)


# BijectivityMonitor


def test_monitor_of_a_sound_conditional_flow_in_float64():
    model = tff.FlowModel(tff.flows.maf(2, num_layers=2, hidden_units=(8,), context_size=1, dtype=tf.float64, seed=0))
    model.compile(jit_compile=False)
    context, x = np.ones([64, 1]), X[:64].astype(np.float64)
    history = model.fit(context, x, epochs=2, callbacks=[BijectivityMonitor(x[:8], context[:8])], verbose=0).history
    assert 0 < max(history["round_trip_error"]) < 1e-10
    assert max(history["log_det_error"]) < 1e-10 and len(history["log_det_error"]) == 2


class WrongLogDet(tff.bijectors.RealNVP):
    def _cached_inverse(self, x, context=None):
        z, attributes = super()._cached_inverse(x, context)
        return z, {name: value + 0.5 for name, value in attributes.items()}

    def _inverse_log_det_jacobian(self, x, context=None):
        return super()._inverse_log_det_jacobian(x, context) + 0.5


class WrongInverse(tff.bijectors.RealNVP):
    def _cached_forward(self, z, context=None):
        x, attributes = super()._cached_forward(z, context)
        return x + 0.5, attributes


@pytest.mark.parametrize("kind, name", [(WrongLogDet, "log_det_error"), (WrongInverse, "round_trip_error")])
def test_monitor_sees_what_is_wrong_and_others_can_watch_it(kind, name):
    model = model_of(sound(1), kind(2, hidden_units=(4,), seed=2))
    seen = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs[name]))
    history = model.fit(X, callbacks=[BijectivityMonitor(X[:8]), later], verbose=0).history
    other = {"log_det_error": "round_trip_error", "round_trip_error": "log_det_error"}[name]
    assert history[name][0] > 0.1 and history[other][0] < 1e-5
    assert seen == history[name]


# FlowPictures


def test_pictures_are_written_for_people_and_for_tensorboard(tmp_path):
    pytest.importorskip("corner")
    model = model_of(sound(1), sound(2), optimizer=keras.optimizers.Adam(0.05))
    pictures = FlowPictures(X, tmp_path / "new", every=2, labels=["a", "b"])
    model.fit(X, epochs=4, callbacks=[pictures], verbose=0)
    names = sorted(path.name for path in (tmp_path / "new").glob("*.png"))
    assert names == ["epoch_0002.png", "epoch_0004.png"]
    first, second = (tf.io.decode_png(tf.io.read_file(str(tmp_path / "new" / name))).numpy() for name in names)
    assert first.std() > 10 and (first != second).any()
    (events,) = (tmp_path / "new").glob("events*")
    steps = [
        event.step
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
        if value.tag == "samples over data"
    ]
    assert steps == [2, 4]


def test_pictures_of_a_conditional_flow(tmp_path):
    pytest.importorskip("corner")
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, hidden_units=(4,), context_size=1, seed=0))
    model.compile(jit_compile=False)
    context = np.zeros([512, 1], np.float32)
    model.fit(context, X, callbacks=[FlowPictures(X, tmp_path, context)], verbose=0)
    assert (tmp_path / "epoch_0001.png").stat().st_size > 1000


def test_pictures_refuse_what_is_no_table(tmp_path):
    with pytest.raises(ValueError, match=r"Received: shape \(512, 1\)"):
        FlowPictures(X[:, :1], tmp_path)
    with pytest.raises(ValueError, match="Received: "):
        FlowPictures(X, tmp_path, every=0)


# TimeBudget


def test_the_rate_falls_by_half_a_cosine_until_the_time_is_over():
    seconds = iter(range(100))  # one passes between any two looks at the clock
    rates = []
    model = model_of(sound(0), optimizer=keras.optimizers.SGD(0.25))
    model.fit(
        X,
        epochs=50,
        verbose=0,
        callbacks=[
            tff.callbacks.TimeBudget(5, clock=lambda: next(seconds)),
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda *_: rates.append(float(model.optimizer.learning_rate))
            ),
        ],
    )
    # The clock starts where the first call ends; later epochs begin after 2, 4 and, the time being over, 6 seconds.
    expected = 0.125 * (1 + np.cos(np.pi * np.array([0, 2, 4, 5]) / 5))
    np.testing.assert_allclose(rates, expected, atol=1e-7)
    with pytest.raises(ValueError, match="positive time. Received: seconds=0"):
        tff.callbacks.TimeBudget(0)


def test_the_time_budget_leaves_several_batches_in_one_call():
    model, steps = model_of(sound(0)), []
    watcher = keras.callbacks.LambdaCallback(on_train_begin=lambda *_: steps.append(model.steps_per_execution))
    budget = tff.callbacks.TimeBudget(1e-9)
    model.fit(X, batch_size=64, epochs=9, verbose=0, callbacks=[budget, watcher])
    assert steps == [16] and model.optimizer.iterations == 8
