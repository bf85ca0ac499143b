"""Fit seven two-dimensional shapes with a neural spline flow: data, density and samples of each, and a table.

python examples/two_dimensional.py --seconds 60 --output out
"""

import argparse
import pathlib
import time

import keras
import matplotlib
import numpy as np

import tfp_flows as tff

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHAPES = (
    tff.datasets.two_moons,
    tff.datasets.rings,
    tff.datasets.eight_gaussians,
    tff.datasets.checkerboard,
    tff.datasets.two_spirals,
    tff.datasets.pinwheel,
    tff.datasets.swiss_roll_2d,
)


def fit(shape, seconds, num_layers):
    """A flow trained on points of the shape; prints how many nats it is above the shape's entropy on fresh points."""
    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    x = shape(100_000, seed=0)
    model = tff.FlowModel(tff.flows.neural_spline_coupling(2, num_layers, num_bins=16, seed=0))
    model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=5.0))
    model.fit(x, batch_size=500, epochs=10_000, verbose=0, callbacks=[tff.callbacks.TimeBudget(seconds)])
    spent = time.perf_counter() - start
    excess = model.evaluate(shape(100_000, seed=1), verbose=0) - shape.entropy()
    print(f"{shape.name:16s} {shape.entropy():8.3f} {excess:8.3f} {spent:8.0f} s", flush=True)
    return model


def draw(axes, shape, model):
    """Data, density and samples of one shape, in a row."""
    data, samples = shape(50_000, seed=2), np.array(model.sample(50_000, seed=0))
    extent = 1.1 * np.abs(data).max()
    grid = np.linspace(-extent, extent, 200, dtype="float32")
    points = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    density = np.exp(model.log_prob(points)).reshape(200, 200)
    for axis, values in zip(axes, (data, density, samples), strict=True):
        if values is density:
            axis.imshow(density, origin="lower", extent=[-extent, extent] * 2, vmax=np.quantile(density, 0.999))
        else:
            axis.hist2d(*values.T, bins=200, range=[[-extent, extent]] * 2)
        axis.set(xticks=[], yticks=[], aspect="equal")
    axes[0].set_ylabel(shape.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="to train each shape")
    parser.add_argument("--layers", type=int, default=4, help="couplings of the flow")
    parser.add_argument("--shapes", nargs="*", default=[shape.name for shape in SHAPES], help="names of shapes")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    shapes = [shape for shape in SHAPES if shape.name in arguments.shapes]
    figure, rows = plt.subplots(len(shapes), 3, figsize=(6, 2 * len(shapes)), squeeze=False, layout="constrained")
    for axis, title in zip(rows[0], ("data", "density", "samples"), strict=True):
        axis.set_title(title)
    print(f"{'shape':16s} {'entropy':>8s} {'above it':>8s}   time")
    for axes, shape in zip(rows, shapes, strict=True):
        draw(axes, shape, fit(shape, arguments.seconds, arguments.layers))
    figure.savefig(arguments.output / "two_dimensional.png", dpi=80)
    print(f"wrote two_dimensional.png to {arguments.output}")


if __name__ == "__main__":
    main()
