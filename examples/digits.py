"""Flows on images of 8x8 pixels: Glow beside RealNVP, a flat RealNVP and a Gaussian, in bits per dimension.

python examples/digits.py --seconds 120 --output out

Every model is trained for so many seconds on 1350 digits, and its best weights are those that 150 others say are best.
The last 297 are looked at once.
"""

import argparse
import math
import pathlib

import keras
import matplotlib
import numpy as np
import tensorflow_probability as tfp

import tfp_flows as tff

matplotlib.use("Agg")
import matplotlib.pyplot as plt

tfb, tfd = tfp.bijectors, tfp.distributions
SHAPE, NUM_VALUES = [8, 8, 1], 17


def as_images(flow, alpha=0.05):
    """A flow on vectors as one on images: its vectors through a sigmoid, row by row."""
    margin = alpha / (1 - 2 * alpha)
    image = [tfb.Sigmoid(-margin, 1 + margin), tfb.Reshape(SHAPE, [math.prod(SHAPE)])]
    return tfd.TransformedDistribution(flow.distribution, tfb.Chain([*image, flow.bijector]))


def models(width):
    """(name, distribution of integers, whether it is conditional) one after the other."""
    size = math.prod(SHAPE)

    def integers(flow, noise=None):
        return tff.distributions.Dequantized(flow, NUM_VALUES, noise)

    def glow(**options):
        return tff.flows.glow(SHAPE, hidden_channels=width, seed=0, **options)

    noise = glow(num_levels=1, num_steps=2, alpha=0.0, context_shape=SHAPE)
    yield "Gaussian", integers(as_images(tff.flows.gaussian(size))), False
    yield "RealNVP, flat", integers(as_images(tff.flows.realnvp(size, hidden_units=(2 * width,) * 2, seed=0))), False
    yield "RealNVP", integers(tff.flows.realnvp_image(SHAPE, hidden_channels=width, seed=0)), False
    yield "Glow", integers(glow()), False
    yield "Glow, learned noise", integers(glow(), noise), False
    yield "Glow, by class", integers(glow(context_size=10)), True


def train(distribution, train_data, validation_data, seconds):
    """A model with the weights, averaged over the last steps, that did best on the validation rows."""
    model = tff.FlowModel(distribution)
    optimizer = keras.optimizers.AdamW(3e-3, weight_decay=0.3, global_clipnorm=5.0, use_ema=True, ema_momentum=0.995)
    model.compile(optimizer, metrics=["bits_per_dim"], steps_per_execution=1)
    model.fit(
        *train_data,
        batch_size=64,
        epochs=10_000,
        verbose=0,
        validation_data=validation_data if len(validation_data) == 2 else validation_data[0],
        callbacks=[
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.EarlyStopping("val_loss", patience=10_000, restore_best_weights=True),
            tff.callbacks.TimeBudget(seconds),
        ],
    )
    return model


def nearest(samples, data):
    """The rows of the data that have the smallest squared distance to each sample."""
    samples, data = (np.asarray(rows, float).reshape(len(rows), -1) for rows in (samples, data))
    return ((samples[:, np.newaxis] - data) ** 2).sum(-1).argmin(1)


def tiled(images, columns):
    """Images `[n, H, W, 1]` side by side in rows of so many, with a margin between."""
    images = np.pad(np.asarray(images)[..., 0], [(0, 0), (0, 1), (0, 1)])
    rows = [np.concatenate(list(images[k : k + columns]), 1) for k in range(0, len(images), columns)]
    return np.concatenate(rows, 0)


def draw(model, images, path):
    """Samples at three temperatures, the training digits nearest to samples, and interpolations."""
    shape = images.shape[1:]
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.4), layout="constrained")
    pictures = {}
    for temperature in (0.5, 0.7, 1.0):
        samples = model.sample(64, seed=1, temperature=temperature)
        pictures[f"samples, temperature {temperature}"] = tiled(samples, 8)
    pairs = np.stack([samples[:32], images[nearest(samples[:32], images)]], 1).reshape(64, *shape)
    pictures["samples, each beside its nearest digit"] = tiled(pairs, 8)
    paths = tff.inference.interpolate(model, images[:8], images[8:16], num=8)
    pictures["from digit to digit"] = tiled(np.swapaxes(paths, 0, 1).reshape(64, *shape), 8)
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray_r")
        axis.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="to train each model")
    parser.add_argument("--width", type=int, default=32, help="channels of the hidden layers")
    parser.add_argument("--models", nargs="*", help="names of models; all if none")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    images, labels = tff.datasets.digits()
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = images[order], np.eye(10, dtype="float32")[labels[order]]
    parts = np.split(np.arange(len(images)), [1350, 1500])

    print(f"{'bits per dimension':22s} {'training':>9s} {'validation':>11s} {'test':>7s} {'64 draws':>9s}")
    for name, distribution, is_conditional in models(arguments.width):
        if arguments.models and name not in arguments.models:
            continue
        data = [(classes[part], images[part]) if is_conditional else (images[part],) for part in parts]
        model = train(distribution, data[0], data[1], arguments.seconds)
        bits = [model.evaluate(*rows, verbose=0, return_dict=True)["bits_per_dim"] for rows in data]
        # With more draws of the noise the bound is tighter.
        distribution.num_samples = 64
        tighter = tff.FlowModel(distribution)
        tighter.compile(metrics=["bits_per_dim"])
        bits.append(tighter.evaluate(*data[2], verbose=0, return_dict=True)["bits_per_dim"])
        print(f"{name:22s} {bits[0]:9.3f} {bits[1]:11.3f} {bits[2]:7.3f} {bits[3]:9.3f}", flush=True)
        if name == "Glow":
            draw(model, images[:1350], arguments.output / "digits.png")
            print(f"wrote digits.png to {arguments.output}")


if __name__ == "__main__":
    main()
