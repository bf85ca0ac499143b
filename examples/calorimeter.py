"""Showers in a calorimeter, in the two steps of CaloFlow; then a student of the flow that samples faster.

    python examples/calorimeter.py --output out

Energies by layer given the incident energy, then the 36 cells given those, each by an autoregressive flow of splines
(Krause and Shih 2021, arXiv 2106.05285), trained on showers of `tff.datasets.Calorimeter`. Samples of such a flow are
sequential. The student has the layers the other way around and so parallel samples, but no likelihood to train by: it
learns to undo what its teacher does (Krause and Shih 2021, arXiv 2110.11377). Prints how well a classifier can tell
both from the simulation, and how many showers a second they make; writes `calorimeter.png`.
"""

import argparse
import pathlib
import time

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

matplotlib.use("agg")
from matplotlib import pyplot as plt

NETWORKS: dict = {"hidden_units": (128, 128), "activation": "silu"}


def make_student(size, context_size, num_layers):
    """The flow for which samples are parallel: autoregressive splines, inverted."""
    layers = []
    for k in range(num_layers):
        order = ("left-to-right", "right-to-left")[k % 2]
        layer = tff.bijectors.NeuralSplineAutoregressive(
            size, input_order=order, context_size=context_size, seed=k, bound=4.0, name=f"layer_{k}", **NETWORKS
        )
        layers.append(tfb.Invert(layer))
    bijector = tff.bijectors.StandardizedContext(tfb.Chain([tff.bijectors.Standardize(size), *layers]))
    return tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [size]), bijector)


class Distillation(tff.objectives.Objective):
    """For a teacher t and a student s, from z to x: |s(t⁻¹(x)) - x|² for data x, and |t⁻¹(s(z)) - z|² for z ~ N(0, I).

    t⁻¹ and s are the parallel directions of the two.
    """

    def __init__(self, teacher):
        self.teacher = teacher.distribution

    def loss_per_row(self, distribution, x, context, seed):
        to_z = tff.condition(self.teacher, context).bijector.inverse
        to_x = tff.condition(distribution, context).bijector.forward
        z = tf.random.stateless_normal(tf.shape(x), seed)
        of_x, of_z = to_x(to_z(x)) - x, to_z(to_x(z)) - z
        return tf.reduce_sum(of_x**2, -1) + tf.reduce_sum(of_z**2, -1)


def train(name, model, context, x, epochs, objective=None):
    start = time.process_time()
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * int(np.ceil(0.95 * len(x) / 512)))
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0), objective=objective)
    history = model.fit(context, x, batch_size=512, epochs=epochs, validation_split=0.05, verbose=0).history
    losses = " ".join(f"{loss:.2f}" for loss in history["loss"])
    print(f"{name}: loss {losses}; -log p held out {history['val_loss'][-1]:.2f}; ", end="")
    print(f"{time.process_time() - start:.0f} s of CPU", flush=True)
    return model


def generate(calorimeter, first, second, energy, seed):
    """Showers by both steps, and the seconds that the second one takes when it is compiled."""
    log_energy = np.log(energy)
    u = first.sample(1, log_energy, seed=seed)[0].numpy()
    context = np.concatenate([log_energy, u], 1)
    for _ in range(2):
        start = time.perf_counter()
        v = second.sample(1, context, seed=seed)[0].numpy()
        seconds = time.perf_counter() - start
    return calorimeter.decode(energy, u, v), seconds


def classifier_auc(energy, simulated, generated, epochs):
    """How well a network tells the two apart: 0.5 is not at all, 1 always. One half trains it, the other is judged."""
    x = np.log(np.concatenate([np.maximum(np.concatenate([simulated, generated]), 5e-4), np.tile(energy, [2, 1])], 1))
    x, is_simulated = (x - x.mean(0)) / x.std(0), np.repeat([1.0, 0.0], len(simulated))
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.split(order, 2)
    layers = [keras.layers.Dense(128, "silu"), keras.layers.Dense(128, "silu"), keras.layers.Dense(1, "sigmoid")]
    network = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    network.compile("adam", "binary_crossentropy", metrics=[keras.metrics.AUC(2000)], jit_compile=False)
    network.fit(x[train], is_simulated[train], batch_size=256, epochs=epochs, verbose=0)
    return network.evaluate(x[test], is_simulated[test], batch_size=1000, verbose=0)[1]


def quantities(calorimeter, energy, cells):
    """What is drawn: by name, values and bins."""
    energies = calorimeter.layer_energies(cells)
    bins = np.geomspace(1e-2, 100, 50)
    second = cells[:, calorimeter.layers[1]].reshape(-1, 4, 4)
    place = np.array([-0.75, -0.25, 0.25, 0.75])
    mean = second.sum(1) @ place / np.maximum(second.sum((1, 2)), 1e-9)
    return {
        **{f"energy in layer {k + 1} [GeV]": (energies[:, k], bins) for k in range(3)},
        "all energy / incident energy": (energies.sum(1) / energy[:, 0], np.linspace(0.5, 1.2, 50)),
        "cells with energy": (np.sum(cells > 0, 1), np.arange(37.5) - 0.5),
        "centre of layer 2 [Molière radii]": (mean, np.linspace(-0.8, 0.8, 50)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder for the picture")
    parser.add_argument("--rows", type=int, default=100_000, help="showers to train on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--layers", type=int, default=3, help="of the flows for the cells")
    parser.add_argument("--showers", type=int, default=20_000, help="showers to compare")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    calorimeter = tff.datasets.Calorimeter()
    energy, cells = calorimeter.sample(arguments.rows, seed=arguments.seed)
    u, v = calorimeter.encode(energy, calorimeter.filled(cells, arguments.seed))
    context = np.concatenate([np.log(energy), u], 1)
    first = tff.flows.neural_spline_autoregressive(3, num_layers=2, context_size=1, bound=4.0, seed=0)
    first = train("layers", tff.FlowModel(first), np.log(energy), u, arguments.epochs)
    size = {"num_layers": arguments.layers, "context_size": 4}
    teacher = tff.flows.neural_spline_autoregressive(33, bound=4.0, seed=0, **size, **NETWORKS)
    teacher = train("teacher", tff.FlowModel(teacher), context, v, arguments.epochs)
    student = tff.FlowModel(make_student(33, **size))
    train("student", student, context, v, arguments.epochs, Distillation(teacher))

    energy, cells = calorimeter.sample(arguments.showers, seed=arguments.seed + 1)
    showers = {"simulation": cells}
    for name, model in (("teacher", teacher), ("student", student)):
        showers[name], seconds = generate(calorimeter, first, model, energy, seed=1)
        auc = classifier_auc(energy, cells, showers[name], arguments.epochs)
        print(f"{name}: AUC of the classifier {auc:.3f}; {len(energy) / seconds:,.0f} showers a second")

    figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
    styles: tuple[dict, ...] = (
        {"color": "0.85", "histtype": "stepfilled"},
        {"color": "tab:blue", "linewidth": 3},
        {"color": "tab:orange"},
    )
    for (name, found), style in zip(showers.items(), styles, strict=True):
        drawn = quantities(calorimeter, energy, found)
        for axis, (label, (values, bins)) in zip(axes.flat, drawn.items(), strict=True):
            axis.hist(values, bins, label=name, **{"histtype": "step", **style})
            axis.set(xlabel=label, yticks=[], xscale="log" if "GeV" in label else "linear")
    axes[0, 0].legend(frameon=False)
    path = arguments.output / "calorimeter.png"
    figure.savefig(path, dpi=100)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
