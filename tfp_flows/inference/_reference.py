"""The reference points of TARP that depend on the observation."""

import numpy as np
import tensorflow as tf


def predicted_points(x, context, rng):
    """A rough draw from the posterior for every context, made from other rows: `[n, D]`.

    The rows are split at random in two halves. On each the truths are regressed on the context, by least squares on
    random features of it; for the other half the points are the predictions, plus a residual drawn from the fitted
    half. So a point is independent of its row's own truth given the context, and a right density gives uniform ranks
    however poor the fit; and it depends on the context, without which a density that ignores the context would pass.

    Shapes: x `[n, D]`, context None or arrays `[n, ...]`.
    """
    n = len(x)
    order = rng.permutation(n)
    halves = order[: (n + 1) // 2], order[(n + 1) // 2 :]
    features = np.ones([n, 1]) if context is None else _random_features(context, min(50, n // 20), rng)
    points = np.zeros(x.shape)  # a single row has no other: any point will do
    for fitted, rows in (halves, halves[::-1]):
        if len(fitted):
            predicted = features @ np.linalg.lstsq(features[fitted], x[fitted], rcond=None)[0]
            points[rows] = predicted[rows] + (x - predicted)[rng.choice(fitted, len(rows))]
    return points


def _random_features(context, size, rng):
    """1 and tanh(W c + b) with random W and b, `[n, 1 + size]`; each number of c on a unit scale."""
    leaves = tf.nest.flatten(context)
    total = rng.normal(size=size)
    for leaf in leaves:
        leaf = leaf.reshape(len(leaf), -1)
        some = leaf[:: max(1, len(leaf) // 1000)].astype(np.float64)  # enough for a scale
        scale = some.std(0)
        weights = rng.normal(size=[leaf.shape[1], size]) / np.sqrt(leaf.shape[1] * len(leaves))
        weights /= np.where(scale > 0, scale, 1)[:, np.newaxis]  # a constant column tells nothing
        total = total + (leaf @ weights.astype(leaf.dtype) - some.mean(0) @ weights)
    return np.concatenate([np.ones([len(total), 1]), np.tanh(total)], 1)
