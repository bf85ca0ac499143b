"""An exoplanet's atmosphere, and whether it has clouds: flows as proposals for importance sampling, beside annealing.

    python examples/exoplanet.py --output out

Spectra of `tff.datasets.Exoplanet`, fresh for every batch and with noise of several levels, train two flows: one for
planets with clouds and one for planets without. A spectrum tells the radius sharply, but only given the other
parameters: the posterior is a narrow, curved ridge. So the flows learn the radius relative to the one that the other
parameters and the spectrum make likely. For an observation each gives draws of its posterior. Weighted by the
likelihood, which is known, the draws represent the exact posterior, and their mean weight is the evidence of the model,
as in Gebhard et al. 2024 (arXiv 2410.21477). The ratio of two evidences is a Bayes factor. Beside them stand Markov
chains by TFP, of annealed importance sampling, which has evidences too. Writes `exoplanet.png`.
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

matplotlib.use("agg")

TRUTH = np.array([0.55, 0.5, 1.1, 1.35, -3.0], np.float32)


def make_model(planet, num_layers):
    """p(x | features): splines, and a Gaussian whose mean and covariance depend on the features as well."""
    layers = [keras.layers.Dense(128, "silu") for _ in range(3)]
    embedding = keras.Sequential([keras.Input([102]), *layers, keras.layers.Dense(64)])
    parts: dict = {"context_size": 64, "activation": "silu", "hidden_units": (128, 128), "seed": 0}
    splines = tff.flows.neural_spline_coupling(planet.size, num_layers, standardize=False, **parts)
    gaussian = tff.bijectors.TriangularAffine(planet.size, **parts)
    flow = tfd.TransformedDistribution(splines.distribution, tfb.Chain([gaussian, splines.bijector]))
    return tff.FlowModel(flow, embedding)


def train(planet, num_layers, steps, seed):
    def simulate(seed, batch_size):
        observation, z = planet.draw(seed, batch_size)
        return planet.features(observation), planet.coordinates(observation).inverse(z)

    start, model = time.process_time(), make_model(planet, num_layers)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps), global_clipnorm=5.0))
    data = tff.datasets.simulator(simulate, batch_size=256, seed=seed)
    history = model.fit(data, epochs=5, steps_per_epoch=max(1, steps // 5), verbose=0).history["loss"]
    losses = " ".join(f"{loss:.2f}" for loss in history)
    print(f"clouds {planet.clouds}: loss {losses}; {time.process_time() - start:.0f} s of CPU", flush=True)
    return model


def joint_log_prob(planet, x, observation):
    """log p(δ, x | s): the posterior of x without its normalization, which is the evidence."""
    coordinates = planet.coordinates(observation)
    log_det = coordinates.forward_log_det_jacobian(x, event_ndims=1)
    return planet.joint_log_prob(coordinates.forward(x), observation) + log_det


def to_theta(planet, x, observation):
    return planet.prior.bijector.forward(planet.coordinates(observation).forward(np.float32(x))).numpy()


def weigh(planet, model, observation, draws):
    """The flow's draws of x for one observation, with weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Pareto shape is printed
        return tff.inference.importance_sample(
            model, lambda x: joint_log_prob(planet, x, observation), draws, planet.features(observation), seed=1
        )


def make_chains(planet, chains, steps):
    """Markov chains from a normal to the posterior, in `steps` steps, by Hamiltonian Monte Carlo in its coordinates.

    Every chain has a weight, whose mean is the evidence (Neal 2001, Statistics and Computing 11, 125).
    """
    normal = tfd.Sample(tfd.Normal(np.float64(0), 1), [planet.size])

    @tf.function(autograph=False)
    def run(observation, mean, scale):
        to_x = tfb.Chain([tfb.Shift(mean), tfb.ScaleMatvecTriL(scale)])

        def target(w):
            log_prob = joint_log_prob(planet, tf.cast(to_x.forward(w), tf.float32), observation)
            return tf.cast(log_prob, tf.float64) + to_x.forward_log_det_jacobian(w, 1)

        def kernel(log_prob):
            return tfp.mcmc.HamiltonianMonteCarlo(log_prob, np.float64(0.15), num_leapfrog_steps=4)

        start = normal.sample(chains, seed=(0, 1))
        w, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
            steps, normal.log_prob, target, start, kernel, seed=(0, 2)
        )
        return to_x.forward(w), log_weights

    return run


def anneal(run, observation, found):
    """The chains' draws and weights; they start from a normal of twice the width of what the flow found."""
    mean = found.mean()
    away = found.samples - mean
    covariance = 4 * found.mean(away[:, :, None] * away[:, None, :]) + 1e-8 * np.eye(len(mean))
    return tff.inference.ImportanceSample(*run(observation, mean, np.linalg.cholesky(covariance)))


def compare(planets, models, chains, observation, num_draws):
    """Prints evidences and Bayes factors; returns the flow's weighted draws and the chains', by model."""
    found, annealed = [], []
    for planet, model, run in zip(planets, models, chains, strict=True):
        start = time.process_time()
        found.append(weigh(planet, model, observation, num_draws))
        seconds, start = time.process_time() - start, time.process_time()
        annealed.append(anneal(run, observation, found[-1]))
        one, other = found[-1], annealed[-1]
        print(
            f"  clouds {planet.clouds!s:5}  log evidence {one.log_evidence:9.3f} ± {one.log_evidence_std:.3f}, "
            f"ESS {one.ess / num_draws:4.0%}, Pareto k {one.pareto_k:5.2f}, {seconds:.0f} s; chains "
            f"{other.log_evidence:9.3f} ± {other.log_evidence_std:.3f}, {time.process_time() - start:.0f} s of CPU"
        )
    for name, pair in (("flow", found), ("chains", annealed)):
        factor, error = pair[0].log_evidence - pair[1].log_evidence, np.hypot(*(one.log_evidence_std for one in pair))
        print(f"  log Bayes factor for clouds by {name}: {factor:.3f} ± {error:.3f}")
    return found, annealed


def draw(path, planets, observation, found, annealed):
    """The posterior with clouds by chains and by the weighted flow, and the spectrum with what both models predict."""
    chains, flow = [
        to_theta(planets[0], sample.resample(4000, seed=0), observation) for sample in (annealed[0], found[0])
    ]
    figure = tff.plotting.corner(chains, flow, planets[0].labels, names=("Markov chains", "flow, weighted"))
    corner.overplot_lines(figure, TRUTH, color="tab:gray")
    axes = figure.add_axes((0.55, 0.66, 0.42, 0.22))
    wavelengths, spectrum = planets[0].wavelengths, observation[:100]
    axes.errorbar(wavelengths, spectrum, planets[0].noise(observation[100:]), fmt="k.", linewidth=0.5, markersize=3)
    for planet, sample, color, name in zip(planets, found, ("tab:orange", "tab:blue"), ("clouds", "none"), strict=True):
        theta = to_theta(planet, sample.resample(500, seed=0), observation)
        band = np.quantile(planet.spectrum(theta), [0.025, 0.975], axis=0)
        axes.fill_between(wavelengths, *band, color=color, alpha=0.6, label=f"{name}, 95 %")
    axes.set(xlabel="wavelength [µm]", ylabel="transit depth [ppm]", xscale="log", xticks=[0.6, 1, 2, 3, 5])
    axes.set_xticklabels(["0.6", "1", "2", "3", "5"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(path, dpi=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder for the picture")
    parser.add_argument("--steps", type=int, default=5000, help="batches of 256 spectra to train each flow on")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--draws", type=int, default=20_000, help="draws of a posterior")
    parser.add_argument("--chains", type=int, default=500, help="Markov chains, of twice as many steps")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    planets = [tff.datasets.Exoplanet(clouds) for clouds in (True, False)]
    models = [train(planet, arguments.layers, arguments.steps, arguments.seed) for planet in planets]
    chains = [make_chains(planet, arguments.chains, 2 * arguments.chains) for planet in planets]
    for planet in planets:
        print(f"an observation of a planet with{'' if planet.clouds else 'out'} clouds")
        observation = planet.observe(TRUTH[: planet.size], (arguments.seed, 7)).numpy()
        found, annealed = compare(planets, models, chains, observation, arguments.draws)
        if planet.clouds:
            draw(arguments.output / "exoplanet.png", planets, observation, found, annealed)
    print("written: exoplanet.png")


if __name__ == "__main__":
    main()
