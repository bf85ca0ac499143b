"""The README's program on data in other units, nothing standardized by hand, against the exact density.

    python benchmarks/raw_units.py

One column near 1e4 with a spread of 2e3, one of the order of 1e-3, and a context near 1e4, from which a hidden t is
known that moves both. Without the units they are a correlated Gaussian, or two moons.
"""

import argparse
import time

import keras
import numpy as np

import tfp_flows as tff


def gaussian(n, seed):
    u = np.random.default_rng([seed, 1]).normal(size=(n, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    exact = -np.log(2 * np.pi) - np.log(0.8) - 0.5 * (u[:, 0] ** 2 + ((u[:, 1] - 0.6 * u[:, 0]) / 0.8) ** 2)
    return u, exact


def two_moons(n, seed):
    u = tff.datasets.two_moons(n, seed=seed).astype(np.float64)
    return u, tff.datasets.two_moons.log_prob(u)


def draw(shape, n, seed):
    """Contexts `[n, 1]`, events `[n, 2]` and their exact log-densities given the context, in nats."""
    t = np.random.default_rng(seed).normal(size=n)
    u, exact = shape(n, seed)
    context = 1e4 + 1e3 * t[:, None]
    x = np.stack([1e4 + 2e3 * (u[:, 0] + 0.5 * t), 1e-3 * (u[:, 1] - 0.3 * t)], 1)
    return context, x, exact - np.log(2e3) - np.log(1e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--flow", default="realnvp")
    parser.add_argument("--layers", type=int, default=8)
    arguments = parser.parse_args()
    for shape in (gaussian, two_moons):
        context, x, exact = draw(shape, 100_000, seed=100)
        for seed in arguments.seeds:
            keras.utils.set_random_seed(seed)
            start = time.perf_counter()
            flow = getattr(tff.flows, arguments.flow)(event_size=2, num_layers=arguments.layers, context_size=1)
            model = tff.FlowModel(flow)
            model.fit(*draw(shape, 20_000, seed)[:2], epochs=20, validation_split=0.1, verbose=0)
            excess = np.mean(exact - model.predict((context, x), verbose=0))
            seconds = time.perf_counter() - start
            print(
                f"{shape.__name__}, seed {seed}: {excess:.3f} nats from the exact density, {seconds:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
