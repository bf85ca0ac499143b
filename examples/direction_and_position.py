"""Where a shower of light was and where it went, as one posterior: a flow on the product of space and sphere.

    python examples/direction_and_position.py

Simulated showers in a detector of 30 sensors, fresh for every batch, train a flow for position and direction given
charges and times. The likelihood is known here: so its posterior is held against importance sampling and against a
Markov chain, and its coverage is counted. Writes `direction_and_position.png`.
"""

import argparse
import functools
import pathlib
import time
import warnings

import keras
import matplotlib
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

matplotlib.use("agg")
from matplotlib import pyplot as plt


def make_embedding(showers, size=64, width=256):
    """A residual network of √q and √q t / σ, in which the noise has the same width whatever a sensor has seen."""
    context = keras.Input((60,))
    root, times = keras.ops.split(context, 2, -1)
    hidden = keras.layers.Dense(width)(keras.ops.concatenate([root, root * times / showers.noise], -1))
    for _ in range(3):
        inner = keras.layers.Dense(width, "silu")(keras.layers.LayerNormalization()(hidden))
        hidden = hidden + keras.layers.Dense(width)(inner)
    return keras.Model(context, keras.layers.Dense(size)(keras.layers.LayerNormalization()(hidden)))


def make_position(num_layers, **given):
    """p(position | sensors): splines, and a Gaussian whose mean and covariance depend on the sensors as well.

    The posterior is about ten times narrower than the prior: without the Gaussian one bin of a spline would hold it.
    """
    splines = tff.flows.neural_spline_autoregressive(3, num_layers, activation="silu", standardize=False, **given)
    gaussian = tff.bijectors.TriangularAffine(3, activation="silu", **given)
    return tfd.TransformedDistribution(splines.distribution, tfb.Chain([gaussian, splines.bijector]))


def make_model(showers, num_layers):
    """p(position, direction | sensors): the direction given the position, with a network for charges and times."""
    parts = {"e3": functools.partial(make_position, num_layers), "s2": {"num_layers": num_layers, "activation": "silu"}}
    flow = tff.flows.product("e3+s2", embedding=make_embedding(showers), parts=parts, seed=0)
    return tff.FlowModel(flow)


def weigh(model, showers, events, draws):
    """Prints the effective sample sizes of importance sampling, and how often its weights are not to be trusted."""
    efficiencies, shapes = [], []
    for k, context in enumerate(showers.sample(events, seed=2)[0]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of weights that are not reliable: they are counted below
            found = tff.inference.importance_sample(
                model, lambda theta, c=context: showers.joint_log_prob(theta, c), draws, context, seed=k
            )
        efficiencies.append(found.ess / draws)
        shapes.append(found.pareto_k)
    print(
        f"effective sample size of {draws} draws, {events} events: {np.median(efficiencies):.0%} (median), "
        f"{np.min(efficiencies):.0%} (least); Pareto k above 0.7: {np.sum(np.array(shapes) > 0.7)} events"
    )


def markov_chain(showers, context, start, num_steps, seed):
    """Draws of the posterior by random-walk Metropolis, one chain for each row of `start`.

    The direction walks as any vector of R³ with a normal prior: the uniform prior of its direction, times one of its
    length, which is left out.
    """

    def unit(state):
        return tf.concat([state[:, :3], tf.math.l2_normalize(state[:, 3:], -1)], -1)

    def target(state):
        return showers.joint_log_prob(unit(state), context) - tf.reduce_sum(state[:, 3:] ** 2, -1) / 2

    kernel = tfp.mcmc.RandomWalkMetropolis(target, tfp.mcmc.random_walk_normal_fn(0.5 * np.std(start, 0)))

    @tf.function(jit_compile=True)
    def run(start, seed):
        return tfp.mcmc.sample_chain(
            num_steps, start, kernel=kernel, num_burnin_steps=num_steps, trace_fn=None, seed=seed
        )

    return unit(tf.reshape(run(tf.constant(start, tf.float64), tf.constant(seed)), [-1, 6])).numpy()


def summary(name, theta):
    direction, concentration = tff.inference.von_mises_fisher(theta[:, 3:])
    position, width = theta[:, :3].mean(0), theta[:, :3].std(0)
    pairs = ", ".join(f"{mean:.2f} ± {std:.2f}" for mean, std in zip(position, width, strict=True))
    print(f"  {name:12} position {pairs}; direction {direction.round(2).tolist()}, κ {concentration:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=".", help="the folder for the picture")
    parser.add_argument("--steps", type=int, default=12_000, help="batches of 512 showers to train on, in ten epochs")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--events", type=int, default=500, help="events for the coverage; a tenth for the weights")
    parser.add_argument("--draws", type=int, default=2000, help="draws of an event's posterior")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)

    showers = tff.datasets.Showers()
    model = make_model(showers, arguments.layers)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, arguments.steps, warmup_target=3e-3, warmup_steps=max(1, arguments.steps // 20)
    )
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0))
    start = time.process_time()
    model.fit(
        tff.datasets.simulator(showers.draw, batch_size=512, seed=arguments.seed),
        steps_per_epoch=max(1, arguments.steps // 10),
        epochs=10,
        verbose=2,
    )
    seconds, count = time.process_time() - start, 512 * int(model.optimizer.iterations)
    print(f"trained on {count:,} showers in {seconds:.0f} s of CPU", flush=True)

    weigh(model, showers, max(2, arguments.events // 10), arguments.draws)
    contexts, thetas = showers.sample(arguments.events, seed=1)
    coverage = tff.inference.manifold_coverage(model, thetas, contexts)
    for name, found in coverage.items():
        print(f"coverage of {name:4} inside its 99 % band: {found.inside}")

    context, truth = (part[0] for part in showers.sample(1, seed=3))
    draws = model.sample(arguments.draws, context, seed=0).numpy()
    chain = markov_chain(showers, context, draws[:20], max(10, arguments.draws // 4), (0, 1))
    print("one event's posterior")
    summary("flow", draws)
    summary("Markov chain", chain)
    summary("truth", np.stack([truth, truth]))

    figure = plt.figure(figsize=(12, 4), layout="constrained")
    grid = figure.add_gridspec(1, 3, width_ratios=[1, 1.6, 1])
    axes = figure.add_subplot(grid[0])
    for theta, color, name in ((chain, "black", "Markov chain"), (draws, "tab:blue", "flow")):
        axes.plot(*theta[-len(draws) :, [0, 2]].T, ".", color=color, markersize=2, alpha=0.3, label=name)
    axes.plot(*truth[[0, 2]], "*", color="tab:orange", markersize=12)
    axes.set(xlabel="x", ylabel="z", title="position")
    axes.legend(frameon=False, markerscale=5)
    axes = figure.add_subplot(grid[1], projection="mollweide")
    tff.plotting.sphere(samples=draws[:, 3:], truth=truth[3:], axes=axes)
    axes.set_title("direction: 50 % and 90 %")
    axes = figure.add_subplot(grid[2])
    tff.plotting.coverage(coverage["all"], axes)
    axes.set_title(f"coverage, {arguments.events} events")
    path = arguments.output / "direction_and_position.png"
    figure.savefig(path, dpi=120)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
