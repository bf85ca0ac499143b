"""What `FlowModel.fit` costs beside the same step written by hand as one compiled `tf.function`.

    python benchmarks/fit_overhead.py

RealNVP of 6 layers 2x64 on 2-D data, batches of 256, Adam. The two take turns, epoch by epoch; medians.
"""

import time

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff

STEPS, BATCH, ROUNDS = 100, 256, 15


def build(**compile_arguments):
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=6, hidden_units=(64, 64), seed=0))
    model.compile(keras.optimizers.Adam(1e-3), **compile_arguments)
    return model


def epoch_by_fit(model, x):
    return lambda: model.fit(x, batch_size=BATCH, epochs=1, verbose=0)


def epoch_by_hand(model, x):
    flow, optimizer = model.distribution, model.optimizer
    batches = [tf.constant(x[k : k + BATCH]) for k in range(0, len(x), BATCH)]

    @tf.function(jit_compile=True)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(batch))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights, strict=True))
        return loss

    def epoch():
        for batch in batches:
            loss = step(batch)
        return loss.numpy()

    return epoch


def main():
    x = tff.datasets.two_moons(STEPS * BATCH, seed=0)
    by_hand = build()
    by_hand.optimizer.build(by_hand.trainable_weights)
    contestants = {
        "by hand": epoch_by_hand(by_hand, x),
        "fit, as it comes (steps_per_execution=8)": epoch_by_fit(build(), x),
        "fit, steps_per_execution=1": epoch_by_fit(build(steps_per_execution=1), x),
        "fit, steps_per_execution=32": epoch_by_fit(build(steps_per_execution=32), x),
    }
    times = {name: [] for name in contestants}
    for name, epoch in contestants.items():
        start = time.perf_counter()
        epoch()
        print(f"first epoch, with compiling, {name}: {time.perf_counter() - start:.1f} s")
    for _ in range(ROUNDS):
        for name, epoch in contestants.items():
            start = time.perf_counter()
            epoch()
            times[name].append((time.perf_counter() - start) / STEPS)
    reference = np.median(times["by hand"])
    for name, values in times.items():
        median = np.median(values)
        print(f"{name:45s} {1e3 * median:6.2f} ms a step, {median / reference:.2f} times by hand")


if __name__ == "__main__":
    main()
