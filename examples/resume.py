"""Training that may be killed at any moment: it resumes, and ends with the weights of an uninterrupted run.

python examples/resume.py --kill-at-epoch 3   # dies in the middle of the fourth epoch, as if the power had failed
python examples/resume.py                     # continues with the fourth epoch
python examples/resume.py --backup other      # uninterrupted: the same loss, the same weights

A backup holds the weights, the random state of layers such as Dropout, the optimizer's moments, count of steps and
learning rate. It does not hold the state of callbacks, such as the patience that `EarlyStopping` has left. List
callbacks that change the learning rate before `BackupAndRestore`, so that it saves the new one.
"""

import argparse
import hashlib
import os
import pathlib
import signal

import keras
import tensorflow as tf

import tfp_flows as tff


class Kill(keras.callbacks.Callback):
    """Kills the process in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.fatal = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backup", type=pathlib.Path, default="backup", help="folder of the backup")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the data")
    parser.add_argument("--kill-at-epoch", type=int, help="the epoch, counted from 0, in which to die")
    arguments = parser.parse_args()

    # Two runs with one seed have the same losses, bit for bit, on one machine; `FlowModel` then does not use XLA.
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    x = tff.datasets.two_moons(8192, seed=0)
    model = tff.FlowModel(tff.flows.realnvp(event_size=2, num_layers=4, seed=0))
    model.compile()  # makes the optimizer, whose count of steps is needed before `fit`
    model.fit(
        # Keras's own order of an array starts again in each run. This order is a function of the epoch, which follows
        # from the optimizer's count of steps; the backup restores that count.
        tff.datasets.shuffled(x, step=model.optimizer.iterations, seed=0),
        epochs=arguments.epochs,
        verbose=2,
        callbacks=[
            # Killed while writing the backup, it leaves an unreadable file: hence a second, older one.
            keras.callbacks.BackupAndRestore(arguments.backup, double_checkpoint=True),
            Kill(arguments.kill_at_epoch),
        ],
    )
    weights = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in model.weights)).hexdigest()
    print(f"negative log-likelihood: {model.evaluate(x, verbose=0):.7f} nats, checksum of the weights: {weights[:16]}")


if __name__ == "__main__":
    main()
