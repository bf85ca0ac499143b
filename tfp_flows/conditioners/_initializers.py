"""How the hidden layers of dense conditioners start: kernel and bias from U(-1/√fan_in, 1/√fan_in)."""

import math

import keras


def hidden_kernel(seed):
    """A kernel `[fan_in, units]` whose entries have variance 1/(3 fan_in)."""
    # A uniform variable on ±a has variance a²/3.
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed)


def hidden_bias(fan_in, seed):
    """Biases `[units]` as wide as the kernel's entries.

    At zero the kinks of all ReLUs of a first layer meet in one point: with one or two inputs that are near 0, a flow
    sees little more than the two or four linear pieces around it, and training spends its steps on moving them apart.
    """
    return keras.initializers.RandomUniform(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), seed)
