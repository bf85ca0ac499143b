"""The steps of training and evaluation, with bounded gradients and, if a callback brings one, a guard."""

import contextlib

import keras
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

# Gradients above it are scaled down to it before any optimizer squares them; a sum of squares then fits float32.
LARGEST_GRADIENT = 1e14


def train_step(model, inputs, target, weight, fields):
    """One step of an optimizer, as Keras takes it, with gradients bounded and a guard if the model has one."""
    optimizer, guard = model.optimizer, model.guard
    weights = model.trainable_weights
    before = guard.before_step() if guard else None
    with tf.GradientTape() as tape:
        log_prob = model.training_log_prob(inputs, fields)
        loss = model.compute_loss(inputs, target, log_prob, weight, training=True)
        scaled_loss = optimizer.scale_loss(loss)
    # What is bounded is the gradient of the loss, whatever factor the optimizer puts before it.
    scale = tf.cast(optimizer.scale_loss(tf.ones([], loss.dtype)), tf.float64)
    gradients = bounded(tape.gradient(scaled_loss, weights), LARGEST_GRADIENT * scale)
    sound = guard.after_gradient(inputs, log_prob, loss, gradients) if guard else True
    if weights:
        if guard:
            gradients = guard.gradients(gradients, sound)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
    if guard:
        guard.after_step(before, sound)
    return _logs(model, inputs, target, weight, log_prob, loss, sound, training=True)


def test_step(model, inputs, target, weight):
    """The loss and the metrics of a batch, both of exact log-densities whatever the objective."""
    log_prob = model(inputs, training=False)
    loss = model.compute_loss(inputs, target, log_prob, weight, training=False)
    if model.guard:
        model.guard.after_evaluation(inputs, log_prob, loss)
    return _logs(model, inputs, target, weight, log_prob, loss, True, training=False)


def _logs(model, inputs, target, weight, log_prob, loss, sound, training):
    # Keras divides the loss by the number of replicas, for the sum of their gradients. A failed step does not count.
    replicas = model.distribute_strategy.num_replicas_in_sync
    rows = tf.where(sound, tf.shape(log_prob)[0], 0)
    model._loss_tracker.update_state(tf.where(sound, loss * replicas, tf.zeros_like(loss)), sample_weight=rows)
    if training and not getattr(model.objective, "is_likelihood", False):
        return {"loss": model._loss_tracker.result()}  # metrics are of log-densities, which this step has not
    return model.compute_metrics(inputs, target, log_prob, sample_weight=weight)


def bounded(gradients, limit=LARGEST_GRADIENT):
    """The gradients, all scaled by one factor so that no entry exceeds `limit`; NaN stays NaN.

    Keras clips by the global norm g → g c / |g|, and the optimizers average g²: both overflow float32 at 1e19.
    """
    present = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
    if not present:
        return gradients
    largest = tf.reduce_max([tf.cast(tf.reduce_max(tf.abs(gradient)), tf.float64) for gradient in present])
    # No factor helps against infinity: it stays, for the guard to see.
    is_large = (largest > limit) & tf.math.is_finite(largest)
    factor = tf.where(is_large, limit / tf.where(is_large, largest, 1.0), 1.0)
    return [
        None if gradient is None else tf.convert_to_tensor(gradient) * tf.cast(factor, gradient.dtype)
        for gradient in gradients
    ]


def prefers_jit(distribution):
    """Whether training runs under XLA unless `compile` says otherwise."""
    if tf.distribute.has_strategy() or is_op_determinism_enabled():
        return False
    prefers_graph = any(getattr(part, "prefers_graph_on_cpu", False) for part in distribution.submodules)
    return not prefers_graph or bool(tf.config.list_physical_devices("GPU"))


def acts_on_batches(callbacks):
    """Whether a callback acts on every batch, so that each must be an execution of its own."""
    return any(_acts_on_batches(callback) for callback in as_list(callbacks))


_BATCH_METHODS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def _acts_on_batches(callback):
    if getattr(callback, "acts_on_executions", False):  # ours, which check inside the compiled step
        return False
    # ModelCheckpoint, BackupAndRestore and TensorBoard have methods for batches, which by default do nothing.
    if "epoch" in (getattr(callback, "save_freq", None), getattr(callback, "update_freq", None)):
        return False
    kind, idle = type(callback), keras.callbacks.Callback
    return any(name in vars(callback) or getattr(kind, name) is not getattr(idle, name) for name in _BATCH_METHODS)


@contextlib.contextmanager
def guarded(model, guard, steps_per_execution):
    """Has `fit` run with a guard in its steps, and this number of batches per call of the compiled function."""
    _use(model, guard, steps_per_execution)
    try:
        yield
    finally:
        _use(model, None, model.steps_per_execution)


def _use(model, guard, steps_per_execution):
    """Takes the compiled functions made for this guard and number of steps, or has Keras make new ones."""
    functions = model.train_function, model.test_function
    model._step_functions[model.guard, model.steps_per_execution] = functions
    model.guard, model.steps_per_execution = guard, steps_per_execution
    functions = model._step_functions.get((guard, steps_per_execution), (None, None))
    model.train_function, model.test_function = functions


def guard_of(model, callbacks):
    """The guard that a callback brings into the steps of a model, as `FlowDoctor` does; None without one."""
    guards = [callback.guard(model) for callback in as_list(callbacks) if hasattr(callback, "guard")]
    return guards[0] if guards else None


def as_list(callbacks):
    """Callbacks in any of the forms that Keras takes, as a list."""
    callbacks = getattr(callbacks, "callbacks", callbacks)  # of a `keras.callbacks.CallbackList`
    return [] if callbacks is None else tf.nest.flatten(callbacks)
