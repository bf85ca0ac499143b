"""The band in which an observed coverage lies, at all levels together, if the density is right."""

import functools

import numpy as np
from tensorflow_probability import distributions as tfd


def check_levels(levels, confidence):
    """The levels as `[L]` float64; ValueError unless they and the confidence are probabilities."""
    levels = np.asarray(levels, np.float64)
    if levels.ndim != 1 or not np.all((levels > 0) & (levels < 1)) or not np.all(np.diff(levels) > 0):
        raise ValueError(f"Expected `levels` between 0 and 1, ascending. Received: levels={levels}")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected `confidence` between 0 and 1. Received: confidence={confidence!r}")
    return levels


def binomial_band(n, levels, confidence):
    """The band that n independent truths stay in, at all levels, with at least this probability.

    At level p the number of truths inside the region is Binomial(n, p), and the numbers between two levels are
    multinomial. Both tails of every level get the same probability, so small that a simulated curve leaves the band
    anywhere with probability 1 - `confidence`; bands made for each level alone would be left more often.

    Returns: the lower and upper fractions, `[L]` each. Fractions are multiples of 1/n, so that for small n a right
    density stays inside more often than `confidence` says, never less.

    Source: Säilynoja et al. 2022, arXiv 2103.10522, algorithm 1.
    """
    return _band(n, tuple(levels), confidence)


@functools.lru_cache(64)  # one band serves every coordinate
def _band(n, levels, confidence):
    curves = np.random.default_rng(0).multinomial(n, np.diff([0, *levels, 1]), size=10_000)[:, :-1].cumsum(1)
    # The smaller of P(count ≤ k) and P(count ≥ k), for every k, `[L, n + 1]`.
    tails = []
    for level in levels:
        probability = tfd.Binomial(np.float64(n), probs=np.float64(level)).prob(np.arange(n + 1.0)).numpy()
        tails.append(np.minimum(probability.cumsum(), probability[::-1].cumsum()[::-1]))
    smallest = np.min([tail[counts] for tail, counts in zip(tails, curves.T, strict=True)], 0)
    # Counts at the threshold itself stay inside, so that the band is never too narrow.
    inside = np.array(tails) >= np.quantile(smallest, 1 - confidence, method="lower")
    return np.argmax(inside, 1) / n, (n - np.argmax(inside[:, ::-1], 1)) / n
