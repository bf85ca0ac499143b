"""One flow, trained by several processes on one machine or on many.

python examples/multi_worker.py   # two workers on this machine, and the same training in one process, to compare

On a cluster start the same program on every machine, with its place in TF_CONFIG; here on the first of two:

TF_CONFIG='{"cluster": {"worker": ["one:12345", "two:12345"]}, "task": {"type": "worker", "index": 0}}' \\
    python examples/multi_worker.py --backup /shared/backup

Under Slurm no TF_CONFIG is needed:

srun --nodes 2 --ntasks-per-node 1 python examples/multi_worker.py --slurm --backup /shared/backup

A worker uses all GPUs that it sees, so one worker per machine is enough. For the GPUs of one machine alone,
`tf.distribute.MirroredStrategy()` needs no workers. The batch size counts the rows of all replicas together: with twice
as many replicas, double it, or each has half the work.

If a worker dies, the others end with an error within seconds. Start all of them again: they continue from the backup,
which is in a folder that all of them share.
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
    """Sets TF_CONFIG from Slurm's environment variables."""
    cluster = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=20_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000,  # two jobs on one machine get different ports
        # Which GPUs a worker sees is left to Slurm; the resolver needs a number all the same, even without GPUs.
        gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    workers = cluster.cluster_spec().as_dict()
    kind, index = cluster.get_task_info()
    os.environ["TF_CONFIG"] = json.dumps({"cluster": workers, "task": {"type": kind, "index": index}})


def backup_of(strategy, folder):
    """All workers read one backup, which the chief alone writes.

    With one backup per worker, a worker could die after the chief wrote its backup and before writing its own, and the
    next run would start from two different epochs. All workers take part in an epoch before the chief writes.
    """
    cluster = strategy.cluster_resolver
    chief = cluster is None or cluster.task_id == 0
    # The others write after this many batches: never.
    return keras.callbacks.BackupAndRestore(
        folder, save_freq="epoch" if chief else sys.maxsize, delete_checkpoint=chief, double_checkpoint=True
    )


def train(arguments):
    """The same code for one process and many, except for the strategy's scope."""
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
    # Every worker shuffles in the same order and takes its share of each batch. Every replica's gradient gets equal
    # weight, so the last partial batch is dropped.
    data = tff.datasets.shuffled(x, step=model.optimizer.iterations, batch_size=256, drop_remainder=True)
    history = model.fit(
        data, epochs=arguments.epochs, callbacks=[backup_of(strategy, arguments.backup)], verbose=0
    ).history
    print(f"{strategy.num_replicas_in_sync} replicas, losses in nats: {history.get('loss', 'trained already')}")


def demonstrate(arguments):
    """Starts two workers, then trains in this process."""
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
