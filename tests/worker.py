"""Training in processes of their own: under a strategy, from a backup, to a death by SIGKILL, as JSON tells them.

python tests/worker.py '{"strategy": "mirrored", "runs": {"plain": {}, "weighted": {}}}'

prints one line of JSON: what each run returned.
"""

import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff

ROWS, BATCH_SIZE = 512, 64


def two_devices():
    """A replica on each of two logical devices of this machine's CPU."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


STRATEGIES = {
    "none": tf.distribute.get_strategy,
    "mirrored": two_devices,
    "workers": tf.distribute.MultiWorkerMirroredStrategy,
}


class Kill(keras.callbacks.Callback):
    """SIGKILL, which no process can catch, to this process in the middle of an epoch; None for never."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def numbers(rows=ROWS):
    """Contexts of 3 columns, x of 2 that depend on them, and weights."""
    rng = np.random.default_rng(0)
    context = rng.normal(size=[rows, 3]).astype("float32")
    x = np.tanh(context[:, :2]) + 0.5 * rng.normal(size=[rows, 2]).astype("float32")
    return context, x, rng.uniform(0.5, 1.5, size=rows).astype("float32")


def batches(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(BATCH_SIZE)


def network():
    """An embedding with two kinds of state that no optimizer trains: moving averages and random numbers."""
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.2, seed=0), layers.Dense(3)]
    )


def small_model(strategy, context_size=0, embedding=False, jit_compile=False):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        flow = tff.flows.realnvp(2, num_layers=2, context_size=context_size, hidden_units=(16,), seed=0)
        model = tff.FlowModel(flow, embedding=network() if embedding else None)
        model.compile(
            keras.optimizers.Adam(1e-2), metrics=["bits_per_dim"], jit_compile=jit_compile, steps_per_execution=1
        )
    return model


def digest(model):
    """One number for the bits of every weight, random state and optimizer variable."""
    values = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()


def plain(strategy, rows=ROWS, path=None):
    """x alone, with validation; then every method of the model under the strategy."""
    _, x, _ = numbers(rows)
    model = small_model(strategy)
    history = model.fit(batches(x), epochs=3, validation_data=batches(x[:128]), verbose=0).history
    if path:
        model.save(path)
    return {
        **history,
        "log_prob": model.log_prob(x[:5]).numpy().tolist(),
        "sample": model.sample(3, seed=1).numpy().tolist(),
        "predict": model.predict(batches(x[:128]), verbose=0).tolist(),
        "evaluate": model.evaluate(batches(x[:128]), verbose=0),
    }


def weighted(strategy):
    """x given a context, with weights."""
    return small_model(strategy, context_size=3).fit(batches(numbers()), epochs=3, verbose=0).history


def doctored(strategy):
    """Data of which one row is not finite, under the eyes of a doctor."""
    _, x, _ = numbers()
    x[200, 1] = np.nan
    model, doctor = small_model(strategy), tff.callbacks.FlowDoctor(data=x)
    history = model.fit(batches(x), epochs=2, callbacks=[doctor], verbose=0).history
    return {"loss": history["loss"], "said": doctor.failures, "digest": digest(model)}


def resumable(strategy, folder, kill=None, chief=True, embedding=True):
    """Four epochs, from the backup in a folder on; all workers read it, the chief alone writes it."""
    model = small_model(strategy, context_size=3, embedding=embedding)
    data = tff.datasets.shuffled(numbers()[:2], model.optimizer.iterations, BATCH_SIZE)
    callbacks = [
        # Before the backup, which then has the new rate. One epoch is good, the others are bad.
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0, min_lr=1e-3),
        keras.callbacks.BackupAndRestore(folder, save_freq="epoch" if chief else sys.maxsize, delete_checkpoint=chief),
        Kill(kill),
    ]
    history = model.fit(data, epochs=4, verbose=0, callbacks=callbacks).history
    return {**history, "digest": digest(model)}


def arrays(strategy, jit_compile=False):
    """Arrays in Keras's own random order."""
    context, x, _ = numbers()
    model = small_model(strategy, context_size=3, embedding=True, jit_compile=jit_compile)
    return model.fit(context, x, batch_size=BATCH_SIZE, epochs=2, verbose=0).history


def simulated(strategy):
    """Data of a simulator, made in parallel."""
    data = tff.datasets.simulator(
        lambda seed, batch_size: tf.random.stateless_normal([batch_size, 2], seed), BATCH_SIZE, seed=0
    )
    return small_model(strategy).fit(data, epochs=2, steps_per_epoch=8, verbose=0).history


def start(strategy, runs, task=None, deterministic=False):
    """A process of this script: where there are several workers, `task` is (the workers' addresses, which it is)."""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1]), "TF_NUM_INTRAOP_THREADS": "1"}
    if task:
        addresses, index = task
        place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment["TF_CONFIG"] = json.dumps(place)
    settings = json.dumps({"strategy": strategy, "runs": runs, "deterministic": deterministic})
    return subprocess.Popen(
        [sys.executable, __file__, settings],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(process, timeout=240):
    """What a process printed, which must have gone well; it does not outlive this call."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def free_addresses(count):
    """Addresses on the loopback that no process listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def main():
    settings = json.loads(sys.argv[1])
    if settings["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    strategy = STRATEGIES[settings["strategy"]]()
    done = {name: RUNS[name.split()[0]](strategy, **arguments) for name, arguments in settings["runs"].items()}
    print(json.dumps(done), flush=True)


RUNS = {run.__name__: run for run in (plain, weighted, doctored, resumable, arrays, simulated)}

if __name__ == "__main__":
    main()
