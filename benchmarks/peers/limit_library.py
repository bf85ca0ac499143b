"""The limit: the conditioners' matrix products alone, under XLA; forward, and for a training step back as well."""

import functools
import itertools

import numpy as np
import tensorflow as tf
from of_tensorflow import data


def jobs(sizes, case, mode):
    (inputs, outputs), generator = sizes(case), np.random.default_rng(0)
    widths = [inputs + case.context_size, *case.hidden_units, outputs]
    layers = [
        [
            tf.Variable((generator.normal(size=pair) / pair[0] ** 0.5).astype("float32"))
            for pair in itertools.pairwise(widths)
        ]
        for _ in range(case.num_layers)
    ]

    def networks(x, context):
        x = x[:, :inputs] if context is None else tf.concat([x[:, :inputs], context], -1)
        total = tf.zeros([x.shape[0], 1])
        for kernels in layers:
            h = x + 1e-9 * total  # one after the other, as the layers of a flow
            for kernel in kernels[:-1]:
                h = tf.nn.relu(h @ kernel)
            total += tf.reduce_sum((h @ kernels[-1]) ** 2, -1, keepdims=True)  # a plain sum could be moved before it
        return tf.reduce_mean(total)

    @functools.partial(tf.function, autograph=False, jit_compile=True)
    def train(x, context):
        variables = [kernel for kernels in layers for kernel in kernels]
        with tf.GradientTape() as tape:
            loss = networks(x, context)
        gradients = tape.gradient(loss, variables)
        return tf.add_n([tf.reduce_sum(gradient**2) for gradient in gradients])

    @functools.partial(tf.function, autograph=False, jit_compile=True)
    def forward(x, context):
        return networks(x, context)

    batch, points = data(case, case.batch), data(case, case.points)

    def density():
        return forward(*points).numpy()

    return {"train": lambda: train(*batch).numpy(), "density": density, "sample": density}


def coupling(outputs):
    return lambda case: (case.event_size // 2, (case.event_size - case.event_size // 2) * outputs(case))


def autoregressive(outputs):
    return lambda case: (case.event_size, case.event_size * outputs(case))


def affine(case):
    return 2


def spline(case):
    return 3 * case.num_bins - 1


MAKERS = {
    "realnvp": functools.partial(jobs, coupling(affine)),
    "spline coupling": functools.partial(jobs, coupling(spline)),
    "spline autoregressive": functools.partial(jobs, autoregressive(spline)),
    "maf": functools.partial(jobs, autoregressive(affine)),
    "iaf": functools.partial(jobs, autoregressive(affine)),
}
