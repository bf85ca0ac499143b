"""Is a conditional density as wide as it says? Observed coverage against nominal, over many simulated truths."""

import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_positive_integers, random_generator
from tfp_flows.inference._flow import as_model, batches

LEVELS = np.linspace(0.05, 0.95, 19)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How often regions of a nominal probability held the truth, beside the band in which a right density would lie.

    Attributes:
      nominal: the probabilities of the regions, `[L]`.
      observed: the fractions of truths inside them, `[L]`.
      lower, upper: the band, `[L]`; `observed` lies in it at all levels together with probability `confidence`.
      confidence: 0.99, for one.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 3])
    >>> print(tff.inference.coverage(tff.flows.gaussian(3, "unit"), x, levels=[0.5, 0.9]))
    coverage, with the 99 % band: inside
      0.50  0.490  0.456 to 0.544
      0.90  0.901  0.873 to 0.925
    """

    nominal: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    confidence: float

    @property
    def inside(self):
        """Whether the observed coverage lies in the band at every level."""
        return bool(np.all((self.lower <= self.observed) & (self.observed <= self.upper)))

    def __str__(self):
        outside = ~((self.lower <= self.observed) & (self.observed <= self.upper))
        lines = [f"coverage, with the {100 * self.confidence:g} % band: {'inside' if self.inside else 'OUTSIDE'}"]
        for k in range(len(self.nominal)):
            band = f"{self.lower[k]:.3f} to {self.upper[k]:.3f}"
            lines.append(f"  {self.nominal[k]:.2f}  {self.observed[k]:.3f}  {band}{'  outside' if outside[k] else ''}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of truths among draws; uniform on 0 ... `num_samples`, for every coordinate, if the density is right.

    Attributes:
      ranks: how many draws lie below the truth, `[n, D]` integers.
      num_samples: the number of draws for each truth.

    Example: truths that are all above the draws.

    >>> import numpy as np, tfp_flows as tff
    >>> tff.inference.Ranks(np.full([1000, 1], 100), num_samples=100).coverage(0).inside
    False
    """

    ranks: np.ndarray
    num_samples: int

    def coverage(self, coordinate, levels=LEVELS, confidence=0.99):
        """The distribution function of one coordinate's ranks beside that of the uniform distribution."""
        # A rank r is anywhere in a cell of the unit interval; its middle stands for it.
        return _curve((self.ranks[:, coordinate] + 0.5) / (self.num_samples + 1), levels, confidence)


def coverage(flow, x, context=None, levels=LEVELS, confidence=0.99):
    """Coverage of the regions of highest density in the base: balls around 0, whose images hold x or not.

    For a normal base |z|² of z = f⁻¹(x; c) is chi-squared with D degrees of freedom, if the density is right. No draws
    are needed, and the regions are those of a density of any shape.

    Shapes: x `[n, D]`, context `[n, C]`: n truths, each with its own observation.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution` made by a bijector from a standard normal.
      x: the truths, drawn from the joint distribution with their contexts.
      context: the observations of a conditional flow.
      levels: the nominal probabilities, between 0 and 1.
      confidence: the probability that the whole curve of a right density lies in the band.

    Returns: a `Coverage`; print it, or draw it by `tff.plotting.coverage`.

    Raises: ValueError for another base than a standard normal, and for levels outside 0 to 1; as `FlowModel.inverse`.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 3])
    >>> tff.inference.coverage(tff.flows.gaussian(3, "unit"), x).inside
    True
    >>> tff.inference.coverage(tff.flows.gaussian(3, "unit"), 1.1 * x).inside  # a density too narrow
    False
    """
    model = as_model(flow)
    z = model.inverse(x, context)
    base = model.distribution.distribution
    normal = tfd.MultivariateNormalDiag(tf.zeros(z.shape[-1], z.dtype))
    if not np.allclose(base.log_prob(z[:10]), normal.log_prob(z[:10]), rtol=1e-3, atol=1e-3):
        raise ValueError(f"Expected a standard normal as base. Received: {base}")
    radius = tf.reduce_sum(tf.cast(z, tf.float64) ** 2, -1)
    return _curve(tfd.Chi2(tf.constant(z.shape[-1], tf.float64)).cdf(radius).numpy(), levels, confidence)


def rank_statistics(flow, x, context=None, num_samples=100, batch_size=1000, seed=None):
    """Simulation-based calibration: the rank of every coordinate of x among draws for the same context.

    Shapes: x `[n, D]`, context `[n, C]`.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution`.
      x, context: truths and their observations, as in `coverage`.
      num_samples: how many draws for each truth.
      batch_size: how many truths at once.
      seed: an integer; drawn if None.

    Returns: `Ranks`; draw them by `tff.plotting.ranks`.

    Source: Talts et al. 2018, arXiv 1804.06788, algorithm 1.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 2])
    >>> ranks = tff.inference.rank_statistics(tff.flows.gaussian(2, "unit"), x, seed=0)
    >>> ranks.ranks.shape, ranks.coverage(0).inside
    ((1000, 2), True)
    """
    check_positive_integers(num_samples=num_samples, batch_size=batch_size)
    ranks = [
        np.sum(draws < truths, 0)
        for truths, draws in _truths_and_draws(flow, x, context, num_samples, batch_size, seed)
    ]
    return Ranks(np.concatenate(ranks), num_samples)


def expected_coverage(
    flow, x, context=None, num_samples=100, levels=LEVELS, confidence=0.99, batch_size=1000, seed=None
):
    """Coverage of balls around random points that reach to the truth: the test of TARP, for a density of any kind.

    Of the draws for the same context a fraction f is nearer than the truth to a point drawn in the box of all truths; f
    is uniform if the density is right. Coordinates are measured in units of the box.

    Arguments: as `rank_statistics` and `coverage`.

    Returns: a `Coverage`.

    Source: Lemos et al. 2023, arXiv 2302.03026, algorithm 2.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 2])
    >>> tff.inference.expected_coverage(tff.flows.gaussian(2, "unit"), x, seed=0).inside
    True
    """
    check_positive_integers(num_samples=num_samples, batch_size=batch_size)
    low, high = np.min(x, 0), np.max(x, 0)
    rng, fractions = random_generator(seed), []
    for truths, draws in _truths_and_draws(flow, x, context, num_samples, batch_size, seed):
        points = rng.uniform(low, high, truths.shape)
        of_draws, of_truths = (np.sum(((part - points) / (high - low)) ** 2, -1) for part in (draws, truths))
        fractions.append((np.sum(of_draws < of_truths, 0) + 0.5) / (num_samples + 1))
    return _curve(np.concatenate(fractions), levels, confidence)


def _truths_and_draws(flow, x, context, num_samples, batch_size, seed):
    """Yields truths `[b, D]` and draws for their contexts `[num_samples, b, D]`."""
    model, x, start = as_model(flow), np.asarray(x), 0
    for size, batch_seed in batches(len(x), batch_size, seed):
        rows = slice(start, start + size)
        start += size
        if context is None:
            draws = model.sample(num_samples * size, seed=batch_seed).numpy().reshape(num_samples, size, -1)
        else:
            part = tf.nest.map_structure(lambda leaf, rows=rows: leaf[rows], context)
            draws = model.sample(num_samples, part, seed=batch_seed).numpy()
        yield x[rows], draws


def _curve(uniform, levels, confidence):
    """The coverage from numbers that are uniform between 0 and 1 if the density is right."""
    levels = np.asarray(levels, np.float64)
    if levels.ndim != 1 or not np.all((levels > 0) & (levels < 1)) or not np.all(np.diff(levels) > 0):
        raise ValueError(f"Expected `levels` between 0 and 1, ascending. Received: levels={levels}")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected `confidence` between 0 and 1. Received: confidence={confidence!r}")
    observed = np.mean(np.asarray(uniform)[:, None] <= levels, 0)
    lower, upper = binomial_band(len(uniform), levels, confidence)
    return Coverage(levels, observed, lower, upper, confidence)


def binomial_band(n, levels, confidence):
    """The band that the distribution function of n uniform numbers stays in, at all levels, with this probability.

    At every level the count is binomial. The probability of each tail is chosen, by simulation, so small that a curve
    leaves the band anywhere with the probability 1 - `confidence`; bands for each level alone would lose it more often.

    Source: Säilynoja et al. 2022, arXiv 2103.10522, algorithm 1.
    """
    counts = np.arange(n + 1)
    # P(count ≤ k) at every level, `[L, n + 1]`.
    cdf = tfd.Binomial(np.float64(n), probs=levels[:, None]).cdf(counts.astype(np.float64)).numpy()
    survival = 1 - np.concatenate([np.zeros([len(levels), 1]), cdf[:, :-1]], 1)  # P(count ≥ k)
    tail = np.minimum(cdf, survival)
    curves = np.random.default_rng(0).multinomial(n, np.diff([0, *levels, 1]), size=10_000)[:, :-1].cumsum(1)
    smallest = np.min(tail[np.arange(len(levels)), curves], 1)
    # Counts at the very threshold stay inside, so that the band is never too narrow.
    inside = tail >= np.quantile(smallest, 1 - confidence, method="lower")
    lower = np.argmax(inside, 1)
    upper = n - np.argmax(inside[:, ::-1], 1)
    return lower / n, upper / n
