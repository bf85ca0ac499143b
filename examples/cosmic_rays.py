"""Sources of cosmic rays: 7 parameters from 420 counts, by a conditional flow and, as a check, by a Markov chain.

    python examples/cosmic_rays.py --output out

The setting is that of Bister et al. 2022 (arXiv 2110.09493): spectral index, cut-off and five abundances of the sources
of `tff.datasets.CosmicRays`, from the energy spectrum and the depths of the shower's maximum, by a flow of 6 coupling
layers of 3 x 256. The flow is trained once, on simulations, and then gives the posterior of any observation. The chain,
of `tfp.mcmc`, runs for one observation, on the exact likelihood. Prints how far apart they are, and how long each
takes; writes `cosmic_rays.png`, the posterior of one observation by both.

Everything uses the coordinates z in which the prior is a standard normal, as is the base of the flow. Training has two
steps. First an affine bijector alone, whose shift and triangular matrix are outputs of a network. This is a regression,
which brings every posterior, far narrower than the prior along some directions, to about one place and width. Then the
couplings as well, which start as the identity: they learn the shape.
"""

import argparse
import pathlib
import time
import warnings

import corner
import keras
import matplotlib
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

matplotlib.use("Agg")

PROBLEM = tff.datasets.CosmicRays()
# The sum over 420 counts needs float64 where small differences of it matter.
EXACT = tff.datasets.CosmicRays(dtype=tf.float64)
BATCH = 256


def simulate(seed, batch_size):
    """Features of counts, and the z that they come from, for `tff.datasets.simulator`."""
    for_z, for_counts = tf.unstack(tf.random.split(seed))
    z = PROBLEM.prior.distribution.sample(batch_size, seed=for_z)
    return PROBLEM.features(PROBLEM.simulate(PROBLEM.prior.bijector.forward(z), for_counts)), z


def make_models(num_layers, seed):
    """The regression and the whole flow, which share the embedding of the counts and the affine bijector."""
    features = keras.Input([422])
    hidden = keras.layers.Dense(256, "silu")(features)
    for _ in range(3):
        hidden = hidden + keras.layers.Dense(256, "silu")(hidden)
    embedding = keras.Model(features, keras.layers.Dense(64)(hidden))
    affine = tff.bijectors.TriangularAffine(7, context_size=64, activation="silu", seed=seed)
    couplings = tff.flows.neural_spline_coupling(
        7,
        num_layers,
        context_size=64,
        hidden_units=(256, 256, 256),
        activation="silu",
        bound=5.0,
        standardize=False,  # the data is z, near a standard normal, and the context the embedding's output
        seed=seed,
    ).bijector.bijectors
    return [
        tff.FlowModel(tfd.TransformedDistribution(PROBLEM.prior.distribution, tfb.Chain(parts)), embedding)
        for parts in ([affine], [affine, *couplings])
    ]


def train(model, data, steps, learning_rate):
    """`steps` batches of new simulations, with a learning rate that falls to 0; returns the seconds."""
    start = time.perf_counter()
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0), steps_per_execution=10)
    history = model.fit(data, epochs=5, steps_per_epoch=max(1, steps // 5), verbose=0)
    print("loss:", " ".join(f"{loss:.3f}" for loss in history.history["loss"]), flush=True)
    return time.perf_counter() - start


@tf.function(jit_compile=True, autograph=False)
def joint_log_prob(z, counts):
    return EXACT.joint_log_prob(z, counts)


@tf.function(jit_compile=True, autograph=False)
def chain(counts, start, num_draws):
    """Draws `[num_draws, chains, 7]` of z by the No-U-Turn sampler, after the same number to adapt its step size."""
    sampler = tfp.mcmc.NoUTurnSampler(
        lambda z: EXACT.joint_log_prob(z, counts), step_size=tf.constant(0.05, tf.float64), max_tree_depth=8
    )
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(sampler, num_adaptation_steps=int(0.8 * num_draws))
    return tfp.mcmc.sample_chain(
        num_draws, start, kernel=kernel, num_burnin_steps=num_draws, trace_fn=None, seed=(0, 1)
    )


def observe(k):
    """Observation k: the true θ, and its counts."""
    theta = PROBLEM.prior.sample(seed=(k, 0))
    return theta.numpy(), PROBLEM.simulate(theta, (k, 1))


def compare(model, counts, truth, num_draws):
    """Flow, reweighted flow and chain for one observation: prints them, and returns θ by flow and chain."""
    to_theta = EXACT.prior.bijector.forward
    features, counts = PROBLEM.features(counts), tf.cast(counts, tf.float64)
    start = time.perf_counter()
    z = model.sample(10_000, features, seed=0)
    flow, flow_seconds = to_theta(tf.cast(z, tf.float64)).numpy(), time.perf_counter() - start

    start = time.perf_counter()
    with warnings.catch_warnings():  # the Pareto shape is in the table
        warnings.simplefilter("ignore")
        weighted = tff.inference.importance_sample(
            model, lambda z: joint_log_prob(tf.cast(z, tf.float64), counts), 10_000, features, seed=1
        )
    corrected = to_theta(tf.cast(weighted.samples, tf.float64)).numpy()
    weighted_seconds = time.perf_counter() - start

    start = time.perf_counter()
    draws = chain(counts, EXACT.prior.distribution.sample(8, seed=(0, 0)), num_draws)
    markov, chain_seconds = to_theta(draws).numpy(), time.perf_counter() - start
    rhat = tfp.mcmc.potential_scale_reduction(draws).numpy().max()
    size = tfp.mcmc.effective_sample_size(draws, cross_chain_dims=1).numpy().min()
    markov = markov.reshape(-1, 7)

    mean, std = markov.mean(0), markov.std(0)
    reweighted = weighted.mean(corrected)
    width = np.sqrt(weighted.mean((corrected - reweighted) ** 2))
    header = ("truth", "chain", "± std", "flow", "± std", "shift", "width", "shift*", "width*")
    print(" " * 8 + "".join(f"{word:>8}" for word in header))
    for k, label in enumerate(EXACT.labels):
        row = [truth[k], mean[k], std[k], flow[:, k].mean(), flow[:, k].std()]
        row += [(row[3] - mean[k]) / std[k], row[4] / std[k], (reweighted[k] - mean[k]) / std[k], width[k] / std[k]]
        print(f"{label:8}" + "".join(f"{value:8.3f}" for value in row))
    print(f"flow: {len(flow):,} draws in {flow_seconds:.2f} s; with weights* {weighted_seconds:.2f} s: {weighted}")
    print(f"chain: {len(markov):,} draws in {chain_seconds:.1f} s; R-hat {rhat:.3f}, effective sample size {size:.0f}")
    return flow, markov


def draw(path, flow, markov, truth, counts):
    """The posterior by chain and flow, and in the corner the observed spectrum with the flow's prediction."""
    figure = tff.plotting.corner(markov, flow, PROBLEM.labels, names=("chain", "flow"))
    corner.overplot_lines(figure, truth, color="tab:gray")
    axes = figure.add_axes((0.64, 0.6, 0.33, 0.27))
    energy = 18.7 + 0.075 * (np.arange(20) + 0.5)
    axes.errorbar(energy, counts[:20], np.sqrt(counts[:20]), fmt="k.", label="observed")
    band = np.quantile(EXACT.expected(flow[:1000]).numpy()[:, :20], [0.025, 0.975], axis=0)
    axes.fill_between(energy, *band, color="tab:orange", alpha=0.4, label="flow, 95 %")
    axes.set(xlabel="log10(E / eV)", ylabel="events", yscale="log", ylim=(0.5, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=60)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder for the picture")
    parser.add_argument("--regression", type=int, default=8_000, help="batches to train the regression with")
    parser.add_argument("--steps", type=int, default=6_000, help="batches to train the whole flow with")
    parser.add_argument("--layers", type=int, default=6, help="couplings of the flow")
    parser.add_argument("--draws", type=int, default=500, help="draws of each of the 8 chains")
    parser.add_argument("--observations", type=int, default=3, help="observations to compare on")
    parser.add_argument("--seed", type=int, default=0, help="of networks and simulations")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    data = tff.datasets.simulator(simulate, BATCH, arguments.seed)
    regression, model = make_models(arguments.layers, arguments.seed)
    seconds = train(regression, data, arguments.regression, 2e-3), train(model, data, arguments.steps, 1e-3)
    print(f"training: {seconds[0]:.0f} s for the regression, {seconds[1]:.0f} s for the flow, for all observations")
    features, z = simulate(tf.constant([arguments.seed, 2]), 500)
    print(tff.inference.coverage(model, z, features, levels=[0.1, 0.3, 0.5, 0.7, 0.9]))

    for k in range(arguments.observations):
        print(f"\nobservation {k + 1}")
        truth, counts = observe(k)
        flow, markov = compare(model, counts, truth, arguments.draws)
        if k == 0:
            draw(arguments.output / "cosmic_rays.png", flow, markov, truth, counts.numpy())


if __name__ == "__main__":
    main()
