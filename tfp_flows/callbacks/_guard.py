"""Checks inside the compiled steps of training and evaluation, for what is non-finite."""

import keras
import numpy as np
import tensorflow as tf

# How many rows of a failed batch are kept, those of the lowest density: few are responsible.
NUM_ROWS = 32


class Guard:
    """A training step whose loss or gradient is non-finite changes no weight.

    Where its data is finite, the model is at fault, and all later steps change nothing either until `reset`, so that
    weights and kept rows show what happened. A batch whose data is non-finite costs that batch alone.

    With several replicas the weights cannot be held: there the failed gradient counts as zero, while momentum and
    moving averages go on. A gradient that a `keras.optimizers.LossScaleOptimizer` has scaled may overflow: it skips
    such a step itself, and lowers the scale.

    There are no branches, for which a GPU would wait for the host. `tfp_flows.model.training` calls the methods in
    order.

    Attributes:
      failures: how many replicas have failed, a variable: 0 for a sound run.
      faults: how many of them with data that is finite, so that the model is at fault. All workers read the same.
      rows: variables with rows of the inputs of the first step that failed; None if the shape of a row is not known.
    """

    def __init__(self, model):
        self.model = model
        self._replicas = model.distribute_strategy.num_replicas_in_sync
        specs = _row_specs(model)
        with model.distribute_strategy.scope():
            self.failures, self.faults, self._batch_size = _variable(0), _variable(0), _variable(0)
            self.rows = specs and tf.nest.map_structure(
                lambda spec: _variable(tf.zeros([NUM_ROWS, *spec.shape], spec.dtype)), specs
            )

    def before_step(self):
        """All weights, of the optimizer too, and those that change in the forward pass, as moving averages do."""
        return [tf.identity(variable.value) for variable in self._variables()] if self._replicas == 1 else None

    def after_gradient(self, inputs, log_prob, loss, gradients):
        """Whether the step may count: it is finite, and the model has not been at fault before."""
        numbers = [loss]
        if not isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            numbers += [gradient for gradient in gradients if gradient is not None]
        return self._watch(tf.math.is_finite(tf.linalg.global_norm(numbers)), inputs, log_prob)

    def gradients(self, gradients, sound):
        """The gradients to apply: zero for a failed step where the weights cannot be held."""
        if self._replicas == 1:
            return gradients
        return [None if g is None else tf.where(sound, g, tf.zeros_like(g)) for g in gradients]

    def after_step(self, before, sound):
        """Brings the weights back as they were before a failed step."""
        if before is None:
            return
        # Where the model is at fault the step still counts, so that another order of `tff.datasets.shuffled` follows.
        counted, count = sound | (self.faults > 0), inner(self.model.optimizer)._iterations
        for variable, value in zip(self._variables(), before, strict=True):
            variable.value.assign(tf.where(counted if variable is count else sound, variable.value, value))

    def after_evaluation(self, inputs, log_prob, loss):
        self._watch(tf.math.is_finite(loss), inputs, log_prob)

    def _variables(self):
        return [*self.model.weights, *self.model.optimizer.variables]

    def reset(self):
        self.failures.assign(0)
        self.faults.assign(0)

    def failed_rows(self):
        """The kept rows, without repetitions, in the structure of the inputs; None where there are none to see."""
        results = self.model.distribute_strategy.experimental_local_results
        local = [k for k, failures in enumerate(results(self.failures)) if failures.numpy()]
        if self.rows is None or not local:  # another worker has them
            return None
        count = min(NUM_ROWS, int(results(self._batch_size)[local[0]].numpy()))
        return tf.nest.map_structure(lambda rows: results(rows)[local[0]].numpy()[:count], self.rows)

    def _watch(self, is_finite, inputs, log_prob):
        """Counts a failure and keeps the rows of the first; returns whether the step may count."""
        no_fault = tf.equal(self.faults, 0)
        first = tf.equal(self.failures, 0) & ~is_finite
        count = tf.shape(log_prob)[0]
        floats = [tf.reshape(leaf, [count, -1]) for leaf in tf.nest.flatten(inputs) if leaf.dtype.is_floating]
        is_good = tf.reduce_all([tf.reduce_all(tf.math.is_finite(leaf), 1) for leaf in floats], 0)
        if self.rows is not None:
            # Non-finite rows first: a layer such as BatchNormalization spreads them over the batch.
            densities = tf.where(tf.math.is_finite(log_prob), log_prob, log_prob.dtype.min)
            kept = tf.minimum(NUM_ROWS, count)
            lowest = tf.math.top_k(-tf.where(is_good, densities, -np.inf), kept).indices
            lowest = tf.gather(lowest, tf.range(NUM_ROWS) % kept)  # a small batch repeats its rows
            for rows, batch in zip(tf.nest.flatten(self.rows), tf.nest.flatten(inputs), strict=True):
                rows.assign(tf.where(first, tf.cast(tf.gather(batch, lowest), rows.dtype), rows))
            self._batch_size.assign(tf.where(first, count, self._batch_size))
        self.faults.assign(tf.where(no_fault & ~is_finite & tf.reduce_all(is_good), 1, self.faults))
        self.failures.assign(tf.where(is_finite, self.failures, 1))
        return no_fault & is_finite


def inner(optimizer):
    """The optimizer inside a `keras.optimizers.LossScaleOptimizer`, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _variable(value):
    """A variable of which each replica has its own copy; read from outside, it is their sum."""
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _row_specs(model):
    """The shape and dtype of one row of the model's inputs, in their structure; None where a size is open."""
    spec = model.data_spec
    specs = tf.nest.map_structure(lambda dtype, shape: tf.TensorSpec(shape, dtype), spec.event_dtype, spec.event_shape)
    if model.is_conditional:
        context = tf.nest.map_structure(lambda shape: tf.TensorSpec(shape, model.precision), model.context_shape)
        specs = (context, specs)
    return specs if all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(specs)) else None
