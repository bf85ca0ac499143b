"""What a stack of equal layers saves at the first call, and costs or saves at later ones, beside the chain of them.

    python benchmarks/first_call.py [case ...]

Seconds and milliseconds of processor time on one thread, which other work on the machine disturbs least: the first call
of a training step (batch 512, Adam) and of a density (4000 points), both under XLA, tracing included; then the least of
rounds in which stack and chain take turns. `operations` are those of TensorFlow's graph.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
ROUNDS, CALLS = 7, 5
CASES = {
    "realnvp": (8, {"num_layers": 8, "hidden_units": (128, 128)}),
    "neural_spline_coupling": (2, {"num_layers": 8}),
    "neural_spline_coupling, D=43": (43, {"num_layers": 10, "hidden_units": (128, 128)}),
    "neural_spline_autoregressive": (6, {"num_layers": 5, "hidden_units": (256, 256)}),
    "maf": (43, {"num_layers": 5, "hidden_units": (512, 512)}),
    "planar": (2, {"num_layers": 32}),
    "gaussianization": (6, {"num_layers": 6}),
}


def programs(preset, size, stack, **options):
    """A training step and a density with their arguments, not compiled yet."""
    flow = getattr(tff.flows, preset)(size, seed=0, stack=stack, **options)
    variables = tff.FlowModel(flow).trainable_variables
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(variables)

    def step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    return {
        job: (
            tf.function(function, autograph=False, jit_compile=True),
            tf.random.stateless_normal([rows, size], (0, 1)),
        )
        for job, function, rows in (("train", step, 512), ("density", flow.log_prob, 4000))
    }


def seconds(program, x, calls=1):
    start = time.process_time()
    for _ in range(calls):
        result = program(x)
    result.numpy()
    return (time.process_time() - start) / calls


def operations(program, x):
    graph = program.get_concrete_function(x).graph
    return len(graph.get_operations()) + sum(len(f.node_def) for f in graph.as_graph_def().library.function)


def main(names):
    seconds(tf.function(tf.exp, jit_compile=True), tf.zeros([3]))  # what any first compilation loads
    print("| case | job | | operations | first call, s | later calls, ms |\n|---|---|---|---|---|---|")
    for name in names:
        size, options = CASES[name]
        pair = {stack: programs(name.split(",")[0], size, stack, **options) for stack in (True, False)}
        for job in ("train", "density"):
            first = {stack: seconds(*programs[job]) for stack, programs in pair.items()}
            rounds = [[seconds(*programs[job], CALLS) for programs in pair.values()] for _ in range(ROUNDS)]
            for stack, later in zip(pair, np.min(rounds, axis=0), strict=True):
                words = "stack" if stack else "chain"
                count = operations(*pair[stack][job])
                print(f"| {name} | {job} | {words} | {count} | {first[stack]:.1f} | {1e3 * later:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
