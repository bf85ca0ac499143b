"""Unconstrained numbers in, numbers inside safe bounds out."""

import math

import numpy as np
import tensorflow as tf

# How near a scale comes to 0, and a slope: the least stretch of a map, so that no inverse stretches by more than 1000.
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

    It keeps 0 and the slope there: a number that is small enough stays what it is.
    """
    bound = 1 - FLOOR
    return tf.where(raw < 0, bound * tf.math.expm1(tf.minimum(raw, 0) / bound), raw)
