"""The one way a seed becomes random numbers in this package."""

import numpy as np


def random_generator(seed):
    """A numpy generator from `None`, an integer, a sequence of integers, or a generator itself (which goes on)."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Expected `seed` to be None, a non-negative integer, a sequence of them, or a numpy.random.Generator. "
            f"Received: seed={seed!r}"
        ) from error
