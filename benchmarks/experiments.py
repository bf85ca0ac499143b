"""Published experiments on your copy of their data: the test figure reached, beside the paper's.

    python benchmarks/experiments.py --list
    python benchmarks/experiments.py nsf-ar/power --data power.npz             # the paper's budget
    python benchmarks/experiments.py maf/gas nsf-c/gas --data gas --num-steps 20000
    python benchmarks/experiments.py maf/gas nsf-c/gas --synthetic 2000 --num-steps 20 --small  # whether it runs

The data are an .npz file with the arrays `train`, `validation` and `test`, or a folder with train.npy, validation.npy
and test.npy, prepared as `tff.experiments[name].data` says: for the five tables the `trn`, `val` and `tst` of the
scripts in github.com/gpapamak/maf, datasets/. Without `validation` a tenth of the training data is held out. The model
that is kept is the best by the validation data; `--out` writes it. The figure has two standard errors over the test
rows, the paper's the error that the paper gives. A figure of synthetic data, which are normal and independent, says
nothing.
"""

import argparse
import pathlib
import time

import numpy as np

import tfp_flows as tff

SMALL = {
    "num_layers": 2,
    "num_flows": 1,
    "num_levels": 1,
    "steps_per_level": 1,
    "hidden_units": (64,),
    "hidden_channels": 8,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="experiments with the same data")
    parser.add_argument("--data", type=pathlib.Path, help="an .npz file, or a folder of .npy files")
    parser.add_argument("--synthetic", type=int, metavar="ROWS", help="rows to draw in place of data")
    parser.add_argument("--num-steps", type=int, help="a smaller budget than the paper's")
    parser.add_argument("--small", action="store_true", help="a small flow in place of the paper's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="a folder for the trained models")
    parser.add_argument("--list", action="store_true", help="print what there is, and end")
    arguments = parser.parse_args()
    if arguments.list:
        for experiment in tff.experiments.values():
            print(f"{experiment}\n")
        return
    if not arguments.names or (arguments.data is None) == (arguments.synthetic is None):
        parser.error("names of experiments, and either --data or --synthetic, are needed")
    experiments = [tff.experiments[name] for name in arguments.names]
    print("| experiment | reached | paper | unit | steps | seconds |\n|---|---|---|---|---|---|", flush=True)
    for experiment in experiments:
        rows = arguments.synthetic
        parts = read(arguments.data) if rows is None else synthetic(experiment, rows)
        changes = {name: value for name, value in SMALL.items() if name in experiment.settings and arguments.small}
        begin = time.perf_counter()
        model = experiment.fit(
            parts["train"],
            parts.get("validation"),
            num_steps=arguments.num_steps,
            seed=arguments.seed,
            verbose=0,
            **changes,
        )
        seconds, steps = time.perf_counter() - begin, int(model.optimizer.iterations)
        reached = experiment.evaluate(model, parts["test"])
        cells = experiment.name, reached, experiment.reported, experiment.unit, steps, f"{seconds:.0f}"
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            model.save(arguments.out / f"{experiment.name.replace('/', '_')}.keras")


def read(path):
    """The arrays of an .npz file, or of the .npy files of a folder, by name; "validation" may be missing."""
    if path.is_dir():
        parts = {file.stem: np.load(file) for file in path.glob("*.npy")}
    else:
        with np.load(path) as file:
            parts = dict(file)
    missing = {"train", "test"} - set(parts)
    if missing:
        raise SystemExit(f"Expected the arrays train, validation and test. Received: {sorted(parts)} in {path}")
    return parts


def synthetic(experiment, rows):
    """Independent standard normals, or uniform integers, of the shape of the data."""
    random = np.random.default_rng(0)
    if experiment.unit == "nats":
        sample = random.normal(size=(rows, *experiment.event_shape)).astype(np.float32)
    else:
        sample = random.integers(0, 256, (rows, *experiment.event_shape), dtype=np.uint8)
    train, validation, test = np.split(sample, [rows * 8 // 10, rows * 9 // 10])
    return {"train": train, "validation": validation, "test": test}


if __name__ == "__main__":
    main()
