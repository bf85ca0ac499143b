"""Batches of arrays in a shuffling order that resumed training reproduces."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tfp_flows._arguments import check_positive_integers
from tfp_flows._types import Structure


def shuffled(
    arrays: Structure | tuple[Structure, ...],
    step: keras.optimizers.Optimizer | tf.Variable | keras.Variable,
    batch_size: int = 256,
    seed: int = 0,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """A `tf.data.Dataset` of one epoch, shuffled in an order that depends on the seed and the epoch's number alone.

    Keras's own order comes from a generator that no backup holds: a run resumed by `keras.callbacks.BackupAndRestore`
    starts again with the order of the first epoch. Here the epoch is computed from `step`, which a backup restores if
    it is the optimizer's; the weights then end as those of an uninterrupted run. All workers of a `tf.distribute`
    strategy have the same order, as they must, since each takes its share of every batch.

    Arguments:
      arrays: x `[n, ...]`, or a tuple (context, x) or (context, x, weight), where a context may be a dictionary.
      step: what counts the batches trained on: an optimizer, `model.optimizer`, or an integer variable, such as its
        `iterations`. It is read when an epoch starts.
      batch_size: the number of rows of a batch, over all replicas.
      seed: an integer.
      drop_remainder: whether to drop a last, smaller batch, as is right with several replicas.

    Raises: ValueError for a `batch_size` that is no positive integer, for arrays of different lengths, and for arrays
      with fewer rows than make one batch; TypeError for a `step` that cannot change, as a tensor cannot.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> step = tf.Variable(0)
    >>> data = tff.datasets.shuffled(tf.range(6), step, batch_size=3)
    >>> first = [batch.numpy().tolist() for batch in data]
    >>> _ = step.assign(2)  # an epoch has two batches
    >>> first == [batch.numpy().tolist() for batch in data]
    False
    """
    check_positive_integers(batch_size=batch_size)
    step = _counter(step)
    arrays = tf.nest.map_structure(tf.convert_to_tensor, arrays)
    lengths = {len(array) for array in tf.nest.flatten(arrays)}
    rows = min(lengths)
    steps = rows // batch_size if drop_remainder else math.ceil(rows / batch_size)
    if len(lengths) > 1 or steps == 0:
        raise ValueError(f"Expected arrays of one length, at least one batch. Received: lengths {sorted(lengths)}")

    def batches_of_rows(_):
        epoch = tf.cast(tf.convert_to_tensor(step), tf.int64) // steps
        order = tf.random.experimental.stateless_shuffle(tf.range(rows), seed=tf.stack([seed, epoch]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder)

    # TensorFlow calls the function when an iterator is made, which Keras does once per epoch.
    batches = tf.data.Dataset.from_tensors(0).flat_map(batches_of_rows)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    taken = batches.map(lambda rows: tf.nest.map_structure(lambda array: tf.gather(array, rows), arrays))
    return taken.prefetch(tf.data.AUTOTUNE)


def _counter(step):
    """The variable that counts batches: an optimizer's own, or `step` itself."""
    optimizer = getattr(step, "inner_optimizer", step)  # of a `keras.optimizers.LossScaleOptimizer`
    step = optimizer._iterations if isinstance(optimizer, keras.optimizers.Optimizer) else step
    if not isinstance(step, (tf.Variable, keras.Variable)):
        raise TypeError(
            "Expected `step` to be an optimizer or an integer variable. A tensor would give every epoch the same "
            "order, and with `gradient_accumulation_steps` an optimizer's `iterations` are one: pass `model.optimizer` "
            f"itself. Received: step={step!r}"
        )
    return step
