"""The density of earthquakes on the globe, where no map has a seam and no pole is special.

    python examples/globe.py

A flow on the sphere learns where 1000 earthquakes off Fiji lie, on both sides of the date line. Its density is looked
at where maps break: across the date line, and on rings about the poles. Writes `globe.png`.
"""

import argparse
import pathlib

import keras
import matplotlib
import numpy as np
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

matplotlib.use("agg")


def unit_vectors(latitude, longitude):
    """Points on the globe, `[..., 3]`, from degrees."""
    latitude, longitude = np.radians(latitude), np.radians(longitude)
    x = [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
    return np.stack(x, -1).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=".", help="the folder for the picture")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)

    latitude, longitude = tff.datasets.quakes(seed=0)[:, :2].T
    x = np.random.default_rng(0).permutation(unit_vectors(latitude, longitude))
    train, test = x[:800], x[800:]
    model = tff.FlowModel(tff.flows.sphere(num_layers=arguments.layers, hidden_units=(32, 32), seed=0))
    model.fit(
        train,
        epochs=arguments.epochs,
        validation_split=0.1,
        callbacks=[keras.callbacks.EarlyStopping(patience=40, restore_best_weights=True)],
        verbose=0,
    )
    print(f"log-density per quake: {model.log_prob(test).numpy().mean():.2f} nats, uniform {-np.log(4 * np.pi):.2f}")

    line = unit_vectors(np.full(2, -20.0), np.array([179.9999, -179.9999]))
    west, east = model.log_prob(line).numpy()
    print(f"log-density at 20° south, left and right of the date line: {west:.3f}, {east:.3f}")
    for name, side in (("north", 90), ("south", -90)):
        ring = model.log_prob(unit_vectors(np.full(36, side * (1 - 1e-4)), np.arange(0, 360, 10))).numpy()
        print(f"log-density about the {name} pole: {ring.min():.3f} to {ring.max():.3f}")

    # Turned half around, so that the date line is in the middle of the map.
    turn = np.array([-1, -1, 1], np.float32)
    flow = model.distribution
    turned = tfd.TransformedDistribution(flow.distribution, tfb.Chain([tfb.Scale(turn), flow.bijector]))
    figure = tff.plotting.sphere(turned, samples=turn * x)
    path = arguments.output / "globe.png"
    figure.savefig(path, dpi=120)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
