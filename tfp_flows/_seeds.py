"""Seeds: one integer fixes everything random in the making of a bijector."""

import random

import numpy as np


def draw_seed(seed=None):
    """The seed itself, or a new one from Python's generator, which `keras.utils.set_random_seed` sets."""
    return random.randrange(2**31) if seed is None else int(seed)


def split_seed(seed, num):
    """`num` independent seeds from one."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(num) & 0x7FFFFFFF]
