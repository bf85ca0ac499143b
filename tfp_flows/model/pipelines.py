"""Batches for training and evaluation from any data source, in shapes that one compiled program serves."""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import draw_seed
from tfp_flows.model.arrays import is_array


def training_batches(parts, batch_size, shuffle=True):
    """A `tf.data.Dataset` of one epoch of arrays, in a new order every epoch, in batches of one size.

    The n rows are split as evenly as possible into ⌈n / batch_size⌉ batches. What the last one lacks, less than one row
    per batch, is filled with rows of the first: for a smaller batch XLA would compile another program. Rows are
    gathered by index, so that an epoch needs no copy of the data.
    """
    rows = len(tf.nest.flatten(parts)[0])
    steps = math.ceil(rows / batch_size)
    size = math.ceil(rows / steps)
    parts = tf.nest.map_structure(tf.constant, parts)
    seed = draw_seed() if shuffle else 0
    with tf.device("CPU"):
        epoch = tf.Variable(0, trainable=False, dtype=tf.int32)

    @tf.autograph.experimental.do_not_convert  # which takes as long as a few steps
    def batches_of_rows(_):
        order = tf.range(rows)
        if shuffle:
            # TensorFlow calls this whenever an iterator is made, which Keras does for every epoch.
            order = tf.random.experimental.stateless_shuffle(order, [seed, epoch.assign_add(1)])
        order = tf.concat([order, order[: steps * size - rows]], 0)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, [steps, size]))

    @tf.autograph.experimental.do_not_convert
    def gathered(order):
        return tf.nest.map_structure(lambda part: tf.gather(part, order), parts)

    batches = tf.data.Dataset.from_tensors(0).flat_map(batches_of_rows)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    batches = batches.map(gathered)
    return batches.prefetch(tf.data.AUTOTUNE)


def filled(dataset):
    """A pipeline in which a smaller batch is filled by repeating its rows, to the size of those before it.

    So XLA does not compile another program for a last, smaller batch.
    """
    if all(spec.shape.rank and spec.shape[0] is not None for spec in tf.nest.flatten(dataset.element_spec)):
        return dataset

    def fill(size, batch):
        rows = tf.shape(tf.nest.flatten(batch)[0])[0]
        size = tf.maximum(size, rows)

        def repeated():
            return tf.nest.map_structure(lambda part: tf.gather(part, tf.range(size) % rows), batch)

        return size, tf.cond((rows == size) | (rows == 0), lambda: batch, repeated)

    return dataset.scan(0, fill)


def rows_of(spec, x, y=None, weight=None, context=None):
    """(context, x, weight) of arrays, checked; None for a pipeline."""
    if x is not None and not is_array(x):
        if y is not None or weight is not None or context is not None:
            raise ValueError(
                "Expected contexts and weights to come from the pipeline itself: (context, x, sample_weight). "
                "Received: further arguments beside it"
            )
        return None
    return spec.arrays(*spec.named(x, y, weight, context))


def split(rows, fraction):
    """Rows for training and, from the end as in Keras, rows for validation."""
    count = len(tf.nest.flatten(rows[1])[0])
    first = math.floor(count * (1.0 - fraction))
    if not 0 < first < count:
        raise ValueError(
            f"Expected `validation_split` to leave rows on both sides. Received: {fraction} of {count} rows"
        )
    return tuple(
        tf.nest.map_structure(lambda part, side=side: None if part is None else part[side], rows)
        for side in (slice(0, first), slice(first, None))
    )


def evaluation_data(spec, data, batch_size, y=None, weight=None, context=None):
    """A pipeline for evaluation from arrays or from a pipeline."""
    rows = rows_of(spec, data, y, weight, context)
    if rows is None:
        return converted(spec, data)
    return tf.data.Dataset.from_tensor_slices(spec.batch(*rows)).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def converted(spec, data, finite=True):
    """A pipeline whose batches have the dtypes and shapes of the model, checked as far as they are known now.

    Non-finite numbers raise an error when they are read, unless `finite` is False.
    """

    def convert(*batch):
        parts = spec.tensors(*spec.unpack(batch[0] if len(batch) == 1 else batch))
        return spec.batch(*(_asserted_finite(*parts) if finite else parts))

    if isinstance(data, tf.data.Dataset):
        # Autograph would wrap our errors in its own.
        return data.map(tf.autograph.experimental.do_not_convert(convert), num_parallel_calls=tf.data.AUTOTUNE)
    if isinstance(data, keras.utils.PyDataset):
        return _Converted(data, convert)
    if isinstance(data, tf.distribute.DistributedDataset):  # whose batches are converted in the step
        return data
    if not hasattr(data, "__next__"):
        raise TypeError(
            "Expected arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator. "
            f"Received: {type(data).__name__}"
        )
    return (convert(batch) for batch in data)  # Keras knows generators and no other iterators


def _asserted_finite(context, x, weight=None):
    """The parts of a batch in a pipeline, with an assertion that their numbers are finite.

    A batch fails where it is read: `tf.errors.InvalidArgumentError`.
    """

    def checked(what):
        def check(leaf):
            if not leaf.dtype.is_floating:
                return leaf
            return tf.debugging.check_numerics(leaf, f"Expected finite {what} in every batch. Received:")

        return check

    named = ((context, "contexts"), (x, "data"), (weight, "sample weights"))
    return tuple(None if part is None else tf.nest.map_structure(checked(what), part) for part, what in named)


def peek(spec, data, num_rows=10_000):
    """(context, x, weight) of about the first `num_rows` rows of a pipeline, and the pipeline with all its batches."""
    if isinstance(data, keras.utils.PyDataset):
        batches = (data[k] for k in range(len(data)))
    elif isinstance(data, tf.data.Dataset):
        batches = iter(data)
    elif hasattr(data, "__next__"):
        batches = data
    else:
        return None, data
    taken, rows = [], 0
    for batch in batches:
        taken.append(batch)
        rows += len(tf.nest.flatten(batch)[0])
        if rows >= num_rows:
            break
    parts = [spec.unpack(tf.nest.map_structure(np.asarray, batch)) for batch in taken]
    first = tf.nest.map_structure(lambda *leaves: None if leaves[0] is None else np.concatenate(leaves), *parts)
    # Non-finite rows, which a `FlowDoctor` may tolerate, have no location or scale.
    floats = [leaf for leaf in tf.nest.flatten(first) if leaf is not None and leaf.dtype.kind == "f"]
    finite = np.all([np.isfinite(leaf.reshape(len(leaf), -1)).all(1) for leaf in floats], 0)
    first = tf.nest.map_structure(lambda leaf: None if leaf is None else leaf[finite], first)
    if hasattr(data, "__next__"):
        data = (batch for batch in itertools.chain(taken, data))  # a generator, as Keras wants it
    return first if finite.any() else None, data


class _Converted(keras.utils.PyDataset):
    """A PyDataset whose batches go through a function."""

    def __init__(self, dataset, convert):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self.dataset, self.convert = dataset, convert

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        batch = self.dataset[index]
        return self.convert(*batch) if isinstance(batch, tuple) else self.convert(batch)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()
