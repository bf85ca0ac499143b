"""Flows on the sphere and the torus beside densities that are known: python benchmarks/manifolds.py [seconds] [layers]

Prints the Kullback-Leibler divergence from a mixture of three von Mises-Fisher distributions, one of them at a pole of
the coordinates, after so many seconds of processor time; and how well the flow keeps to the sphere: the integral of its
density, round trips, rings about the poles of every layer, and what a rotation of data and model changes.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

MEANS = np.float32([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [-0.5, 0.5, -0.7]])
MIXTURE = tfd.MixtureSameFamily(
    tfd.Categorical(probs=np.ones(3, np.float64) / 3),
    tfd.VonMisesFisher(
        tf.math.l2_normalize(tf.constant(MEANS, tf.float64), -1), tf.constant([10.0, 30.0, 50.0], tf.float64)
    ),
)


def grid(num_heights=200, num_azimuths=400):
    """Nodes of Gauss's rule in the height and of the trapezoid's in the azimuth, with their areas."""
    heights, weights = np.polynomial.legendre.leggauss(num_heights)
    azimuths = -np.pi + 2 * np.pi * (np.arange(num_azimuths) + 0.5) / num_azimuths
    h, azimuth = np.meshgrid(heights, azimuths, indexing="ij")
    radius = np.sqrt(1 - h**2)
    points = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), h], -1).reshape(-1, 3)
    return points.astype(np.float32), np.repeat(weights, num_azimuths) * 2 * np.pi / num_azimuths


def uniform(n, seed):
    x = np.random.default_rng(seed).normal(size=[n, 3])
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def train(model, x, seconds, batch_size=512):
    """Steps of Adam whose rate falls to 0 as the seconds pass, without those of compiling."""
    model.compile(keras.optimizers.Adam(5e-3, global_clipnorm=5.0))
    budget = tff.callbacks.TimeBudget(seconds, time.process_time)
    model.fit(x, batch_size=batch_size, epochs=100_000, steps_per_epoch=32, callbacks=[budget], verbose=0)
    return int(model.optimizer.iterations.numpy())


def rings(model, radius, num_points=64):
    """The greatest spreads of log p, of the model and of the mixture, on rings of this radius about all layers' poles.

    A density that is smooth spreads by twice the radius times its gradient; one that jumps, by as much on every ring.
    """
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.sqrt(1 - radius**2) + 0 * angles], -1)
    parts = [layer for part in model.distribution.bijector.bijectors for layer in getattr(part, "layers", [part])]
    spreads = []
    for k, part in enumerate(parts):
        if isinstance(part, tff.bijectors.SphereFlow):
            for side in (1, -1):
                points = side * tf.constant(ring, tf.float32)
                for before in parts[:k][::-1]:
                    points = before.forward(points)
                exact = MIXTURE.log_prob(tf.math.l2_normalize(tf.cast(points, tf.float64), -1))
                spreads.append([np.ptp(model.log_prob(points)), np.ptp(exact)])
    return np.max(spreads, 0)


def main(seconds=60.0, num_layers=6, path=None):
    train_x = MIXTURE.sample(100_000, seed=(0, 1)).numpy().astype(np.float32)
    test_x = MIXTURE.sample(100_000, seed=(2, 3)).numpy()
    keras.utils.set_random_seed(0)
    model = tff.FlowModel(tff.flows.sphere(num_layers=num_layers, seed=0))
    steps = train(model, train_x, seconds)
    difference = MIXTURE.log_prob(test_x).numpy() - model.log_prob(test_x.astype(np.float32)).numpy()
    error = difference.std() / np.sqrt(len(difference))
    print(f"sphere, {num_layers} layers, {steps} steps in {seconds:g} s of processor time:", flush=True)
    print(f"  KL {difference.mean():.4f} ± {error:.4f} nats", flush=True)
    if path:
        model.save_weights(path)
    points, areas = grid()
    print(f"  integral of the density - 1: {np.exp(model.log_prob(points).numpy().astype(float)) @ areas - 1:.1e}")
    z = uniform(100_000, 5)
    x = model.forward(z)
    back = model.inverse(x).numpy()
    errors = np.abs(back - z).max(1)
    quantiles = ", ".join(f"{100 * q:g} % {np.quantile(errors, q):.1e}" for q in (0.5, 0.99, 0.9999))
    print(f"  round trip of 100 000 points: at most {errors.max():.1e}; {quantiles}")
    print(f"  length of x - 1: at most {np.abs(np.linalg.norm(x.numpy().astype(float), axis=1) - 1).max():.1e}")
    for radius in (1e-2, 1e-3, 1e-4):
        of_model, of_mixture = rings(model, radius)
        print(
            f"  spread of log p on rings of radius {radius:g} about the poles: at most {of_model:.1e} nats, "
            f"of the mixture {of_mixture:.1e}"
        )
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=[3, 3]))[0].astype(np.float32)
    rotated = tfd.TransformedDistribution(
        model.distribution, tfb.ScaleMatvecLinearOperator(tf.linalg.LinearOperatorFullMatrix(rotation))
    )
    test_x = test_x.astype(np.float32)
    change = np.abs(tff.FlowModel(rotated).log_prob(test_x @ rotation.T) - model.log_prob(test_x)).max()
    print(f"  log p of rotated data under the rotated model: changes by at most {change:.1e} nats")


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((float, int, str), sys.argv[1:], strict=False)))
