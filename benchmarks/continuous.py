"""A continuous flow beside TFP's FFJORD with the same network, and by flow matching beside likelihood.

python benchmarks/continuous.py            # times and errors
python benchmarks/continuous.py --precision            # the time that an error takes, for tolerances of 1e-3 to 1e-6
python benchmarks/continuous.py --train --objectives matching likelihood   # three problems, both in the same time
"""

import argparse
import itertools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability import math as tfm
from tensorflow_probability.python.bijectors.ffjord import trace_jacobian_exact

import tfp_flows as tff

TOLERANCE, BATCH = 1e-5, 256
# What is trained, and where flow matching takes its times: sharp edges want more of them near the data.
PROBLEMS = {"two_moons": "late", "checkerboard": "late", "posterior": "uniform"}


def ours(event_size, hidden_units, dtype="float32", rtol=TOLERANCE, atol=TOLERANCE, **options):
    flow = tff.flows.continuous(
        event_size,
        hidden_units=hidden_units,
        rtol=rtol,
        atol=atol,
        standardize=False,
        dtype=tf.as_dtype(dtype),
        seed=0,
        **options,
    )
    # Away from the identity, as a flow in training is.
    weights = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        if len(variable.shape) == 2:
            variable.assign(weights.normal(size=variable.shape) / np.sqrt(variable.shape[0]))
    return flow


def of_tfp(event_size, velocity, tolerance=TOLERANCE):
    """TFP's FFJORD with the network of a bijector of ours."""

    def field(t, z):
        return velocity(z, tf.reshape(tf.cast(t, z.dtype), [1, 1]))

    solver = tfm.ode.DormandPrince(rtol=tolerance, atol=tolerance)
    bijector = tfb.FFJORD(field, ode_solve_fn=solver.solve, trace_augmentation_fn=trace_jacobian_exact)
    base = tfd.Independent(tfd.Normal(tf.zeros([event_size]), 1.0), 1)
    return tfd.TransformedDistribution(base, bijector)


def operations(flow, variables, jit_compile):
    def compiled(function):
        return tf.function(function, jit_compile=jit_compile, autograph=False)

    def gradient(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        return tape.gradient(loss, variables)

    return {
        "training step": compiled(gradient),
        "density": compiled(lambda x: flow.log_prob(x)),
        "sample": compiled(lambda x: flow.sample(BATCH, seed=(0, 1))),
    }


def times(event_size, hidden_units, repeats):
    flow = ours(event_size, hidden_units)
    velocity = flow.bijector.bijectors[0].velocity
    x = tf.constant(np.random.default_rng(1).normal(size=(BATCH, event_size)), tf.float32)
    exact = in_float64(flow, event_size, hidden_units)
    reference = operations(exact, exact.trainable_variables, False)
    log_prob = reference["density"](tf.cast(x, tf.float64)).numpy()
    gradient = flat(reference["training step"](tf.cast(x, tf.float64)))

    candidates = {"tfp_flows": (flow, True), "TFP": (of_tfp(event_size, velocity), False)}
    tight = ours(event_size, hidden_units, rtol=1e-6, atol=1e-6)
    candidates["tfp_flows, 1e-6"] = (tight, True)
    functions = {}
    for name, (distribution, jit_compile) in candidates.items():
        variables = velocity.trainable_variables if name == "TFP" else distribution.trainable_variables
        variables = [getattr(variable, "value", variable) if name == "TFP" else variable for variable in variables]
        functions[name] = operations(distribution, variables, jit_compile)
        start = time.perf_counter()
        error = np.abs(functions[name]["density"](x).numpy() - log_prob).max()
        theirs = functions[name]["training step"](x)
        if name == "TFP":  # in the order of ours
            order = {id(v): g for v, g in zip(variables, theirs, strict=True)}
            theirs = [order[id(variable)] for variable in flow.trainable_variables]
        off = np.linalg.norm(flat(theirs) - gradient) / np.linalg.norm(gradient)
        functions[name]["sample"](x)
        print(
            f"{name}: log p off by {error:.1e} at most, gradient by {off:.1e} of its norm; "
            f"first calls {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    for operation in ("training step", "density", "sample"):
        least = dict.fromkeys(functions, np.inf)
        for _ in range(repeats):
            for name in functions:
                start = time.perf_counter()
                result = functions[name][operation](x)
                tf.nest.flatten(result)[-1].numpy()
                least[name] = min(least[name], time.perf_counter() - start)
        print(operation, {name: f"{1e3 * seconds:.2f} ms" for name, seconds in least.items()}, flush=True)


def in_float64(flow, event_size, hidden_units):
    """The same flow, solved at a tolerance of 1e-10."""
    exact = ours(event_size, hidden_units, "float64", 1e-10, 1e-10, max_steps=2000)
    for variable, value in zip(exact.trainable_variables, flow.trainable_variables, strict=True):
        variable.assign(tf.cast(value, tf.float64))
    return exact


def precision(event_size, hidden_units, rows, repeats):
    """Prints the errors of log p over so many rows, and the processor time, for every solver and tolerance."""
    flow = ours(event_size, hidden_units)
    velocity = flow.bijector.bijectors[0].velocity
    x = tf.constant(np.random.default_rng(1).normal(size=(rows, event_size)), tf.float32)
    exact = in_float64(flow, event_size, hidden_units).log_prob(tf.cast(x, tf.float64)).numpy()
    functions = {}
    for tolerance in (1e-3, 1e-4, 1e-5, 1e-6):
        solved = tff.flows.with_solver(flow, rtol=tolerance, atol=tolerance)
        candidates = {"tfp_flows": solved, "TFP": of_tfp(event_size, velocity, tolerance)}
        for (name, distribution), jit_compile in itertools.product(candidates.items(), (False, True)):
            key = f"{name}, {'XLA' if jit_compile else 'graph'}", tolerance
            functions[key] = operations(distribution, [], jit_compile)["density"]
    errors = {key: np.abs(function(x).numpy() - exact) for key, function in functions.items()}
    least = dict.fromkeys(functions, np.inf)
    for _ in range(repeats):
        for key, function in functions.items():
            start = time.process_time()
            function(x).numpy()
            least[key] = min(least[key], time.process_time() - start)
    for key in sorted(functions):
        error = f"{errors[key].max():.1e} at most, {np.sqrt(np.mean(errors[key] ** 2)):.1e} in the root mean square"
        print(f"{key[0]:16} {key[1]:.0e}: log p off by {error}; {1e3 * least[key]:.1f} ms", flush=True)


def flat(gradients):
    return np.concatenate([np.ravel(gradient) for gradient in gradients]).astype(float)


def problem(name):
    """(context, x) to train on, the context None for a shape; and fresh ones with the exact log-densities."""
    if name != "posterior":
        shape = getattr(tff.datasets, name)
        x = shape(10_000, seed=1)
        return (None, shape(100_000, seed=0)), (None, x), shape.log_prob(x)
    linear = tff.datasets.LinearGaussian(num_parameters=6, num_observables=20, seed=0)
    context, x = linear.sample(10_000, seed=1)
    exact = linear.posterior(context).log_prob(x.astype("float64"))
    return linear.sample(100_000, seed=0), (context, x), exact.numpy()


def train(name, objective, seconds, batch_size, learning_rate, hidden_units):
    """Prints nats above the truth after so many seconds of training, by the exact density."""
    (context, x), (fresh_context, fresh), exact = problem(name)
    keras.utils.set_random_seed(0)
    context_size = 0 if context is None else context.shape[-1]
    flow = tff.flows.continuous(x.shape[-1], context_size=context_size, hidden_units=hidden_units, seed=0)
    model = tff.FlowModel(flow)
    optimizer = keras.optimizers.Adam(learning_rate, global_clipnorm=5.0, use_ema=True, ema_momentum=0.999)
    model.compile(optimizer, objective=objective)
    budget = tff.callbacks.TimeBudget(seconds, time.process_time)
    training = {"batch_size": batch_size, "steps_per_epoch": 64, "epochs": 100_000, "callbacks": [budget]}
    model.fit(x, context=context, verbose=0, **training)
    excess = exact - model.log_prob(fresh, fresh_context)
    error, steps = np.std(excess) / np.sqrt(len(fresh)), int(model.optimizer.iterations)
    print(
        f"{name}, {type(model.objective).__name__}, {hidden_units}: {np.mean(excess):.4f} ± {error:.4f} nats above the "
        f"truth; {steps} steps of {batch_size} in {seconds:.0f} s",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="*", choices=list(PROBLEMS), help="all of them if none is named")
    parser.add_argument("--objectives", nargs="+", choices=["matching", "likelihood"], default=["matching"])
    parser.add_argument("--hidden-units", nargs="+", type=int, default=(64, 64))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--precision", action="store_true")
    parser.add_argument("--rows", type=int, default=10_000, help="of --precision")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.train is not None:
        for name in arguments.train or PROBLEMS:
            seconds, hidden_units = arguments.seconds, tuple(arguments.hidden_units)
            if "matching" in arguments.objectives:
                train(name, tff.objectives.FlowMatching(time=PROBLEMS[name]), seconds, 512, 1e-2, hidden_units)
            if "likelihood" in arguments.objectives:
                train(name, "likelihood", seconds, 256, 2e-3, hidden_units)
    elif arguments.precision:
        precision(2, (64, 64, 64), arguments.rows, arguments.repeats)
    else:
        for event_size, hidden_units in ((2, (64, 64, 64)), (2, (64, 64))):
            print(f"D = {event_size}, hidden units {hidden_units}", flush=True)
            times(event_size, hidden_units, arguments.repeats)


if __name__ == "__main__":
    main()
