"""Data larger than memory: a flow trains on streamed shards, and its memory does not grow.

python examples/larger_than_memory.py --folder shards --gigabytes 10

The shards are TFRecord files, which TensorFlow reads without Python, several at once, and distributes to the workers of
a `tf.distribute` strategy. Tables in Parquet, which Python would read in one thread, become such shards by

write(folder, (rows.to_pandas().to_numpy("float32") for rows in pyarrow.dataset.dataset("tables").to_batches()))
"""

import argparse
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff

COLUMNS = 32
ROWS_OF_RECORD = 256
RECORDS_OF_SHARD = 2048  # 67 MB


def synthetic(gigabytes):
    """Correlated columns with heavy tails, a record at a time."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=[COLUMNS, COLUMNS]) / np.sqrt(COLUMNS)
    for _ in range(round(gigabytes * 1e9 / (4 * COLUMNS * ROWS_OF_RECORD))):
        yield np.float32(rng.standard_t(df=5, size=[ROWS_OF_RECORD, COLUMNS]) @ mixing)


def write(folder, arrays):
    """Writes arrays `[n, D]` of float32, each as one record; returns the number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    total, writer = 0, None
    for count, rows in enumerate(arrays):
        if count % RECORDS_OF_SHARD == 0:
            if writer:
                writer.close()
            writer = tf.io.TFRecordWriter(str(folder / f"{count // RECORDS_OF_SHARD:05d}.tfrecord"))
        writer.write(rows.tobytes())
        total += len(rows)
    writer.close()
    return total


def stream(folder, batch_size):
    """Batches of records from different shards, shuffled within a buffer."""
    shards = tf.data.Dataset.list_files(str(folder / "*.tfrecord"), seed=0)
    records = shards.interleave(tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=tf.data.AUTOTUNE)
    rows = records.shuffle(1024, seed=0).map(
        lambda record: tf.reshape(tf.io.decode_raw(record, "float32"), [-1, COLUMNS])
    )
    return rows.rebatch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def resident_megabytes():
    """The resident memory of this process, from Linux."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Memory(keras.callbacks.Callback):
    """Prints the memory after every tenth of an epoch."""

    def __init__(self, batch_size):
        super().__init__()
        self.bytes = 4 * COLUMNS * batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.tenth = 0

    def on_train_batch_end(self, batch, logs=None):
        tenth = 10 * (batch + 1) // self.params["steps"]
        if tenth > self.tenth:
            self.tenth = tenth
            print(
                f"{(batch + 1) * self.bytes / 1e9:7.3f} GB streamed, {resident_megabytes():6.0f} MB resident, "
                f"loss {logs['loss']:.3f} nats"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default="shards", help="folder of the shards")
    parser.add_argument("--gigabytes", type=float, default=0.3, help="size of the data that are made")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the data")
    parser.add_argument("--batch-size", type=int, default=2048, help="rows of a batch")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    rows = write(arguments.folder, synthetic(arguments.gigabytes))
    # Otherwise Keras learns the number of batches only after the first epoch.
    batches = tf.data.experimental.assert_cardinality(rows // arguments.batch_size)
    data = stream(arguments.folder, arguments.batch_size).apply(batches)

    model = tff.FlowModel(tff.flows.realnvp(COLUMNS, num_layers=2, seed=0))
    model.fit(data, epochs=arguments.epochs, verbose=0, callbacks=[Memory(arguments.batch_size)])


if __name__ == "__main__":
    main()
