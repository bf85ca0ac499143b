"""The masses of two black holes from a noisy strain: a flow's posterior, its evidence and its coverage.

    python examples/gravitational_waves.py

Simulated strains, fresh for every batch, train a flow for the masses given the strain, with a convolutional network to
compress the strain and TFP's bijectors to keep the masses inside the prior. The likelihood is known here, and two
masses fit on a grid, so the posterior, its evidence by importance sampling and its coverage can be compared with exact
values. Writes `gravitational_waves.png`.
"""

import argparse
import pathlib
import time
import warnings

import keras
import matplotlib
import numpy as np
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

matplotlib.use("agg")
from matplotlib import pyplot as plt

TRUTH = [36.0, 29.0]  # solar masses


def make_model(problem):
    """p(masses | strain): splines, a Gaussian whose covariance depends on the strain, and the map to the prior."""
    layers = keras.layers
    embedding = keras.Sequential(
        [
            keras.Input((problem.size,)),
            layers.Reshape((problem.size, 1)),
            layers.Conv1D(64, 32, strides=4, padding="same", activation="silu"),
            layers.Conv1D(64, 8, strides=4, padding="same", activation="silu"),
            layers.Flatten(),
            layers.Dense(128, activation="silu"),
            layers.Dense(64, activation="silu"),
        ]
    )
    parts: dict = {"context_size": 64, "activation": "silu", "seed": 0}
    splines = tff.flows.neural_spline_coupling(2, num_layers=4, standardize=False, **parts)
    gaussian = tff.bijectors.TriangularAffine(2, **parts)
    flow = tfd.TransformedDistribution(splines.distribution, tfb.Chain([problem.bijector, gaussian, splines.bijector]))
    return tff.FlowModel(flow, embedding=embedding)


def compare_evidence(model, problem, events, draws):
    """Compares the evidence by importance sampling, and the flow itself, with the grid."""
    pulls, errors, efficiencies, shapes, divergences = [], [], [], [], []
    for k, strain in enumerate(problem.sample(events, seed=2)[0]):
        exact = problem.posterior(strain, size=100)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about unreliable weights, which are counted below
            found = tff.inference.importance_sample(
                model, lambda masses, d=strain: problem.joint_log_prob(masses, d), draws, strain, seed=k
            )
        pulls.append((found.log_evidence - exact.log_evidence) / found.log_evidence_std)
        errors.append(found.log_evidence_std)
        efficiencies.append(found.ess / draws)
        shapes.append(found.pareto_k)
        log_q = flow_log_prob(model, exact, strain)
        divergences.append(np.sum(exact.probability * (exact.log_prob - log_q)))
    rows = {
        "KL(exact || flow)": f"{np.median(divergences):.3f} nats (median), {np.max(divergences):.3f} (largest)",
        "effective sample size": f"{np.median(efficiencies):.0%} (median), {np.min(efficiencies):.0%} (minimum)",
        "error of log evidence": f"{np.median(errors):.4f} nats (median)",
        "pulls of log evidence": f"root mean square {np.sqrt(np.mean(np.square(pulls))):.2f}, "
        f"largest {np.abs(pulls).max():.1f}",
        "Pareto k above 0.7": f"{np.sum(np.array(shapes) > 0.7)} events",
    }
    print(f"{events} events, {draws} draws each, against the exact posterior on a grid")
    print("\n".join(f"  {name:22} {value}" for name, value in rows.items()))


def flow_log_prob(model, exact, strain):
    """The flow's log-density at the points of the grid, `[size, size]`."""
    points = exact.masses.reshape(-1, 2).astype(np.float32)
    return model.log_prob(points, strain).numpy().reshape(exact.log_prob.shape)


def draw_strain(axes, problem, strain, wave):
    axes.plot(problem.times, strain, color="tab:gray", linewidth=0.7, label="whitened strain")
    axes.plot(problem.times, wave, color="tab:red", linewidth=1.2, label="wave alone")
    axes.set(xlabel="time [s]", ylabel="standard deviations of the noise", title="what is seen")
    axes.set(xlim=(0, problem.times[-1]), ylim=1.3 * np.abs(strain).max() * np.array([-1, 1]))
    axes.legend(loc="upper left", frameon=False)


def draw_posterior(axes, exact, log_q):
    """The regions of highest density that hold 50 % and 90 %: filled for the flow, as lines for the exact posterior."""
    m1, m2 = np.moveaxis(exact.masses, -1, 0)
    q_levels, levels = (region_levels(log_prob, m1) for log_prob in (log_q, exact.log_prob))
    axes.contourf(m1, m2, log_q, [*q_levels, np.inf], colors=["#c6dbef", "#6baed6"])
    axes.contour(m1, m2, exact.log_prob, levels, colors="black", linestyles="solid", linewidths=1)
    axes.plot(*TRUTH, "*", color="tab:red", markersize=10)
    inside = exact.log_prob > levels[0] - 2
    low, high = m1[inside].min() - 1, m1[inside].max()
    axes.fill_between([low, high], [low, high], high, color="0.93", linewidth=0)  # where m2 > m1
    axes.plot([low, high], [low, high], color="0.6", linewidth=1)
    axes.set(xlabel="$m_1$ [solar masses]", ylabel="$m_2$ [solar masses]", title="posterior: 50 % and 90 %")
    axes.set(xlim=(low, high), ylim=(m2[inside].min() - 1, m2[inside].max() + 1))
    handles = [
        plt.Rectangle((0, 0), 1, 1, color="#6baed6"),
        plt.Line2D([], [], color="black", linewidth=1),
        plt.Line2D([], [], color="tab:red", marker="*", linestyle="", markersize=10),
    ]
    axes.legend(handles, ["flow", "exact", "truth"], loc="upper right", framealpha=1, edgecolor="none")


def region_levels(log_prob, area):
    """The log-densities above which 90 % and 50 % of the probability lie; cells of the grid have areas like m1."""
    order = np.argsort(-log_prob, axis=None)
    probability = np.cumsum((np.exp(log_prob - log_prob.max()) * area).flat[order])
    return log_prob.flat[order[np.searchsorted(probability / probability[-1], [0.9, 0.5])]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=".", help="the folder for the picture")
    parser.add_argument("--steps", type=int, default=6000, help="batches of 256 strains to train on")
    parser.add_argument("--events", type=int, default=500, help="events for the coverage; a tenth for the evidence")
    parser.add_argument("--draws", type=int, default=4000, help="draws for the evidence of an event")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)

    problem = tff.datasets.GravitationalWaves()
    model = make_model(problem)
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, arguments.steps)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0))
    start = time.perf_counter()
    model.fit(
        tff.datasets.simulator(problem.draw, batch_size=256, seed=arguments.seed),
        steps_per_epoch=arguments.steps,
        verbose=0,
    )
    print(f"trained on {256 * arguments.steps:,} strains in {time.perf_counter() - start:.0f} s")

    compare_evidence(model, problem, max(2, arguments.events // 10), arguments.draws)
    strains, masses = problem.sample(arguments.events, seed=1)
    coverage = tff.inference.coverage(model, masses, strains)
    print(coverage)

    wave = problem.waveform(TRUTH, phase=0.5).numpy()
    strain = wave + np.random.default_rng(3).normal(size=problem.size).astype(np.float32)
    exact = problem.posterior(strain)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
    draw_strain(axes[0], problem, strain, wave)
    draw_posterior(axes[1], exact, flow_log_prob(model, exact, strain))
    tff.plotting.coverage(coverage, axes[2])
    axes[2].set_title(f"coverage, {arguments.events} events")
    path = arguments.output / "gravitational_waves.png"
    figure.savefig(path, dpi=120)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
