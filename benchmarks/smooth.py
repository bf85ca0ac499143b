"""The transformer `Bump` beside the rational-quadratic spline: forward, inverse and gradient, and second derivatives.

    python benchmarks/smooth.py

The forces of smooth flows and spline flows are compared in examples/force_matching.py.
"""

import time

import numpy as np
import tensorflow as tf

import tfp_flows as tff

ROWS, SIZE, REPEATS = 1024, 32, 30


def least_times(functions):
    """The least of interleaved CPU times of compiled functions without arguments, in ms."""
    least = dict.fromkeys(functions, np.inf)
    for function in functions.values():
        function()
    for _ in range(REPEATS):
        for name, function in functions.items():
            start = time.process_time()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), function())
            least[name] = min(least[name], 1e3 * (time.process_time() - start))
    return least


def compiled(function, *arguments):
    run = tf.function(function, jit_compile=True, autograph=False)
    return lambda: run(*arguments)


tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
generator = np.random.default_rng(0)
x = tf.constant(generator.uniform(-1, 1, size=(ROWS, SIZE)), tf.float32)
for name, transformer in {
    "interval": tff.transformers.Bump(bound=1.0),
    "circle": tff.transformers.Bump(bound=1.0, circular=True),
    "spline": tff.transformers.RationalQuadratic(bound=1.0),
}.items():
    noise = generator.normal(size=(ROWS, transformer.num_parameters, SIZE))
    parameters = tf.constant(transformer.initial_parameters()[:, np.newaxis] + noise, tf.float32)
    y, _ = transformer.forward(x, parameters)
    times = least_times(
        {
            "forward": compiled(transformer.forward, x, parameters),
            "inverse": compiled(transformer.inverse, y, parameters),
        }
    )
    ratio = times["inverse"] / times["forward"]
    error = np.abs(transformer.inverse(y, parameters)[0] - x).max()
    print(f"{name}: {times['forward']:.1f} and {times['inverse']:.1f} ms, ratio {ratio:.1f}; round trip {error:.0e}")
