"""FlowDoctor with the optimizers and accidents of real trainings: what it costs, brings back, and leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

X = np.random.default_rng(0).normal(size=(32, 2)).astype("float32")


@tf.custom_gradient
def _nan_gradient(z):
    return z, lambda gradient: tf.where(gradient == 0, gradient, np.nan)  # of the rows that were taken


class Spoilt(tff.bijectors.RealNVP):
    """A RealNVP whose gradient is NaN for events with a first coordinate above 50."""

    def _cached_inverse(self, x, context=None):
        z, attributes = super()._cached_inverse(x, context)
        return tf.where(x[..., :1] > 50, _nan_gradient(z), z), attributes


def model_of(optimizer, kind=tff.bijectors.RealNVP):
    bijector = kind(2, hidden_units=(4,), seed=0)
    model = tff.FlowModel(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), tfb.Chain([bijector])))
    model.compile(optimizer, run_eagerly=True, jit_compile=False, steps_per_execution=1)
    return model


def batches(x=X, size=8):
    return tf.data.Dataset.from_tensor_slices(x).batch(size)


def with_row(value, row=12):
    return np.where(np.arange(len(X))[:, None] == row, np.float32([value, 1.0]), X)


def test_a_bad_row_costs_only_its_batch():
    models = [model_of(keras.optimizers.Adam(0.01)) for _ in range(2)]
    doctor = tff.callbacks.FlowDoctor()
    history = models[0].fit(batches(with_row(np.nan)), callbacks=[doctor], verbose=0).history
    others = models[1].fit(batches(np.delete(X, slice(8, 16), 0)), verbose=0).history
    assert len(doctor.failures) == 1 and doctor.failures[0].endswith("skipped")
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # The loss is of the batches that count.
    np.testing.assert_allclose(history["loss"], others["loss"], rtol=1e-6)


def test_a_failure_of_the_model_leaves_its_batch_out_of_the_loss():
    model = model_of(keras.optimizers.SGD(0.0), Spoilt)
    doctor = tff.callbacks.FlowDoctor()
    history = model.fit(batches(with_row(99.0)), callbacks=[doctor], verbose=0).history
    assert len(doctor.failures) == 1 and "weights restored" in doctor.failures[0]
    expected = -np.mean(model.log_prob(np.delete(X, slice(8, 16), 0)))
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)


def test_two_failures_halve_the_rate_twice():
    model = model_of(keras.optimizers.Adam(0.08), Spoilt)
    doctor = tff.callbacks.FlowDoctor()
    x = with_row(99.0)
    x[28] = x[12]  # in the last batch
    model.fit(batches(x), callbacks=[doctor], verbose=0)
    assert "0.08 -> 0.04" in doctor.failures[0] and "0.04 -> 0.02" in doctor.failures[1]
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.02)


@pytest.mark.parametrize("schedule", [False, True])
def test_training_goes_on_with_a_scaled_loss(schedule):
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.5) if schedule else 0.01
    inner = keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**127)
    model = model_of(optimizer, Spoilt)
    start = model.get_weights()
    doctor = tff.callbacks.FlowDoctor()
    # The scaled gradients overflow in the first steps, which the optimizer skips, with ever smaller scales.
    model.fit(batches(10 * X, 2), callbacks=[doctor], verbose=0)
    scale = float(optimizer.dynamic_scale)
    assert doctor.failures == [] and scale < 2.0**127
    assert any(np.any(now != then) for now, then in zip(model.get_weights(), start, strict=True))

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                model.trainable_weights[0].assign(model.trainable_weights[0] * np.nan)
                optimizer.dynamic_scale.assign(scale / 2)

    history = model.fit(batches(10 * X), epochs=3, callbacks=[Spoil(), doctor], verbose=0).history
    assert len(doctor.failures) == 1 and "weights restored" in doctor.failures[0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert float(optimizer.dynamic_scale) == scale / 2  # not brought back
    expected = 0.5 * (rate(inner.iterations) if schedule else 0.01)
    np.testing.assert_allclose(inner.learning_rate, expected, rtol=1e-5)
    assert history["loss"][2] < history["loss"][0]


def test_a_doctor_of_frozen_weights():
    model = model_of("sgd", Spoilt)
    model.trainable = False
    model.compile(run_eagerly=True, jit_compile=False, steps_per_execution=1)
    before, doctor = model.get_weights(), tff.callbacks.FlowDoctor()
    history = model.fit(batches(with_row(np.nan)), callbacks=[doctor], verbose=0).history
    assert len(doctor.failures) == 1 and np.isfinite(history["loss"]).all()
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_another_order_follows_a_rollback():
    model = model_of(keras.optimizers.Adam(1e-3), Spoilt)
    data = tff.datasets.shuffled(X, model.optimizer, batch_size=8, seed=0)
    orders = []

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            orders.append(np.concatenate(list(data.as_numpy_iterator())))
            if epoch == 1:
                model.trainable_weights[0].assign(model.trainable_weights[0] * np.nan)

    doctor = tff.callbacks.FlowDoctor()
    model.fit(data, epochs=3, callbacks=[Spoil(), doctor], verbose=0)
    assert len(doctor.failures) == 1
    assert all(np.any(one != other) for one, other in [(orders[0], orders[1]), (orders[1], orders[2])])


def test_the_guard_ends_with_fit():
    model = model_of(keras.optimizers.SGD(0.1), Spoilt)
    with pytest.raises(RuntimeError, match="at most 0 failures"):
        model.fit(batches(with_row(99.0)), callbacks=[tff.callbacks.FlowDoctor(max_failures=0)], verbose=0)
    assert model.guard is None
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(X))
    assert any(np.any(now != then) for now, then in zip(model.get_weights(), before, strict=True))


# `shuffled` counts what is trained on


def test_shuffled_under_gradient_accumulation():
    model = model_of(keras.optimizers.SGD(0.0, gradient_accumulation_steps=3))
    with pytest.raises(TypeError, match="pass `model.optimizer` itself. Received: step=<tf.Tensor"):
        tff.datasets.shuffled(X, model.optimizer.iterations)
    data = tff.datasets.shuffled(X, model.optimizer, batch_size=8)
    orders = []
    for _ in range(3):
        orders.append(np.concatenate(list(data.as_numpy_iterator())))
        model.fit(data, verbose=0)
    assert all(np.any(orders[k] != orders[k + 1]) for k in range(2))
    inside = keras.optimizers.LossScaleOptimizer(model.optimizer)
    np.testing.assert_array_equal(
        *(
            np.concatenate(list(tff.datasets.shuffled(X, step, batch_size=8).as_numpy_iterator()))
            for step in (inside, model.optimizer)
        )
    )
