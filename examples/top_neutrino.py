"""The neutrino of a top quark's decay: a flow for its momentum, beside a network that gives one answer.

    python examples/top_neutrino.py --output out

The setting is that of Leigh et al. 2022 (arXiv 2207.00664). Simulated events of `tff.datasets.TopDecays`, each of a
lepton, missing momentum and up to 10 jets, train a flow for (p_x, p_y, η) of the neutrino, and a regression by squared
error, both with a network in the manner of Deep Sets for the jets. The mass of the W boson leaves two η for each event:
the flow has both as modes, and says how likely they are; the regression answers with something between them. Writes
`top_neutrino.png`: the posterior of one event, and over many events the distributions of η, p_T and the W boson's mass.
"""

import argparse
import pathlib
import time

import keras
import matplotlib
import numpy as np

import tfp_flows as tff

matplotlib.use("agg")
from matplotlib import pyplot as plt

SHAPES = {"lepton": (2,), "missing": (2,), "jets": (10, 5)}


def make_embedding(size):
    """A network for a context: each jet beside lepton and missing momentum, a sum over the jets, and `size` outputs."""
    layers = keras.layers
    context = {name: keras.Input(shape, name=name) for name, shape in SHAPES.items()}
    lepton, missing = layers.Rescaling([0.01, 1.0])(context["lepton"]), layers.Rescaling(0.01)(context["missing"])
    event = layers.Concatenate()([lepton, missing])
    jets = layers.Rescaling([0.01, 0.01, 1.0, 1.0, 1.0])(context["jets"])
    hidden = layers.Concatenate()([jets, layers.RepeatVector(10)(event)])
    for _ in range(2):
        hidden = layers.Dense(64, "silu")(hidden)
    is_there = context["jets"][..., -1:]
    hidden = layers.Concatenate()([event, keras.ops.sum(is_there * hidden, axis=1)])
    for _ in range(2):
        hidden = layers.Dense(128, "silu")(hidden)
    return keras.Model(context, layers.Dense(size)(hidden))


def train(name, model, context, theta, epochs, loss=None):
    """The same training for both models; `loss` is None for the flow's own."""
    start = time.process_time()
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * int(np.ceil(0.95 * len(theta) / 256)))
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0), loss, steps_per_execution=16)
    history = model.fit(context, theta, batch_size=256, epochs=epochs, validation_split=0.05, verbose=0).history
    training, held_out, seconds = history["loss"][-1], history["val_loss"][-1], time.process_time() - start
    print(f"{name}: loss {training:.3f}, held out {held_out:.3f}, {seconds:.0f} s of CPU", flush=True)


def weigh_modes(solutions, eta, theta):
    """Prints how many draws of η `[m, n]` are at the likelier of two solutions, and how often that is the right one.

    Returns the number of an event whose solutions are far apart and about equally likely.
    """
    middle, distance = solutions.mean(1), np.ptp(solutions, axis=1)
    upper = np.mean(eta > middle, axis=0)
    share, is_right = np.maximum(upper, 1 - upper), (upper > 0.5) == (theta[:, 2] > middle)
    print(f"solutions more than 1 apart: {np.mean(distance > 1):.0%} of {len(theta):,} events; the likelier one has")
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        rows = (distance > 1) & (share >= low) & (share <= high)
        if rows.any():
            said, found = share[rows].mean(), is_right[rows].mean()
            print(f"  {low} to {high} of the draws: {said:.3f} on average, and is right in {found:.3f} of {rows.sum()}")
    return np.argmin(np.abs(upper - 0.5) + (distance < 2.5))


def quantities(context, theta):
    """η, p_T, and the mass of lepton and neutrino: p_y of the lepton is 0."""
    p_t, eta = context["lepton"].T
    away = np.linalg.norm(theta[:, :2], axis=1)
    return theta[:, 2], away, np.sqrt(2 * p_t * np.maximum(away * np.cosh(theta[:, 2] - eta) - theta[:, 0], 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder for the picture")
    parser.add_argument("--rows", type=int, default=200_000, help="events to train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--events", type=int, default=5000, help="events to compare on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    decays = tff.datasets.TopDecays()
    context, theta = decays.sample(arguments.rows, seed=arguments.seed)
    regression, mean, scale = make_embedding(3), theta.mean(0), theta.std(0)
    train("regression", regression, context, (theta - mean) / scale, arguments.epochs, loss="mse")
    flow = tff.flows.neural_spline_autoregressive(
        3, num_layers=3, embedding=make_embedding(64), activation="silu", seed=arguments.seed
    )
    model = tff.FlowModel(flow)
    train("flow", model, context, theta, arguments.epochs)

    context, theta = decays.sample(arguments.events, seed=arguments.seed + 1)
    answer = mean + scale * regression.predict(context, verbose=0)
    draws, solutions = model.sample(200, context, seed=1).numpy(), decays.solutions(context)
    k = weigh_modes(solutions, draws[..., 2], theta)

    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    axes[0].hist(draws[:, k, 2], 30, color="tab:blue", alpha=0.5, label="flow")
    axes[0].vlines(solutions[k], 0, 5, "black", "dotted", label="W mass: two solutions")
    for value, name, color in ((answer[k, 2], "regression", "tab:orange"), (theta[k, 2], "truth", "black")):
        axes[0].axvline(value, color=color, label=name)
    axes[0].set(xlabel="η", title="one event: p(η | event)", yticks=[])
    print("Wasserstein's distance from the truth over all events, in the truth's standard deviations")
    found = [quantities(context, values) for values in (theta, draws[0], answer)]
    names, limits = ("η", "p_T", "m(l, ν)"), ((-5, 5), (0, 250), (30, 130))
    for axis, label, ends, truth, flow, regression in zip(axes[1:], names, limits, *found, strict=True):
        axis.hist(truth, 50, range=ends, color="0.85", label="truth")
        for name, values, color in (("flow", flow, "tab:blue"), ("regression", regression, "tab:orange")):
            axis.hist(values, 50, range=ends, histtype="step", color=color, linewidth=1.5, label=name)
            print(f"  {label:8} {name:10} {np.abs(np.sort(values) - np.sort(truth)).mean() / truth.std():.3f}")
        axis.set(xlabel=label if label == "η" else f"${label}$ [GeV]", yticks=[])
    axes[2].set_title(f"{arguments.events:,} events: truth, one draw of the flow each, the regression")
    for axis in axes[:2]:
        axis.set_ylim(0, 1.4 * axis.get_ylim()[1])
        axis.legend(frameon=False, fontsize=8, ncols=2)
    path = arguments.output / "top_neutrino.png"
    figure.savefig(path, dpi=120)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
