"""Location and scale of columns of data, safe to divide by."""

import numpy as np


def location_and_scale(x, dtype):
    """The mean and the standard deviation of every column of x, `[n, D]`; 1 where the deviation is no safe divisor.

    That is so for a constant column, and for one whose spread is rounding error relative to its values, or denormal, so
    that its inverse would be infinite in `dtype`.
    """
    numbers = np.finfo(dtype)
    x = np.asarray(x, np.float64)
    deviation = x.std(0)
    minimum = np.maximum(numbers.eps * np.abs(x).max(0), numbers.tiny)
    return x.mean(0), np.where(deviation > minimum, deviation, 1.0)
