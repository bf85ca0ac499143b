"""The hostile data of tests/test_adversarial.py in five libraries: who survives what.

    python benchmarks/robustness.py

Every library's four flows (benchmarks/robustness_flows.py) get every hostile data set in float32, and each pair ends as
  survived: the losses of ten full-batch steps of Adam, all weights, the samples, and the densities and their gradients
    at the data, before and after, are finite;
  refused: a ValueError or TypeError with a message came before any weight changed;
  failed: anything else.
nflows, normflows and zuko run in a virtual environment that this script makes in a temporary folder (a minute or two:
pass the folder with `--peers` to use it again), TFP in that of tfp_flows, which brings it.

    python benchmarks/robustness.py --cauchy

trains `neural_spline_autoregressive` on 50,000 rows of 5 rotated Cauchy variables for 20 epochs at 5e-3, three seeds.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # for an environment that has tfp_flows not installed

from robustness_flows import DIMENSIONS, LIBRARIES  # noqa: E402

REQUIREMENTS = ["torch==2.13.0", "zuko==1.6.0", "nflows==0.14", "normflows==1.7.3", "numpy"]
ROWS, STEPS = 64, 10


def outcome(make, x):
    """What becomes of a new flow that is trained on x."""
    subject = make()
    before = subject.weights()
    try:
        found = [*subject.density(x), np.float64(subject.train(x, STEPS))]
        found += [*subject.weights(), subject.sample(100), *subject.density(x)]
    except (ValueError, TypeError) as error:
        kept = all(np.array_equal(a, b) for a, b in zip(before, subject.weights(), strict=True))
        return ("refused" if kept and str(error) else "failed") + f": {type(error).__name__}: {error}"
    except Exception as error:  # a library may fail in any way
        return f"failed: {type(error).__name__}: {error}"
    return "survived" if all(np.isfinite(values).all() for values in found) else "failed: non-finite values"


def serve(library, path):
    """Tries one library; a line of JSON for every pair goes to standard output."""
    for flow, make in LIBRARIES[library]().items():
        for data, x in np.load(path).items():
            print(json.dumps([flow, data, outcome(make, x)]), flush=True)


def peers_python(folder):
    """The Python of the peers' environment, made if it is not there."""
    python = pathlib.Path(folder) / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return str(python)


def compare(folder, libraries, is_verbose):
    from tests.hostile import HOSTILE, hostile

    counts = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as temporary:
        path = f"{temporary}/hostile.npz"
        np.savez(path, **{name: hostile(name, ROWS, DIMENSIONS).astype("float32") for name in HOSTILE})
        for library in libraries:
            python = sys.executable if library in ("tfp_flows", "TFP") else peers_python(folder)
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            command = [python, __file__, "--serve", library, path]
            process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            for flow, data, words in map(json.loads, process.stdout.splitlines()):
                counts[library, data][words.split(":")[0]] += 1
                counts[library, "all"][words.split(":")[0]] += 1
                if is_verbose and words != "survived":
                    print(f"{library}, {flow}, {data}: {words[:300]}")
    print("| data | " + " | ".join(libraries) + " |")
    print("|---" * (1 + len(libraries)) + "|")
    for data in [*HOSTILE, "all"]:
        cells = [counts[library, data] for library in libraries]
        print(f"| {data} | " + " | ".join("{survived} {refused} {failed}".format_map(cell) for cell in cells) + " |")


def cauchy(seeds=(0, 1, 2)):
    import keras

    import tfp_flows as tff
    from tests.hostile import hostile

    for seed in seeds:
        keras.utils.set_random_seed(seed)
        x = hostile("Cauchy", 50_000, DIMENSIONS, seed).astype("float32")
        model = tff.FlowModel(tff.flows.neural_spline_autoregressive(DIMENSIONS, seed=seed))
        model.compile(keras.optimizers.Adam(5e-3))
        start = time.perf_counter()
        losses = model.fit(x, epochs=20, verbose=0).history["loss"]
        print(
            f"seed {seed}: largest |x| {np.abs(x).max():.3g}; {np.count_nonzero(~np.isfinite(losses))} losses of "
            f"{len(losses)} not finite; {losses[0]:.3f} to {losses[-1]:.3f} nats, median of -log p "
            f"{-np.median(model.log_prob(x)):.3f}; {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="the folder of the peers' virtual environment, made if it is not there")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--verbose", action="store_true", help="a line for every pair that did not survive")
    parser.add_argument("--cauchy", action="store_true", help="train on heavy tails instead")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
    elif arguments.cauchy:
        cauchy()
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(arguments.peers or folder, arguments.libraries, arguments.verbose)


if __name__ == "__main__":
    main()
