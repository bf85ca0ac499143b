"""How fast is a Glow, with XLA and without, beside TFP's, and how many bits it needs for the digits.

    python benchmarks/images.py steps
    python benchmarks/images.py tfp
    python benchmarks/images.py digits --seconds 240 --noise 2

Where other programs load the machine, the clock says little. So next to it stands the processor's time, summed over all
threads: for `digits`, 240 seconds of it are what two free cores do in two minutes.
"""

import argparse
import functools
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tfp_flows.context import context_arguments

tfb, tfd = tfp.bijectors, tfp.distributions
# Image shape, levels, steps a level, width, batch.
SIZES = [([8, 8, 1], 2, 4, 32, 64), ([16, 16, 3], 2, 4, 64, 32), ([28, 28, 1], 2, 4, 32, 64)]
REPETITIONS = 20


def ours(shape, levels, steps, width):
    flow = tff.flows.glow(shape, levels, steps, width, seed=0)
    return flow, flow.trainable_variables


def tfps(shape, levels, steps, width):
    glow = tfb.Glow(
        output_shape=shape,
        num_glow_blocks=levels,
        num_steps_per_block=steps,
        coupling_bijector_fn=functools.partial(tfb.GlowDefaultNetwork, num_hidden_filters=width),
        exit_bijector_fn=tfb.GlowDefaultExitNetwork,
        grab_after_block=None,
    )
    size = glow.inverse_event_shape(shape)
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), size), glow)
    flow.log_prob(tf.zeros([2, *shape]))  # makes its variables
    return flow, flow.trainable_variables


def training_step(make, shape, levels, steps, width, jit_compile):
    """A function of a batch: the gradient of the mean log-density and a step of Adam."""
    flow, variables = make(shape, levels, steps, width)
    moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in variables]

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        for variable, gradient, (first, second) in zip(variables, tape.gradient(loss, variables), moments, strict=True):
            first.assign(0.9 * first + 0.1 * gradient)
            second.assign(0.999 * second + 0.001 * gradient**2)
            variable.assign_sub(1e-6 * first / (tf.sqrt(second) + 1e-8))
        return loss

    return step


def compare(contestants):
    """For (name, step, x) that take turns: seconds of the first call, least ms of others by clock and by processor."""
    times = {name: [] for name, *_ in contestants}
    first = {}
    for name, step, x in contestants:
        start = time.process_time()
        step(x)
        first[name] = time.process_time() - start
    for _ in range(REPETITIONS):
        for name, step, x in contestants:
            clock, processor = time.perf_counter(), time.process_time()
            step(x).numpy()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    for name, rows in times.items():
        clock, processor = 1e3 * np.min(rows, 0)
        print(f"| {name} | {clock:.1f} | {processor:.1f} | {first[name]:.1f} |", flush=True)


def steps():
    print("| Glow, training step | ms | processor ms | first call, processor s |\n|---|---|---|---|")
    for shape, levels, steps, width, batch in SIZES:
        x = tf.constant(np.random.default_rng(0).uniform(size=[batch, *shape]), tf.float32)
        compare(
            [
                (
                    f"{shape}, {levels} x {steps}, width {width}, batch {batch}, {'XLA' if jit_compile else 'plain'}",
                    training_step(ours, shape, levels, steps, width, jit_compile),
                    x,
                )
                for jit_compile in (False, True)
            ]
        )


def beside_tfp():
    shape, _levels, _steps, _width, batch = SIZES[1]
    x = tf.constant(np.random.default_rng(0).uniform(size=[batch, *shape]), tf.float32)
    print("| Glow 16x16x3, training step | ms | processor ms | first call, processor s |\n|---|---|---|---|")
    compare(
        [
            (f"{name}, {'XLA' if jit_compile else 'plain'}", training_step(make, *SIZES[1][:4], jit_compile), x)
            for name, make in (("ours", ours), ("TFP", tfps))
            for jit_compile in (False, True)
        ]
    )


def digits(arguments):
    """Trains for so much of the processor's time; the bits of the weights that did best on the validation rows."""
    keras.utils.set_random_seed(arguments.seed)
    images, labels = tff.datasets.digits()
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = images[order], np.eye(10, dtype="float32")[labels[order]]
    parts = dict(zip(("training", "validation", "test"), np.split(np.arange(len(images)), [1350, 1500]), strict=True))
    shape = [8, 8, 1]
    preset = getattr(tff.flows, arguments.model)
    options = {"hidden_channels": arguments.width, "seed": arguments.seed}
    if arguments.model == "glow":
        options["num_steps"] = arguments.steps
    flow = preset(shape, context_size=10 if arguments.classes else 0, **options)
    noise = None
    if arguments.noise:
        noise = tff.flows.glow(
            shape, 1, arguments.noise, arguments.width, alpha=0.0, context_shape=shape, seed=arguments.seed + 1
        )
    distribution = tff.distributions.Dequantized(flow, 17, noise)

    def given(rows):
        return context_arguments(distribution, tf.gather(classes, rows)) if arguments.classes else {}

    rows = parts["training"]
    for part, x, context, _ in distribution.walk(images[rows], classes[rows] if arguments.classes else None):
        if hasattr(part, "adapt"):
            part.adapt(x, context)
    variables = list(distribution.trainable_variables)
    optimizer = keras.optimizers.AdamW(
        arguments.learning_rate, arguments.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=0.995
    )
    weights = [keras.Variable(variable) for variable in variables]  # which share the storage
    optimizer.build(weights)
    nats = tf.constant(-64 * math.log(2), tf.float32)

    @tf.function(autograph=False)
    def step(seed):
        rows = tf.random.stateless_uniform([64], seed, 0, len(parts["training"]), tf.int32)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(distribution.training_log_prob(tf.gather(images, rows), seed, **given(rows))) / nats
        optimizer.apply(tape.gradient(loss, variables), weights)
        return loss

    @tf.function(autograph=False)
    def bits(rows, seed, num_samples):
        draws = distribution.log_prob(tf.gather(images, rows), seed=seed, num_samples=num_samples, **given(rows))
        return tf.reduce_mean(draws) / nats

    def measured(name, num_samples=1):
        return np.mean(
            [bits(tf.constant(parts[name]), [9, k], num_samples) for k in range(4 if num_samples == 1 else 1)]
        )

    step(tf.constant([0, 0]))
    spent, number, best = 0.0, 0, (math.inf,)
    while spent < arguments.seconds:
        start = time.process_time()
        for _ in range(50):
            number += 1
            step(tf.constant([1, number]))
        spent += time.process_time() - start
        optimizer.learning_rate = (
            arguments.learning_rate * (1 + math.cos(math.pi * min(1, spent / arguments.seconds))) / 2
        )
        if number % arguments.every == 0 or spent >= arguments.seconds:
            current = [weight.numpy() for weight in weights]
            optimizer.finalize_variable_values(weights)  # to the averages
            validation = measured("validation")
            if validation < best[0]:
                best = (validation, number, spent, [weight.numpy() for weight in weights])
            print(f"{spent:6.0f} s, step {number:6d}: validation {validation:.4f}", flush=True)
            for weight, value in zip(weights, current, strict=True):
                weight.assign(value)
    for weight, value in zip(weights, best[-1], strict=True):
        weight.assign(value)
    print(f"{arguments}\nbest on validation rows after {best[2]:.0f} s, step {best[1]}, of {number}")
    print(" ".join(f"{name} {measured(name):.4f}" for name in parts), f"test with 64 draws {measured('test', 64):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["steps", "tfp", "digits"])
    parser.add_argument("--seconds", type=float, default=240, help="of the processor")
    parser.add_argument("--model", default="glow", choices=["glow", "realnvp_image"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--noise", type=int, default=0, help="steps of the flow of the noise; 0 for uniform noise")
    parser.add_argument("--classes", action="store_true", help="given the digit")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--every", type=int, default=200, help="steps between looks at the validation rows")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    {"steps": steps, "tfp": beside_tfp, "digits": functools.partial(digits, arguments)}[arguments.what]()
