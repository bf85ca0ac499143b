"""The README's program on data in other units, nothing standardized by hand, against the exact density.

    python benchmarks/raw_units.py

Two moons, moved by a hidden t and brought to other units: one column near 1e4 with a spread of 2e3, one of the order of
1e-3, and a context near 1e4, from which t is known.
"""

import time

import keras
import numpy as np

import tfp_flows as tff


def draw(n, seed):
    """Contexts `[n, 1]`, events `[n, 2]` and their exact log-densities given the context, in nats."""
    t = np.random.default_rng(seed).normal(size=n)
    u = tff.datasets.two_moons(n, seed=seed).astype(np.float64)
    context = 1e4 + 1e3 * t[:, None]
    x = np.stack([1e4 + 2e3 * (u[:, 0] + 0.5 * t), 1e-3 * (u[:, 1] - 0.3 * t)], 1)
    return context, x, tff.datasets.two_moons.log_prob(u) - np.log(2e3) - np.log(1e-3)


def main():
    context, x, exact = draw(100_000, seed=100)
    for seed in (0, 1, 2):
        keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        model = tff.FlowModel(tff.flows.neural_spline_coupling(event_size=2, num_layers=4, context_size=1))
        model.fit(*draw(20_000, seed)[:2], epochs=20, validation_split=0.1, verbose=0)
        excess = np.mean(exact - model.predict((context, x), verbose=0))
        print(f"seed {seed}: {excess:.3f} nats from the exact density, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
