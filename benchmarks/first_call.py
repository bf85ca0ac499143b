"""What a `Stack` saves at the first call and costs at every later one, beside the `tfb.Chain` of the same layers.

    python benchmarks/first_call.py [case ...]

Seconds and milliseconds of processor time on one thread, which other work on the machine disturbs least: the first call
of a training step (batch 512, Adam) and of a density (4000 points), both under XLA, tracing included; then the medians
of rounds in which the two take turns, and the number of steps after which the chain has caught up.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows import bijectors

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
ROUNDS = 10


def couplings(kind, size, num_layers, **options):
    half = np.arange(size) < size // 2
    return [
        [
            bijectors.Permutation(size, seed=k),
            kind(size, mask=half, seed=2 * k, name=f"one_{k}", **options),
            kind(size, mask=~half, seed=2 * k + 1, name=f"two_{k}", **options),
        ]
        for k in range(num_layers // 2)
    ]


def autoregressions(kind, size, num_layers, **options):
    orders = ("left-to-right", "right-to-left")
    return [[kind(size, input_order=orders[k % 2], seed=k, name=f"layer_{k}", **options)] for k in range(num_layers)]


def planars(size, num_layers):
    return [[bijectors.Planar(size, seed=k)] for k in range(num_layers)]


WIDE = {"hidden_units": (128, 128)}
CASES = {
    "realnvp": (8, lambda: couplings(bijectors.RealNVP, 8, 8, **WIDE)),
    "spline_coupling": (43, lambda: couplings(bijectors.NeuralSplineCoupling, 43, 10, **WIDE)),
    "spline_coupling_2d": (2, lambda: couplings(bijectors.NeuralSplineCoupling, 2, 8)),
    "spline_autoregressive": (
        6,
        lambda: autoregressions(bijectors.NeuralSplineAutoregressive, 6, 5, hidden_units=(256, 256)),
    ),
    "maf": (43, lambda: autoregressions(bijectors.MAF, 43, 5, hidden_units=(512, 512))),
    "planar": (2, lambda: planars(2, 32)),
    "gaussianization": (6, lambda: [[bijectors.Gaussianization(6, seed=k)] for k in range(6)]),
}


def functions(bijector, size):
    """A training step and a density, compiled at their first call."""
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [size]), bijector)
    model = tff.FlowModel(flow)
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, jit_compile=True)
    def step(x):
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    density = tf.function(flow.log_prob, autograph=False, jit_compile=True)
    return {"train": step, "density": density}


def seconds(function, x):
    start = time.process_time()
    function(x).numpy()
    return time.process_time() - start


def main(names):
    functions(tfb.Chain([bijectors.Planar(2)]), 2)["train"](tf.zeros([512, 2]))  # what any first compilation loads
    print(
        "| case | job | chain: first call, s | stack: first call, s | chain, ms | stack, ms | stack / chain | even at |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        size, make = CASES[name]
        chain = functions(tfb.Chain([layer for turn in make() for layer in turn]), size)
        stack = functions(bijectors.Stack(make()), size)
        for job, rows in (("train", 512), ("density", 4000)):
            x = tf.random.stateless_normal([rows, size], (0, 1))
            pair = [chain[job], stack[job]]
            first = [seconds(function, x) for function in pair]
            times = np.array([[seconds(function, x) for function in pair] for _ in range(ROUNDS)])
            run = np.median(times, 0)
            ratio = np.median(times[:, 1] / times[:, 0])
            lost = (ratio - 1) * run[0]
            even = f"{(first[0] - first[1]) / lost:.0f} calls" if lost > 0 and first[0] > first[1] else "-"
            print(
                f"| {name} | {job} | {first[0]:.1f} | {first[1]:.1f} | {1e3 * run[0]:.2f} | {1e3 * run[1]:.2f} "
                f"| {ratio:.2f} | {even} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
