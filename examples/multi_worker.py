"""One flow, trained by several processes on one machine or on many.

python examples/multi_worker.py   # two workers on this machine, and the same training in one process, to compare

On a cluster the same program is started on every machine, with its place in TF_CONFIG; here on the first of two:

TF_CONFIG='{"cluster": {"worker": ["one:12345", "two:12345"]}, "task": {"type": "worker", "index": 0}}' \\
    python examples/multi_worker.py --backup /shared/backup

Slurm knows the places:

srun --nodes 2 --ntasks-per-node 1 python examples/multi_worker.py --slurm --backup /shared/backup

A worker uses all GPUs that it sees, so one worker a machine is enough. For the GPUs of one machine alone,
`tf.distribute.MirroredStrategy()` does without workers. A batch is the batch of all replicas together: with twice as
many of them, double it, or each has half the work.

If a worker dies, the others end with an error within some seconds. Start all of them again: they go on from the backup,
which stands in a folder that all of them see.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import keras
import tensorflow as tf

import tfp_flows as tff


def place_from_slurm():
    """TF_CONFIG, from what Slurm tells this process."""
    cluster = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=20_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000,  # two jobs on one machine do not meet
        # Which GPUs a worker sees is left to Slurm; the resolver wants a number all the same, even where there is none.
        gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    workers = cluster.cluster_spec().as_dict()
    kind, index = cluster.get_task_info()
    os.environ["TF_CONFIG"] = json.dumps({"cluster": workers, "task": {"type": kind, "index": index}})


def backup_of(strategy, folder):
    """All workers read one backup, and the chief alone writes it.

    With a backup each, a worker could die between the chief's writing and its own, and the next run start from two
    different epochs. No worker reads too late: the chief writes after an epoch, in which all of them took part.
    """
    cluster = strategy.cluster_resolver
    chief = cluster is None or cluster.task_id == 0
    # The others would write after so many batches: never.
    return keras.callbacks.BackupAndRestore(
        folder, save_freq="epoch" if chief else sys.maxsize, delete_checkpoint=chief, double_checkpoint=True
    )


def train(arguments):
    """The same lines for one process and for a thousand, but for the strategy's scope."""
    if arguments.slurm:
        place_from_slurm()
    # The strategy must come before the first operation of TensorFlow.
    several = "TF_CONFIG" in os.environ
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()
    keras.utils.set_random_seed(0)
    x = tff.datasets.two_moons(arguments.rows, seed=0)
    with strategy.scope():
        model = tff.FlowModel(tff.flows.realnvp(event_size=2, num_layers=4, seed=0))
        model.compile(keras.optimizers.Adam(1e-3), metrics=["bits_per_dim"])
    # Every worker shuffles alike and takes its share of each batch. Without a remainder all shares are of one size:
    # TensorFlow gives replicas the same weight, whatever the number of rows they have.
    data = tff.datasets.shuffled(x, step=model.optimizer.iterations, batch_size=256, drop_remainder=True)
    history = model.fit(
        data, epochs=arguments.epochs, callbacks=[backup_of(strategy, arguments.backup)], verbose=0
    ).history
    print(f"{strategy.num_replicas_in_sync} replicas, losses in nats: {history.get('loss', 'trained already')}")


def demonstrate(arguments):
    """Two workers and a process on its own, as one would start them by hand."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--rows", str(arguments.rows), "--epochs", str(arguments.epochs)]
        command = [sys.executable, __file__, *settings, "--backup"]
        workers = []
        for index in range(2):
            place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(place)}
            workers.append(subprocess.Popen([*command, f"{folder}/pair"], env=environment))
        codes = [worker.wait() for worker in workers]
        if any(codes):
            raise SystemExit(f"a worker failed: {codes}")
        arguments.backup = f"{folder}/alone"
        train(arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backup", type=pathlib.Path, help="folder that all workers see; without it, a demonstration")
    parser.add_argument("--slurm", action="store_true", help="take the places of the workers from Slurm")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the data")
    parser.add_argument("--rows", type=int, default=8192, help="size of the data")
    arguments = parser.parse_args()
    if arguments.backup:
        train(arguments)
    else:
        demonstrate(arguments)


if __name__ == "__main__":
    main()
