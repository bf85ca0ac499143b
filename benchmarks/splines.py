"""How fast is a rational-quadratic spline? Ours and TFP's in the same run, and three ways to look up the
parameters of a bin.

    python benchmarks/splines.py

Both get one job: unconstrained parameters in, the spline's value and log-derivative out, and for the gradient that of
a scalar of both with respect to the points and the unconstrained parameters. Each has its parameters in the layout it
likes: ours `[N, 3K - 1, D]`, TFP's `[N, D, 3K - 1]`. Times are medians of repetitions that take turns, in
milliseconds; where other programs load the machine, only the ratio means something.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

BOUND, FLOOR = 3.0, 1e-3
SIZES = [(1024, 32, 16), (10_000, 22, 8), (512, 3, 8), (1024, 32, 32)]
REPETITIONS = 15


def ours(direction, num_bins):
    return getattr(tff.transformers.RationalQuadratic(num_bins, BOUND, FLOOR, FLOOR, FLOOR), direction)


def tfps(direction, num_bins):
    def spline(x, parameters):
        widths, heights, slopes = tf.split(parameters, [num_bins, num_bins, num_bins - 1], axis=-1)
        widths, heights = (
            2 * BOUND * (FLOOR + (1 - num_bins * FLOOR) * tf.nn.softmax(logits)) for logits in (widths, heights)
        )
        slopes = FLOOR + tf.nn.softplus(slopes + np.log(np.expm1(1 - FLOOR)).astype("float32"))
        bijector = tfp.bijectors.RationalQuadraticSpline(widths, heights, slopes, range_min=-BOUND)
        if direction == "forward":
            return bijector.forward(x), bijector.forward_log_det_jacobian(x)
        return bijector.inverse(x), bijector.inverse_log_det_jacobian(x)

    return spline


def with_gradient(function):
    def value_and_gradients(x, parameters):
        with tf.GradientTape() as tape:
            tape.watch((x, parameters))
            y, log_derivative = function(x, parameters)
            loss = tf.reduce_sum(y**2) - tf.reduce_sum(log_derivative)
        return loss, tape.gradient(loss, (x, parameters))

    return value_and_gradients


def medians(contestants):
    """Seconds of the first call, and median milliseconds of later ones, of (function, arguments) that take turns."""
    first, calls, times = [], [], [[] for _ in contestants]
    for function, arguments in contestants:
        first.append(seconds(function, arguments, 1))
        # Enough calls at a time to last a few milliseconds.
        calls.append(1 + int(5e-3 / seconds(function, arguments, 1)))
    for _ in range(REPETITIONS):
        for of_function, number, (function, arguments) in zip(times, calls, contestants, strict=True):
            of_function.append(1e3 * seconds(function, arguments, number))
    return first, [np.median(of_function) for of_function in times]


def seconds(function, arguments, calls):
    """The time of one of several calls."""
    start = time.perf_counter()
    for _ in range(calls):
        results = function(*arguments)
    for result in tf.nest.flatten(results):
        result.numpy()
    return (time.perf_counter() - start) / calls


def compare_with_tfp():
    print("| N, D, K | job | mode | TFP, ms | ours, ms | TFP / ours | first call: TFP, s | ours, s |")
    print("|---|---|---|---|---|---|---|---|")
    for size, event_size, num_bins in SIZES:
        random = np.random.default_rng(0)
        x = tf.constant(random.normal(size=(size, event_size)), tf.float32)
        parameters = random.normal(size=(size, 3 * num_bins - 1, event_size)).astype("float32")
        for_ours, for_tfp = tf.constant(parameters), tf.constant(parameters.swapaxes(1, 2).copy())
        for jit_compile in (False, True):
            for job in ("forward", "inverse", "forward + gradient", "inverse + gradient"):
                direction, *gradient = job.split(" + ")
                contestants = []
                for make, arguments in ((tfps, (x, for_tfp)), (ours, (x, for_ours))):
                    function = make(direction, num_bins)
                    function = with_gradient(function) if gradient else function
                    contestants.append((tf.function(function, jit_compile=jit_compile, autograph=False), arguments))
                first, (of_tfp, of_ours) = medians(contestants)
                print(
                    f"| {size}, {event_size}, {num_bins} | {job} | {'XLA' if jit_compile else 'plain'} | {of_tfp:.2f} |"
                    f" {of_ours:.2f} | {of_tfp / of_ours:.2f} | {first[0]:.1f} | {first[1]:.1f} |",
                    flush=True,
                )


def by_wheres(x, knots, tables):
    """As tfp_flows does it."""
    bin = tff.transformers.spline.Bin.of(x, tf.unstack(knots[..., 1:, :], axis=-2))
    return [bin.value(values) for values in tables]


def by_one_hot(x, knots, tables):
    passed = tf.cast(knots <= x[..., None, :], x.dtype)
    one_hot = passed - tf.concat([passed[..., 1:, :], tf.zeros_like(passed[..., :1, :])], axis=-2)
    return [tf.reduce_sum(one_hot * values, axis=-2) for values in tables]


def by_gather(x, knots, tables):
    bin = tf.reduce_sum(tf.cast(knots <= x[..., None, :], tf.int32), axis=-2) - 1
    return [tf.gather(tf.transpose(values, [0, 2, 1]), bin, axis=-1, batch_dims=2) for values in tables]


def compare_look_ups():
    ways = {"a chain of where": by_wheres, "one-hot and sum": by_one_hot, "gather": by_gather}
    print("| N, D, K | six look-ups | mode | " + ", ms | ".join(ways) + ", ms |")
    print("|---|---|---|" + "---|" * len(ways))
    for size, event_size, num_bins in SIZES[:3]:
        random = np.random.default_rng(0)
        x = tf.constant(random.uniform(0, num_bins, (size, event_size)), tf.float32)
        tables = list(tf.constant(random.normal(size=(6, size, num_bins, event_size)), tf.float32))
        knots = tf.ones_like(tables[0]) * tf.range(float(num_bins))[:, None]
        for jit_compile in (False, True):
            for job in ("value", "value + gradient"):
                contestants = []
                for way in ways.values():

                    def function(x, tables, knots, way=way, gradient="gradient" in job):
                        with tf.GradientTape() as tape:
                            tape.watch(tables)
                            values = way(x, knots, tables)
                            loss = sum(tf.reduce_sum(value**2) for value in values)
                        return (values, tape.gradient(loss, tables)) if gradient else values

                    compiled = tf.function(function, jit_compile=jit_compile, autograph=False)
                    contestants.append((compiled, (x, tables, knots)))
                times = " | ".join(f"{milliseconds:.2f}" for milliseconds in medians(contestants)[1])
                mode = "XLA" if jit_compile else "plain"
                print(f"| {size}, {event_size}, {num_bins} | {job} | {mode} | {times} |", flush=True)


if __name__ == "__main__":
    compare_with_tfp()
    print()
    compare_look_ups()
