"""One autoregressive layer: its two directions compared with those of TFP's `MaskedAutoregressiveFlow`, all under XLA.

    python benchmarks/autoregressive.py [growth.png]

Prints medians of interleaved runs, in ms, and the ratio to our density pass: first two layers of usual size, then how
sampling grows with the number of coordinates, which is also drawn into the file if one is named; last the memory that
many samples of a deep flow take. The weights of both are random; TFP's samples are by D passes of its network. "first"
is the first call, so tracing and compiling, in seconds.
"""

import resource
import sys
import time

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

import tfp_flows as tff

CASES = [(43, 512, 1000), (256, 1024, 100)]
GROWTH = [(event_size, 1024, 100) for event_size in (8, 32, 128, 512)]
REPEATS = 9


def shaken(variables):
    """Random weights in place of those of the identity."""
    generator = np.random.default_rng(0)
    for variable in variables:
        if variable.trainable:
            scale = 0.5 / np.sqrt(variable.shape[0]) if len(variable.shape) == 2 else 0.1
            variable.assign(scale * generator.normal(size=variable.shape))


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def gradient(bijector, method):
    def function(event):
        variables = bijector.trainable_variables
        with tf.GradientTape() as tape:
            tape.watch(event)
            loss = tf.reduce_sum(getattr(bijector, method)(tf.identity(event)) ** 2)
        return tape.gradient(loss, [event, *variables])

    return function


def functions(event_size, width, gradients):
    ours = tff.bijectors.MAF(event_size, hidden_units=(width, width), seed=0)
    shaken(ours.variables)
    network = tfb.AutoregressiveNetwork(2, hidden_units=[width, width], activation="relu")
    theirs = tfb.MaskedAutoregressiveFlow(network)
    theirs.inverse(tf.zeros([1, event_size]))
    shaken(network.variables)
    found = {
        "density": lambda x: ours.inverse(tf.identity(x)),
        "sample": lambda z: ours.forward(tf.identity(z)),
        "TFP density": lambda x: theirs.inverse(tf.identity(x)),
        "TFP sample": lambda z: theirs.forward(tf.identity(z)),
    }
    if gradients:
        found["density, gradient"] = gradient(ours, "inverse")
        found["sample, gradient"] = gradient(ours, "forward")
    return {name: compiled(function) for name, function in found.items()}


def measure(event_size, width, num_points, gradients=False):
    """The medians in ms by name, after a line of them is printed."""
    event = tf.random.stateless_normal([num_points, event_size], [0, 1])
    calls = functions(event_size, width, gradients)
    first, times = {}, {name: [] for name in calls}
    for name, function in calls.items():
        first[name] = timed(function, event) / 1e3
    for _ in range(REPEATS):
        for name, function in calls.items():
            times[name].append(timed(function, event))
    medians = {name: float(np.median(found)) for name, found in times.items()}
    print(f"D={event_size}, 2x{width}, {num_points} points")
    for name, median in medians.items():
        ratio = median / medians["density"]
        rest = f"best {min(times[name]):8.1f}   first {first[name]:.1f} s"
        print(f"  {name:18} {median:8.1f} ms {ratio:7.1f} passes   {rest}")
    return medians


def timed(function, event):
    start = time.perf_counter()
    tf.nest.map_structure(lambda tensor: tensor.numpy(), function(event))
    return 1e3 * (time.perf_counter() - start)


def memory():
    """How the peak of the process grows with the number of samples."""
    flow = tff.flows.maf(43, num_layers=5, hidden_units=(512, 512), seed=0)
    print("5 layers, D=43, 2x512: peak memory of the process after sampling")
    for num_points in (1_000, 10_000, 100_000):
        sample = compiled(lambda num_points=num_points: flow.sample(num_points, seed=0))
        start = time.perf_counter()
        assert np.isfinite(sample().numpy()).all()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  {num_points:7} points: {peak:7.0f} MiB, {time.perf_counter() - start:.1f} s with compiling")


def draw(growth, path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    sizes = [event_size for event_size, _, _ in GROWTH]
    for name, style in [("TFP sample", "s-"), ("sample", "o-"), ("density", "o--")]:
        axes.loglog(sizes, [medians[name] for medians in growth], style, label=name)
    axes.set(xlabel="coordinates", ylabel="ms for 100 points", title="One MAF layer, two hidden layers of 1024, XLA")
    axes.set_xticks(sizes, sizes)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(2)
    for case in CASES:
        measure(*case, gradients=True)
    growth = [measure(*case) for case in GROWTH]
    memory()
    if len(sys.argv) > 1:
        draw(growth, sys.argv[1])
