"""Draws the gallery: one picture for every preset of `tff.flows`.

python docs/gallery.py           # all
python docs/gallery.py maf glow  # some

Presets on vectors learn the same two moons, so that the pictures can be compared; each is trained for some seconds of
the processor's time, images five times as long, which does not count the first step's compiling. The pictures are in
docs/pictures/gallery.
"""

import argparse
import time

import keras
import matplotlib
import numpy as np
from tensorflow_probability import distributions as tfd

matplotlib.use("agg")

from execute import DOCS, save
from matplotlib import pyplot as plt

import tfp_flows as tff

PICTURES = DOCS / "pictures" / "gallery"
# What `Adam` starts at where 3e-3 is not it.
RATES = {"planar": 1e-2, "radial": 1e-2, "sylvester": 1e-2, "gaussian": 3e-2}
OPTIONS = {
    "neural_spline_coupling": {"num_layers": 4},
    "neural_spline_autoregressive": {"num_layers": 3},
    "residual": {"num_layers": 4},
    "smooth": {"num_layers": 4},
    "planar": {"num_layers": 24},
    "radial": {"num_layers": 24},
    "sylvester": {"num_units": 2, "num_layers": 8},
}
VECTORS = [
    *("nice", "realnvp", "neural_spline_coupling", "maf", "iaf", "neural_spline_autoregressive", "planar", "radial"),
    *("sylvester", "residual", "smooth", "gaussianization", "gaussian", "continuous"),
]


def trained(flow, x, seconds, rate=3e-3, batch_size=512, **options):
    """A model of a flow, trained for a time."""
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), **options)
    budget = tff.callbacks.TimeBudget(seconds, clock=time.process_time)
    model.fit(x, batch_size=batch_size, epochs=10_000, verbose=0, callbacks=[budget])
    return model


def square():
    """A figure with nothing but a square in it."""
    figure = plt.figure(figsize=(2.4, 2.4))
    return figure, figure.add_axes((0, 0, 1, 1), xticks=[], yticks=[])


def density(axes, log_prob, low, high, size=160):
    """The density `log_prob` over a rectangle, as colours."""
    x, y = (np.linspace(*ends, size, dtype=np.float32) for ends in zip(low, high, strict=True))
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    values = np.exp(log_prob(points)).reshape(size, size)
    axes.imshow(values, origin="lower", extent=(low[0], high[0], low[1], high[1]), vmax=np.quantile(values, 0.995))
    axes.set_aspect("auto")


def vector(name, seconds):
    """A preset on vectors, fitted to two moons."""
    x = tff.datasets.two_moons(20_000, seed=0)
    options = {"objective": "flow_matching"} if name == "continuous" else {}
    flow = getattr(tff.flows, name)(2, seed=0, **OPTIONS.get(name, {}))
    model = trained(flow, x, seconds, RATES.get(name, 3e-3), **options)
    figure, axes = square()
    density(axes, model.log_prob, (-1.6, -1.1), (2.6, 1.6))
    return figure


def data(seconds):
    """The two moons themselves."""
    figure, axes = square()
    density(axes, tff.datasets.two_moons.log_prob, (-1.6, -1.1), (2.6, 1.6))
    return figure


def torus(seconds):
    """Two angles, one of which follows the other around the circle."""
    random = np.random.default_rng(0)
    first = random.uniform(-np.pi, np.pi, 20_000)
    second = 2 * first + random.vonmises(0, 6, 20_000)
    x = np.float32((np.stack([first, second], -1) + np.pi) % (2 * np.pi) - np.pi)
    model = trained(tff.flows.torus(2, seed=0), x, seconds)
    figure, axes = square()
    density(axes, model.log_prob, (-np.pi, -np.pi), (np.pi, np.pi))
    return figure


def sphere(seconds):
    """Three bells on the sphere, one of them at a pole of the coordinates."""
    directions = np.float32([[0, 0, 1], [0.6, 0.8, 0], [0, -0.8, -0.6]])
    bells = [tfd.VonMisesFisher(direction, 20.0).sample(5000, seed=(0, k)) for k, direction in enumerate(directions)]
    x = np.random.default_rng(0).permutation(np.concatenate(bells))
    model = trained(tff.flows.sphere(num_layers=4, hidden_units=(32, 32), seed=0), x, seconds)
    figure = plt.figure(figsize=(2.4, 2.4))
    tff.plotting.sphere(model, axes=figure.add_axes((0, 0, 1, 1), projection="mollweide"))
    figure.axes[0].set(xticklabels=[], yticklabels=[])
    return figure


def product(seconds):
    """A number and an angle that depends on it, as one event of the space e1 x s1."""
    random = np.random.default_rng(0)
    number = random.normal(size=20_000)
    angle = (2 * number + random.vonmises(0, 8, 20_000) + np.pi) % (2 * np.pi) - np.pi
    model = trained(tff.flows.product("e1+s1", seed=0), np.float32(np.stack([number, angle], -1)), seconds)
    figure, axes = square()
    density(axes, model.log_prob, (-3, -np.pi), (3, np.pi))
    return figure


def image(name, seconds):
    """Draws of a flow on handwritten digits."""
    images, _ = tff.datasets.digits()
    flow = getattr(tff.flows, name)([8, 8, 1], seed=0)
    model = trained(tff.distributions.Dequantized(flow, num_values=17), images, 5 * seconds, 2e-3, batch_size=64)
    draws = np.asarray(model.sample(25, seed=1, temperature=0.7))[..., 0]
    draws = np.pad(draws, [(0, 0), (1, 1), (1, 1)]).reshape(5, 5, 10, 10)
    figure, axes = square()
    axes.imshow(draws.transpose(0, 2, 1, 3).reshape(50, 50), cmap="gray_r")
    return figure


MAKERS = {
    "two_moons": data,
    **{name: lambda seconds, name=name: vector(name, seconds) for name in VECTORS},
    "torus": torus,
    "sphere": sphere,
    "product": product,
    **{name: lambda seconds, name=name: image(name, seconds) for name in ("realnvp_image", "glow")},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of presets; all by default")
    parser.add_argument("--seconds", type=float, default=12, help="to train each preset")
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or MAKERS:
        start = time.perf_counter()
        keras.utils.set_random_seed(0)
        save(MAKERS[name](arguments.seconds), PICTURES / f"{name}.png")
        plt.close("all")
        size = (PICTURES / f"{name}.png").stat().st_size
        print(f"{name}: {time.perf_counter() - start:.0f} s, {size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
