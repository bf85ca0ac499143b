"""Do more labels hurt? One autoregressive flow for all labels of a simulation, and one flow for each of them.

    python benchmarks/joint_labels.py

The labels are the five parameters of `tff.datasets.Exoplanet`, in coordinates with a standard normal prior. All flows
have the same network for the spectrum, and learn from the same simulations for as many epochs. Each label's marginal
posterior, by draws of either flow, is judged by its continuous ranked probability score, CRPS = E|z' - z| - E|z' - z''|
/ 2 with draws z' and z'' and the truth z: the smaller the better, and smallest on average for the right distribution.
"""

import argparse
import time

import keras
import numpy as np

import tfp_flows as tff

PLANET = tff.datasets.Exoplanet()


def trained(z, features, epochs, seed):
    """A flow for some of the labels, and the seconds of the processor that it took."""
    start = time.process_time()
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(128, "silu") for _ in range(3)]
    embedding = keras.Sequential([keras.Input([102]), *layers, keras.layers.Dense(32)])
    flow = tff.flows.neural_spline_autoregressive(
        z.shape[1], num_layers=2, embedding=embedding, activation="silu", bound=5.0, standardize=False, seed=seed
    )
    model = tff.FlowModel(flow)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * int(np.ceil(len(z) / 256)))
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0))
    model.fit(features, z, batch_size=256, epochs=epochs, verbose=0)
    return model, time.process_time() - start


def scores(draws, truth):
    """CRPS of every row: draws `[m, n]`, truth `[n]`."""
    draws, m = np.sort(draws, axis=0), len(draws)
    # E|z' - z''| of sorted draws is a weighted sum of them.
    spread = 2 * np.tensordot(2 * np.arange(1, m + 1) - m - 1, draws, 1) / (m * (m - 1))
    return np.abs(draws - truth).mean(0) - spread / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="simulations to train on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    observation, z = PLANET.draw((arguments.seed, 0), arguments.rows)
    training = PLANET.features(observation).numpy()
    observation, truth = PLANET.draw((arguments.seed, 1), arguments.events)
    features, truth, z = PLANET.features(observation).numpy(), truth.numpy(), z.numpy()
    joint, seconds = trained(z, training, arguments.epochs, arguments.seed)
    joint_loss = -joint.log_prob(truth, features).numpy().mean()
    together = joint.sample(arguments.draws, features, seed=0).numpy()
    print(f"one flow for all: {seconds:.0f} s of CPU")
    print("| label | CRPS, one flow for all | CRPS, its own flow | difference | its own: s of CPU |")
    print("|---|---|---|---|---|")
    own_loss = 0.0
    for k, label in enumerate(PLANET.labels):
        model, seconds = trained(z[:, k : k + 1], training, arguments.epochs, arguments.seed)
        own_loss -= model.log_prob(truth[:, k : k + 1], features).numpy().mean()
        own = scores(model.sample(arguments.draws, features, seed=0).numpy()[..., 0], truth[:, k])
        joined = scores(together[..., k], truth[:, k])
        difference, error = np.mean(joined - own) / own.mean(), np.std(joined - own) / len(own) ** 0.5 / own.mean()
        row = f"{joined.mean():.4f} | {own.mean():.4f} | {difference:+.1%} ± {error:.1%} | {seconds:.0f}"
        print(f"| {label} | {row} |", flush=True)
    print(f"-log p of all labels: {joint_loss:.3f} nats jointly, {own_loss:.3f} as a product of the five")


if __name__ == "__main__":
    main()
