"""Flows fitted to four energies by variational inference: figure 3 of Rezende & Mohamed 2015 (arXiv 1505.05770).

    python examples/variational_2d.py

There is no data, only an energy U(x): the flow q is trained on its own samples, by the reverse Kullback-Leibler
divergence KL(q || p) = E_q[log q(x) + U(x)] + log Z for p(x) = exp(-U(x)) / Z. Z comes from a grid, so that the
divergence itself can be printed, in nats. Writes `variational_2d.png`, with the densities of target and flows side by
side. The densities of planar flows on a grid need their inverse, which exists here.
"""

import argparse
import pathlib

import keras
import matplotlib
import numpy as np
import tensorflow as tf

import tfp_flows as tff

matplotlib.use("agg")
from matplotlib import pyplot as plt

BATCH = 512
WINDOW = 4.0


def energies(x):
    """U1 to U4 of the paper's table 1 at x `[n, 2]`: `[4, n]`.

    U2 to U4 are unbounded along x1; as in the paper only a window counts, here by a steep wall at |x1| = 4.
    """
    x1, x2 = tf.unstack(x, axis=-1)
    w1 = tf.sin(2 * np.pi * x1 / 4)
    w2 = 3 * tf.exp(-(((x1 - 1) / 0.6) ** 2) / 2)
    w3 = 3 * tf.sigmoid((x1 - 1) / 0.3)
    wall = (tf.nn.relu(tf.abs(x1) - WINDOW) / 0.2) ** 2 / 2
    ring = ((tf.norm(x, axis=-1) - 2) / 0.4) ** 2 / 2
    return tf.stack(
        [
            ring - log_sum_of_bells((x1 - 2) / 0.6, (x1 + 2) / 0.6),
            wall + ((x2 - w1) / 0.4) ** 2 / 2,
            wall - log_sum_of_bells((x2 - w1) / 0.35, (x2 - w1 + w2) / 0.35),
            wall - log_sum_of_bells((x2 - w1) / 0.4, (x2 - w1 + w3) / 0.35),
        ]
    )


def log_sum_of_bells(a, b):
    return tf.reduce_logsumexp(tf.stack([-(a**2) / 2, -(b**2) / 2]), 0)


def grid(half_width, size):
    """The points of a square grid, `[size², 2]`, and the area of a cell."""
    axis = np.linspace(-half_width, half_width, size, dtype="float32")
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), (axis[1] - axis[0]) ** 2


class Fit:
    """A flow that can be fitted to several energies in turn; everything is compiled once."""

    def __init__(self, flow):
        self.model = tff.FlowModel(flow)
        self.start = self.model.get_weights()
        self.optimizer = keras.optimizers.Adam(global_clipnorm=5.0)
        self.optimizer.build(self.model.trainable_weights)
        self.optimizer_start = [variable.numpy() for variable in self.optimizer.variables]

    @tf.function(jit_compile=True)
    def step(self, which, temperature, seed):
        """One step of gradient descent on the divergence, with the energy annealed, as in the paper."""
        weights = self.model.trainable_weights
        with tf.GradientTape() as tape:
            x, log_q = self.model.distribution.experimental_sample_and_log_prob(BATCH, seed=seed)
            loss = tf.reduce_mean(log_q + temperature * energies(x)[which])
        self.optimizer.apply_gradients(zip(tape.gradient(loss, [w.value for w in weights]), weights, strict=True))
        return loss

    def to(self, which, steps):
        """Fits the flow to one energy; returns E_q[log q + U] over fresh samples."""
        self.model.set_weights(self.start)
        for variable, value in zip(self.optimizer.variables, self.optimizer_start, strict=True):
            variable.assign(value)
        for k in range(steps):
            self.optimizer.learning_rate.assign(2.5e-3 * (1 + np.cos(np.pi * k / steps)))
            temperature = min(1.0, 0.01 + 2 * k / steps)
            self.step(tf.constant(which), tf.constant(temperature, tf.float32), tf.constant([k, which]))
        x, log_q = self.model.sample_and_log_prob(20_000, seed=1)
        return float(tf.reduce_mean(log_q + energies(x)[which]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=".", help="the folder for the picture")
    parser.add_argument("--steps", type=int, default=6000, help="steps of training for each flow and energy")
    parser.add_argument("--layers", type=int, nargs=2, default=[8, 32], help="the depths of the two planar flows")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    fits = {
        **{f"planar, {n} layers": Fit(tff.flows.planar(2, num_layers=n)) for n in arguments.layers},
        "NICE, 8 layers": Fit(tff.flows.nice(2, num_layers=8, hidden_units=(32, 32))),
    }
    points, cell = grid(8.0, 801)
    log_z = np.log(cell * np.exp(-energies(tf.constant(points)).numpy().astype("float64")).sum(-1))
    points, _ = grid(WINDOW, 101)

    figure, axes = plt.subplots(4, 1 + len(fits), figsize=(3 * (1 + len(fits)), 12.5), layout="constrained")
    print("KL(q || p) in nats  " + "".join(f"{name:>20}" for name in fits))
    for which, row in enumerate(axes):
        draw(row[0], np.exp(-energies(tf.constant(points))[which] - log_z[which]), f"U{which + 1}")
        divergences = []
        for axis, (name, fit) in zip(row[1:], fits.items(), strict=True):
            divergences.append(fit.to(which, arguments.steps) + log_z[which])
            draw(axis, np.exp(fit.model.log_prob(points)), f"{name}: KL {divergences[-1]:.3f}")
        print(f"U{which + 1:<19}" + "".join(f"{divergence:20.3f}" for divergence in divergences), flush=True)
    path = pathlib.Path(arguments.output) / "variational_2d.png"
    figure.savefig(path, dpi=100)
    print(f"written: {path.name}")


def draw(axis, density, title):
    size = int(np.sqrt(len(density)))
    axis.imshow(np.reshape(density, [size, size]), origin="lower", extent=[-WINDOW, WINDOW] * 2, cmap="viridis")
    axis.set(title=title, xticks=[], yticks=[])


if __name__ == "__main__":
    main()
