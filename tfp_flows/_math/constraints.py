"""Unconstrained numbers in, numbers inside safe bounds out."""

import math

import numpy as np
import tensorflow as tf

# The lower bound on scales and slopes: no map shrinks by more than 1000, so no inverse stretches by more.
FLOOR = 1e-3


def positive(raw):
    """d > 0 from any real number: δ + (1 - δ) softplus(raw + log(e - 1)), δ = 0.001, which takes 0 to 1."""
    return FLOOR + (1 - FLOOR) * tf.math.softplus(raw + math.log(math.e - 1))


def inverse_positive(value):
    """The array from which `positive` makes the values; those that it cannot reach come as near as they may."""
    softplus = (np.maximum(value, 1.001 * FLOOR) - FLOOR) / (1 - FLOOR)
    return softplus + np.log(-np.expm1(-softplus)) - math.log(math.e - 1)


def above_minus_one(raw):
    """m > -1 from any real number: raw itself if positive, (1 - δ) (exp(raw / (1 - δ)) - 1) if negative; δ = 0.001.

    Value and slope at 0 are those of the identity, so small numbers stay almost unchanged.
    """
    bound = 1 - FLOOR
    return tf.where(raw < 0, bound * tf.math.expm1(tf.minimum(raw, 0) / bound), raw)
