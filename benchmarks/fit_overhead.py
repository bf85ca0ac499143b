"""What `FlowModel.fit` costs compared with the same step written by hand as one compiled `tf.function`.

    python benchmarks/fit_overhead.py

Also what FlowDoctor and BijectivityMonitor add to `fit` with its defaults.

RealNVP with 6 layers of 2x64 units on 2-D data, batches of 256, Adam. They take turns, five epochs each; medians and
minima.
"""

import time

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff

STEPS, BATCH, EPOCHS, ROUNDS = 100, 256, 5, 9


def build(**compile_arguments):
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=6, hidden_units=(64, 64), seed=0))
    model.compile(keras.optimizers.Adam(1e-3), **compile_arguments)
    return model


def by_fit(model, x, *callbacks):
    return lambda: model.fit(x, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=list(callbacks))


def by_hand(model, x):
    flow, optimizer = model.distribution, model.optimizer
    batches = [tf.constant(x[k : k + BATCH]) for k in range(0, len(x), BATCH)]

    @tf.function(jit_compile=True)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(batch))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights, strict=True)
        )
        return loss

    def train():
        for _ in range(EPOCHS):
            for batch in batches:
                loss = step(batch)
            loss.numpy()

    return train


def main():
    x = tff.datasets.two_moons(STEPS * BATCH, seed=0)
    contestants = {
        "by hand": by_hand(build(), x),
        "fit, as it comes (steps_per_execution=16)": by_fit(build(), x),
        "fit, steps_per_execution=1": by_fit(build(steps_per_execution=1), x),
        "fit, steps_per_execution=64": by_fit(build(steps_per_execution=64), x),
        "fit with FlowDoctor": by_fit(build(), x, tff.callbacks.FlowDoctor()),
        "fit with BijectivityMonitor of 64 rows": by_fit(build(), x, tff.callbacks.BijectivityMonitor(x[:64])),
    }
    times = {name: [] for name in contestants}
    for name, train in contestants.items():
        start = time.perf_counter()
        train()
        print(f"first {EPOCHS} epochs, with compiling, {name}: {time.perf_counter() - start:.1f} s")
    for _ in range(ROUNDS):
        for name, train in contestants.items():
            start = time.perf_counter()
            train()
            times[name].append((time.perf_counter() - start) / (EPOCHS * STEPS))
    reference = times["by hand"]
    for name, values in times.items():
        median, least = np.median(values), np.min(values)
        print(
            f"{name:45s} median {1e3 * median:5.2f} ms a step, {median / np.median(reference):.2f} times by hand; "
            f"minimum {1e3 * least:5.2f}, {least / np.min(reference):.2f}"
        )


if __name__ == "__main__":
    main()
