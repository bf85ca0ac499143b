"""How time and memory grow with layers, coordinates, rows and width, for a coupling and an autoregressive flow.

    python benchmarks/scaling.py                    # about a quarter of an hour; writes scaling.md and scaling.png
    python benchmarks/scaling.py --sweeps layers --flows neural_spline_coupling

Every point has a process of its own, whose peak of memory is then its own. From a middle of 8 layers, 16 coordinates,
1024 rows and two hidden layers of 128 one quantity at a time is changed. A time is the least of several calls, under
XLA as `fit` compiles it.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

FLOWS = ["neural_spline_coupling", "neural_spline_autoregressive"]
MIDDLE = {"layers": 8, "coordinates": 16, "rows": 1024, "width": 128}
SWEEPS = {
    "layers": [2, 4, 8, 16, 32, 64],
    "coordinates": [2, 4, 16, 64, 256, 1024],
    "rows": [1, 32, 1024, 10_000, 100_000],
    "width": [16, 64, 256, 1024],
}
FIGURES = {"first": "first step, s", "step": "step, ms", "density": "density, ms", "memory": "peak memory, MB"}
SECONDS_OF_A_POINT = 300


def point(flow, layers, coordinates, rows, width):
    """{figure: value} of one point, in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfp_flows as tff

    distribution = getattr(tff.flows, flow)(coordinates, num_layers=layers, hidden_units=(width, width), seed=0)
    model = tff.FlowModel(distribution)
    optimizer = keras.optimizers.Adam(1e-5)
    optimizer.build(model.trainable_variables)
    x = tf.constant(np.random.default_rng(0).normal(size=(rows, coordinates)), tf.float32)

    @tf.function(autograph=False, jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(distribution.log_prob(x))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    @tf.function(autograph=False, jit_compile=True)
    def density(x):
        return distribution.log_prob(x)

    found = {"first": least(lambda: step(x).numpy(), 0)}
    found["step"] = 1e3 * least(lambda: step(x).numpy(), 1)
    density(x)
    found["density"] = 1e3 * least(lambda: density(x).numpy(), 0.5)
    return {**found, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def least(job, seconds):
    """The least time of a job, in seconds, of as many calls as fit."""
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def measured(flow, settings):
    """The figures of a point, from a process of its own; or why there are none."""
    command = [sys.executable, __file__, "--point", flow, *map(str, settings.values())]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS_OF_A_POINT, check=True
        )
    except subprocess.TimeoutExpired:
        return {"missing": f"over {SECONDS_OF_A_POINT} s"}
    except subprocess.CalledProcessError as error:
        words = (error.stderr.strip().splitlines() or [""])[-1]
        return {"missing": f"exit code {error.returncode}: {words[:120]}"}
    return json.loads(done.stdout.splitlines()[-1])


def page(results):
    """The tables as Markdown."""
    lines = ["# How it scales", "", "Written by `python benchmarks/scaling.py`, which says how.", ""]
    for (flow, sweep), points in results.items():
        lines += [f"## {flow}, {sweep}", "", f"| {sweep} | {' | '.join(FIGURES.values())} |", "|---" * 5 + "|"]
        for size, found in points.items():
            cells = [found["missing"]] if "missing" in found else [f"{found[name]:.4g}" for name in FIGURES]
            lines.append(f"| {size} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def picture(results, path):
    """One panel for every quantity that changes: time of a step and of a density, and memory, on logarithmic axes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    sweeps = list(dict.fromkeys(sweep for _, sweep in results))
    figure, panels = plt.subplots(2, len(sweeps), figsize=(3.2 * len(sweeps), 5.5), squeeze=False, sharex="col")
    for (flow, sweep), points in results.items():
        column = sweeps.index(sweep)
        there = {size: found for size, found in points.items() if "missing" not in found}
        for row, names in enumerate([("step", "density"), ("memory",)]):
            for name, line in zip(names, ("-o", "--o"), strict=False):
                label = f"{flow.removeprefix('neural_spline_')}, {FIGURES[name].split(',')[0]}"
                color = f"C{FLOWS.index(flow)}"
                panels[row, column].loglog(
                    there, [found[name] for found in there.values()], line, color=color, markersize=3, label=label
                )
        panels[1, column].set_xlabel(sweep)
    panels[0, 0].set_ylabel("milliseconds")
    panels[1, 0].set_ylabel("peak memory, MB")
    panels[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--flows", nargs="+", choices=FLOWS, default=FLOWS)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    arguments = parser.parse_args()
    if arguments.point:
        flow, *sizes = arguments.point
        print(json.dumps(point(flow, *map(int, sizes))))
        return
    results, known = {}, {}
    for flow in arguments.flows:
        for sweep in arguments.sweeps:
            points = results[flow, sweep] = {}
            for size in SWEEPS[sweep]:
                settings = {**MIDDLE, sweep: size}
                key = flow, *settings.values()
                known[key] = points[size] = known[key] if key in known else measured(flow, settings)
                print(flow, sweep, size, points[size], flush=True)
            (arguments.output / "scaling.md").write_text(page(results))
    picture(results, arguments.output / "scaling.png")


if __name__ == "__main__":
    main()
