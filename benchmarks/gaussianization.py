"""Gaussianization compared with zuko's `GF`: train step, density and sampling of 6 dimensions, 6 layers, 8 components.

    python benchmarks/gaussianization.py

The peer runs in a virtual environment of its own, which this script makes in a temporary folder (some minutes, once:
pass the folder with `--peer` to use it again). Both processes run with two threads, and take turns, so that other
load on the machine affects both; the table has the medians of the rounds. Ours runs under XLA; of the peer
eager code and `torch.compile` both run, and the faster counts.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

DIMENSIONS, LAYERS, COMPONENTS, BATCH, POINTS = 6, 6, 8, 512, 10_000
REQUIREMENTS = ["torch==2.13.0", "zuko==1.6.0", "numpy"]


def ours():
    """The three operations of tfp_flows, by name; each returns when its result is there."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    import keras
    import numpy as np

    import tfp_flows as tff

    flow = tff.flows.gaussianization(DIMENSIONS, LAYERS, num_components=COMPONENTS, seed=0)
    generator = np.random.default_rng(0)
    batch = tf.constant(generator.normal(size=[BATCH, DIMENSIONS]), tf.float32)
    points = tf.constant(generator.normal(size=[POINTS, DIMENSIONS]), tf.float32)
    model = tff.FlowModel(flow)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_weights)

    @tf.function(jit_compile=True)
    def train():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(batch))
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return loss

    density = tf.function(lambda: flow.log_prob(points), jit_compile=True)
    sampling = tf.function(lambda seed: flow.sample(POINTS, seed=seed), jit_compile=True)
    seeds = iter(range(10**9))
    operations = {
        "train step": lambda: train().numpy(),
        "density": lambda: density().numpy(),
        "sampling": lambda: sampling(tf.constant([next(seeds), 0])).numpy(),
    }
    z = flow.bijector.inverse(points)
    error = float(tf.reduce_max(tf.abs(flow.bijector.forward(tf.identity(z)) - points)))
    return operations, error


def peer():
    """The same three of zuko, each eager and compiled."""
    import torch
    import zuko

    torch.set_num_threads(2)
    torch.manual_seed(0)
    flow = zuko.flows.GF(DIMENSIONS, transforms=LAYERS, components=COMPONENTS)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    batch, points = torch.randn(BATCH, DIMENSIONS), torch.randn(POINTS, DIMENSIONS)

    def loss():
        return -flow().log_prob(batch).mean()

    def log_prob():
        return flow().log_prob(points)

    def draw():
        return flow().sample((POINTS,))

    def training(loss):
        def step():
            optimizer.zero_grad()
            value = loss()
            value.backward()
            optimizer.step()
            return value.item()

        return step

    def without_gradient(function):
        def call():
            with torch.no_grad():
                return function()

        return call

    operations = {}
    for suffix, wrap in (("", lambda function: function), (" (compiled)", torch.compile)):
        operations["train step" + suffix] = training(wrap(loss))
        operations["density" + suffix] = without_gradient(wrap(log_prob))
        operations["sampling" + suffix] = without_gradient(wrap(draw))
    with torch.no_grad():
        transform = flow().transform
        error = float((transform.inv(transform(points)) - points).abs().max())
    return operations, error


def serve(which):
    """Runs rounds on demand: a line on standard input is an operation, a line back its time in ms."""
    operations, error = {"ours": ours, "peer": peer}[which]()
    ready = {}
    for name, operation in operations.items():
        start = time.perf_counter()
        try:
            operation()
            operation()
            ready[name] = time.perf_counter() - start
        except Exception as failure:  # a compiler that cannot do it; the other way counts
            print(f"{which}, {name}: {type(failure).__name__}", file=sys.stderr)
    print(json.dumps({"first calls": ready, "round trip": error}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        operations[line.strip()]()
        print(1000 * (time.perf_counter() - start), flush=True)


def start(python, which):
    script = str(pathlib.Path(__file__).resolve())
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [python, script, "--serve", which], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    return process, json.loads(process.stdout.readline())


def peer_python(folder):
    """The Python of the peer's environment, made if it is not there."""
    python = pathlib.Path(folder) / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return str(python)


def compare(folder, rounds):
    contestants = {"ours": start(sys.executable, "ours"), "zuko": start(peer_python(folder), "peer")}
    times = {(name, operation): [] for name, (_, about) in contestants.items() for operation in about["first calls"]}
    for _ in range(rounds):
        for (name, operation), taken in times.items():
            process, _ = contestants[name]
            process.stdin.write(operation + "\n")
            process.stdin.flush()
            taken.append(float(process.stdout.readline()))
    for process, _ in contestants.values():
        process.stdin.close()
        process.wait()
    print(f"{'operation':28}{'library':10}{'median ms':>12}{'minimum ms':>12}{'first call s':>15}")
    for (name, operation), taken in sorted(times.items(), key=lambda item: (item[0][1], item[0][0])):
        first = contestants[name][1]["first calls"][operation]
        print(f"{operation:28}{name:10}{statistics.median(taken):12.2f}{min(taken):12.2f}{first:15.1f}")
    for name, (_, about) in contestants.items():
        print(f"maximum round-trip error of {POINTS} points, {name}: {about['round trip']:.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="the folder of the peer's virtual environment, made if it is not there")
    parser.add_argument("--rounds", type=int, default=30, help="how often each operation is timed")
    parser.add_argument("--serve", choices=["ours", "peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    elif arguments.peer:
        compare(arguments.peer, arguments.rounds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(folder, arguments.rounds)


if __name__ == "__main__":
    main()
