"""Forces of a flow: train on the energies' gradients beside samples, and compare with a spline flow, whose forces jump.

python examples/force_matching.py --seconds 60 --output out

Two potentials in units of kT: a double well in the plane, and two torsion angles of a small peptide, on a torus.
"""

import argparse
import math
import pathlib
import time

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def double_well(x):
    """Two wells at x = ±1, 2.5 kT deep, along a parabola."""
    return 2.5 * (x[..., 0] ** 2 - 1) ** 2 + 3 * (x[..., 1] - 0.8 * x[..., 0] ** 2) ** 2


def torsion(x):
    """A few cosines of both angles, as force fields have them, with a term that couples them."""
    φ, ψ = x[..., 0], x[..., 1]
    return 1.5 * tf.cos(φ - 1) + tf.cos(2 * ψ + 0.5) + 0.8 * tf.cos(φ + ψ) + 0.5 * tf.cos(3 * φ)


def sample(potential, n, extent, seed):
    """Exact draws from exp(-U) / Z on [-extent, extent]², by rejection, and the forces -∇U there."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-extent, extent, 400)] * 2), -1).astype("float32")
    least = float(tf.reduce_min(potential(tf.constant(grid)))) - 0.05
    draws: list = []
    while sum(map(len, draws)) < n:
        x = generator.uniform(-extent, extent, size=(4 * n, 2)).astype("float32")
        draws.append(x[generator.uniform(size=4 * n) < np.exp(least - potential(tf.constant(x)))])
    x = np.concatenate(draws)[:n]
    return x, forces_of(lambda x: -potential(x), x)


def forces_of(log_density, x):
    """∇ log p at every row."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = log_density(tf.identity(x))
    return tape.gradient(value, x)


@keras.saving.register_keras_serializable("examples")
class CosineAndSine(keras.layers.Layer):
    """An angle as a point of the circle, so that what follows has no seam."""

    def call(self, angle):
        return tf.concat([tf.cos(angle), tf.sin(angle)], -1)


def torus_flow(transformer, num_layers, seed):
    """Couplings of two angles over the uniform distribution; each sees the other as a point of the circle."""
    keras.utils.set_random_seed(seed)
    layers = []
    for k in range(num_layers):
        parameters = keras.layers.Dense(transformer.num_parameters, kernel_initializer="zeros")
        network = [CosineAndSine(), *(keras.layers.Dense(64, "silu") for _ in range(2)), parameters]
        network = keras.Sequential([keras.Input((1,)), *network])
        parameters.bias.assign(transformer.initial_parameters())
        coupling = tff.bijectors.Coupling(2, transformer, mask=[k % 2 == 0, k % 2 == 1], conditioner=network)
        layers.append(tfb.Invert(coupling))
    uniform = tfd.Independent(tfd.Uniform(tf.fill([2], -math.pi), tf.fill([2], math.pi)), 1)
    return tfd.TransformedDistribution(uniform, tfb.Chain(layers))


def train(flow, objective, x, forces, seconds):
    """Trains for so many seconds of processor time, which other work does not shorten; the number of steps."""
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=5.0), objective=objective)
    budget = tff.callbacks.TimeBudget(seconds, time.process_time)
    rows = x if objective == "likelihood" else {"x": x, "forces": forces}
    model.fit(rows, batch_size=256, epochs=100_000, verbose=0, callbacks=[budget])
    return int(model.optimizer.iterations)


def main(seconds, output, rows, num_layers, seed):
    likelihood = "likelihood"  # without the forces a step is shorter
    with_forces = tff.objectives.ForceMatching()
    problems = {"double well": (double_well, 4.0), "torsion": (torsion, math.pi)}
    figure, axes = plt.subplots(len(problems), 1, figsize=(7, 8))
    print("root mean square of the forces' error, beside that of the forces; and -log p, in nats")
    for axis, (problem, (potential, extent)) in zip(axes, problems.items(), strict=True):
        x, forces = sample(potential, rows, extent, 2 * seed)
        test, test_forces = sample(potential, 5000, extent, 2 * seed + 1)
        line = np.stack([np.linspace(-1.5, 1.5, 1001), np.full(1001, 0.5)], -1).astype("float32")
        exact = forces_of(lambda x, u=potential: -u(x), line)[:, 0]
        axis.plot(line[:, 0], exact, "k", lw=3, alpha=0.3, label="exact")
        axis.set_ylim(1.3 * np.min(exact), 1.3 * np.max(exact))  # the spline's forces go far beyond
        for kind, objective in (("smooth", with_forces), ("smooth", likelihood), ("spline", likelihood)):
            if problem == "torsion":
                transformer = tff.transformers.Bump if kind == "smooth" else tff.transformers.RationalQuadratic
                flow = torus_flow(transformer(bound=math.pi, circular=True), num_layers, seed)
            else:
                preset = tff.flows.smooth if kind == "smooth" else tff.flows.neural_spline_coupling
                flow = preset(2, num_layers=num_layers, seed=seed)
            count = train(flow, objective, x, forces, seconds)
            error = np.sqrt(np.mean((forces_of(flow.log_prob, test) - test_forces) ** 2))
            size, loss = np.sqrt(np.mean(test_forces**2)), -np.mean(flow.log_prob(test))
            name = f"{kind}, {'likelihood and forces' if objective is with_forces else 'likelihood'}"
            print(f"{problem:12} {name:30} {count:6} steps   {error:.4f} of {size:.2f}   {loss:.4f}", flush=True)
            axis.plot(line[:, 0], forces_of(flow.log_prob, line)[:, 0], lw=1, label=name)
        axis.set(title=problem, xlabel="first coordinate", ylabel="force along it, kT")
        axis.legend()
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(folder / "force_matching.png", dpi=120)
    print(f"wrote {folder / 'force_matching.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="to train every flow, without compilation")
    parser.add_argument("--output", default="out", help="folder of the picture")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the samples and the flows")
    arguments = parser.parse_args()
    main(arguments.seconds, arguments.output, arguments.rows, arguments.layers, arguments.seed)
