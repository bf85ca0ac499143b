"""The reference points of TARP that depend on the observation."""

import numpy as np
import tensorflow as tf


def predicted_points(x, context, rng):
    """Points made from the observations of a random half of the rows, and from the truths of the other half.

    On the other half the truths are regressed on the context, by least squares on random features of it. A point is the
    prediction for the row's own context plus one of the residuals: a rough draw from the posterior. It is independent
    of the row's own truth given the context, so that a right density gives uniform ranks whatever the quality of the
    fit; and it depends on the context, without which a density that ignores the context would pass.

    Shapes: x `[n, D]`, context None or arrays `[n, ...]`.

    Returns: the indices of the rows, `[n // 2]`, and their points, `[n // 2, D]`.
    """
    n = len(x)
    order = rng.permutation(n)
    fitted, rows = order[n // 2 :], order[: n // 2]
    features = np.ones([n, 1]) if context is None else _random_features(context, fitted, min(50, n // 20), rng)
    predicted = features @ np.linalg.lstsq(features[fitted], x[fitted], rcond=None)[0]
    return rows, predicted[rows] + (x - predicted)[rng.choice(fitted, len(rows))]


def _random_features(context, fitted, size, rng):
    """1 and tanh(W c + b) with random W and b, `[n, 1 + size]`; each number of c on a unit scale."""
    leaves = tf.nest.flatten(context)
    total = rng.normal(size=size)
    for leaf in leaves:
        leaf = leaf.reshape(len(leaf), -1)
        some = leaf[fitted[:1000]].astype(np.float64)
        scale = some.std(0)
        weights = rng.normal(size=[leaf.shape[1], size]) / np.sqrt(leaf.shape[1] * len(leaves))
        weights /= np.where(scale > 0, scale, 1)[:, np.newaxis]  # a constant column tells nothing
        total = total + (leaf @ weights.astype(leaf.dtype) - some.mean(0) @ weights)
    return np.concatenate([np.ones([len(total), 1]), np.tanh(total)], 1)
