"""How close the README's program comes to the exact entropy of two moons.

python benchmarks/two_moons.py
"""

import time

import keras

import tfp_flows as tff


def main():
    entropy = tff.datasets.two_moons.entropy()
    fresh = tff.datasets.two_moons(100_000, seed=1)
    for seed in (0, 1, 2):
        keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        model = tff.FlowModel(tff.flows.realnvp(event_size=2, num_layers=8))
        model.compile(keras.optimizers.Adam(1e-3))
        x = tff.datasets.two_moons(20_000, seed=seed + 10)
        model.fit(x, epochs=40, batch_size=256, verbose=0)
        excess = model.evaluate(fresh, verbose=0) - entropy
        seconds = time.perf_counter() - start
        print(f"seed {seed}: {excess:.3f} nats above the entropy of {entropy:.4f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
