"""Training and evaluation steps that watch for what is not finite, inside the compiled function."""

import numpy as np
import tensorflow as tf

# So many rows of a failed batch are kept, those of the lowest density; a batch that fails has few guilty ones.
NUM_ROWS = 32


class Guard:
    """Keras's steps, but a training step whose loss or gradient is not finite changes no weight.

    After such a step all later ones change none either until `reset`, so that weights and kept rows show what happened.
    With several replicas the weights cannot be held: there the failed gradient counts as zero, while momentum and
    moving averages go on.

    All is done without branches, which would have a GPU wait for the host.

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

    def train_step(self, data):
        inputs, target, weight = data
        model, optimizer = self.model, self.model.optimizer
        weights = model.trainable_weights
        # All weights, for moving averages change in the forward pass.
        variables = [variable.value for variable in (*model.weights, *optimizer.variables)]
        before = [tf.identity(variable) for variable in variables] if self._replicas == 1 else None
        with tf.GradientTape() as tape:
            log_prob = model(inputs, training=True)
            loss = model.compute_loss(inputs, target, log_prob, weight, training=True)
            scaled_loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, weights)
        # A norm whose square overflows counts: the optimizers square the gradient too.
        size = tf.linalg.global_norm([scaled_loss, *(g for g in gradients if g is not None)])
        sound = self._watch(tf.math.is_finite(size), inputs, log_prob)
        if before is None:
            gradients = [None if g is None else tf.where(sound, g, tf.zeros_like(g)) for g in gradients]
            optimizer.apply_gradients(zip(gradients, weights, strict=True))
        else:
            optimizer.apply_gradients(zip(gradients, weights, strict=True))
            for variable, value in zip(variables, before, strict=True):
                variable.assign(tf.where(sound, variable, value))
        return self._logs(sound, inputs, target, weight, log_prob, loss)

    def test_step(self, data):
        inputs, target, weight = data
        log_prob = self.model(inputs, training=False)
        loss = self.model.compute_loss(inputs, target, log_prob, weight, training=False)
        self._watch(tf.math.is_finite(loss), inputs, log_prob)
        return self._logs(True, inputs, target, weight, log_prob, loss)

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
        """Counts a first failure and keeps its rows; returns whether all has been sound so far."""
        before = tf.equal(self.failures, 0)
        first = before & ~is_finite
        count = tf.shape(log_prob)[0]
        floats = [tf.reshape(leaf, [count, -1]) for leaf in tf.nest.flatten(inputs) if leaf.dtype.is_floating]
        is_good = tf.reduce_all([tf.reduce_all(tf.math.is_finite(leaf), 1) for leaf in floats], 0)
        if self.rows is not None:
            # Rows that are not finite first: a layer such as BatchNormalization spreads them over the batch.
            densities = tf.where(tf.math.is_finite(log_prob), log_prob, log_prob.dtype.min)
            kept = tf.minimum(NUM_ROWS, count)
            lowest = tf.math.top_k(-tf.where(is_good, densities, -np.inf), kept).indices
            lowest = tf.gather(lowest, tf.range(NUM_ROWS) % kept)  # a small batch repeats its rows
            for rows, batch in zip(tf.nest.flatten(self.rows), tf.nest.flatten(inputs), strict=True):
                rows.assign(tf.where(first, tf.cast(tf.gather(batch, lowest), rows.dtype), rows))
            self._batch_size.assign(tf.where(first, count, self._batch_size))
        self.faults.assign(tf.where(first & tf.reduce_all(is_good), 1, self.faults))
        self.failures.assign(tf.where(before & is_finite, 0, 1))
        return before & is_finite

    def _logs(self, sound, inputs, target, weight, log_prob, loss):
        model = self.model
        # Keras divides the loss by the number of replicas, for the sum of their gradients. A failed step counts not.
        rows = tf.where(sound, tf.shape(log_prob)[0], 0)
        model._loss_tracker.update_state(tf.where(sound, loss * self._replicas, 0.0), sample_weight=rows)
        return model.compute_metrics(inputs, target, log_prob, sample_weight=weight)


def _variable(value):
    """A variable that each replica has for itself; read from outside, it is the sum."""
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _row_specs(model):
    """The shape and dtype of one row of the model's inputs, in their structure; None where a size is open."""
    distribution = model.distribution
    specs = tf.nest.map_structure(
        lambda dtype, shape: tf.TensorSpec(shape, dtype), distribution.dtype, distribution.event_shape
    )
    if model.is_conditional:
        context = tf.nest.map_structure(lambda shape: tf.TensorSpec(shape, model.precision), model.context_shape)
        specs = (context, specs)
    return specs if all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(specs)) else None
