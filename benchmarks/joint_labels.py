"""Do more labels hurt? One autoregressive flow for all labels of a simulation, and one flow for each of them.

    python benchmarks/joint_labels.py

The labels are the five parameters of `tff.datasets.Exoplanet`, in coordinates with a standard normal prior. All flows
have the same network for the spectrum and as many steps on fresh simulations. Each label's marginal posterior, from
draws of either flow, is judged by its continuous ranked probability score, CRPS = E|z' - z| - E|z' - z''| / 2 for draws
z' and z'' and the truth z: the smaller the better, and the smallest on average for the right distribution.
"""

import argparse
import time

import keras
import numpy as np

import tfp_flows as tff

PLANET = tff.datasets.Exoplanet()


def trained(labels, steps, seed):
    """A flow for some of the labels, and the seconds of the processor that it took."""

    def simulate(seed, batch_size):
        observation, z = PLANET.draw(seed, batch_size)
        return PLANET.features(observation), z[:, labels]

    start = time.process_time()
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(128, "silu") for _ in range(3)]
    embedding = keras.Sequential([keras.Input([102]), *layers, keras.layers.Dense(32)])
    size = labels.stop - labels.start
    flow = tff.flows.neural_spline_autoregressive(
        size, num_layers=2, embedding=embedding, activation="silu", bound=5.0, standardize=False, seed=seed
    )
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps), global_clipnorm=5.0))
    data = tff.datasets.simulator(simulate, batch_size=256, seed=seed)
    model.fit(data, steps_per_epoch=steps, verbose=0)
    return model, time.process_time() - start


def scores(draws, truth):
    """CRPS of every row: draws `[m, n]`, truth `[n]`."""
    draws, m = np.sort(draws, axis=0), len(draws)
    # E|z' - z''| of sorted draws is a weighted sum of them.
    spread = 2 * np.tensordot(2 * np.arange(1, m + 1) - m - 1, draws, 1) / (m * (m - 1))
    return np.abs(draws - truth).mean(0) - spread / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000, help="batches of 256 simulations for each flow")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    observation, truth = PLANET.draw((arguments.seed, 1), arguments.events)
    features, truth = PLANET.features(observation).numpy(), truth.numpy()
    joint, seconds = trained(slice(0, 5), arguments.steps, arguments.seed)
    joint_loss = -joint.log_prob(truth, features).numpy().mean()
    together = joint.sample(arguments.draws, features, seed=0).numpy()
    print(f"one flow for all: {seconds:.0f} s of CPU")
    print("| label | CRPS, one flow for all | CRPS, its own flow | difference | its own: s of CPU |")
    print("|---|---|---|---|---|")
    own_loss = 0.0
    for k, label in enumerate(PLANET.labels):
        model, seconds = trained(slice(k, k + 1), arguments.steps, arguments.seed)
        own_loss -= model.log_prob(truth[:, k : k + 1], features).numpy().mean()
        own = scores(model.sample(arguments.draws, features, seed=0).numpy()[..., 0], truth[:, k])
        joined = scores(together[..., k], truth[:, k])
        difference, error = np.mean(joined - own) / own.mean(), np.std(joined - own) / len(own) ** 0.5 / own.mean()
        row = f"{joined.mean():.4f} | {own.mean():.4f} | {difference:+.1%} ± {error:.1%} | {seconds:.0f}"
        print(f"| {label} | {row} |", flush=True)
    print(f"-log p of all labels: {joint_loss:.3f} nats jointly, {own_loss:.3f} as a product of the five")


if __name__ == "__main__":
    main()
