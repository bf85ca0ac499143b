"""Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv 1807.03039: table 2.

The settings are those of the commands for the quantitative results in the authors' repository, github.com/openai/glow,
README.md, and of the defaults in its train.py.
"""

from tensorflow_probability import distributions as tfd

from tfp_flows import distributions, flows
from tfp_flows.experiments.experiment import Experiment, Figure, Training

# Bits per dimension; side, levels, steps per level, images per step, training images.
_TABLE = {
    "cifar10": (3.35, 32, 3, 32, 512, (50_000, 0, 10_000), "CIFAR-10"),
    "imagenet32": (4.09, 32, 3, 48, 512, (1_281_149, 0, 49_999), "ImageNet, reduced to 32x32 by van den Oord et al."),
    "imagenet64": (3.81, 64, 4, 48, 128, (1_281_149, 0, 49_999), "ImageNet, reduced to 64x64 by van den Oord et al."),
    "lsun-bedroom": (2.38, 64, 3, 48, 128, None, "LSUN bedroom at 96x96, a random 64x64 of each image"),
    "lsun-tower": (2.46, 64, 3, 48, 128, None, "LSUN tower at 96x96, a random 64x64 of each image"),
    "lsun-church": (2.67, 64, 3, 48, 128, None, "LSUN church outdoor at 96x96, a random 64x64 of each image"),
}


def _make(event_shape, seed, *, num_levels, steps_per_level, hidden_channels, normalization) -> tfd.Distribution:
    flow = flows.glow(
        event_shape,
        num_levels=num_levels,
        num_steps=steps_per_level,
        hidden_channels=hidden_channels,
        normalization=normalization,
        alpha=None,
        seed=seed,
    )
    return distributions.Dequantized(flow)


def _experiment(name):
    value, side, num_levels, steps_per_level, batch_size, num_rows, images = _TABLE[name]
    differences = [
        "A scale is exp(s) with s within ±3 of 0, and not a sigmoid of s + 2.",
        "The channels are standardized, and not shifted by a half.",
        "The last level's learned normal has a mean and a width per coordinate, and not per channel.",
        "The sources set no number of steps; here there are 200,000.",
    ]
    if name == "cifar10":
        differences.append("Images are not moved or mirrored at random.")
    if name.startswith("lsun"):
        differences.append("An image is cropped once, by the user, and not anew whenever it is read.")
    return Experiment(
        name=f"glow/{name}",
        paper="Kingma & Dhariwal 2018, arXiv 1807.03039, table 2: Glow",
        unit="bits per dimension",
        reported=Figure(value),
        event_shape=(side, side, 3),
        num_rows=num_rows,
        data=f"{images}: integers from 0 to 255, [n, {side}, {side}, 3]",
        is_standardized=False,
        settings={
            "num_levels": num_levels,
            "steps_per_level": steps_per_level,
            "hidden_channels": 512,
            "normalization": "act",
        },
        training=Training(
            batch_size,
            1e-3,
            schedule="warm-up",
            num_steps=200_000,
            validation_steps=1_000,
            optimizer="adamax",
            warm_up_steps=977,  # ten times 50,000 images of 32x32
            beta_2=1 - 1 / 98,
        ),
        differences=" ".join(differences),
        make=_make,
    )


EXPERIMENTS = [_experiment(name) for name in _TABLE]
