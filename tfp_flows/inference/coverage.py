"""Is a conditional density calibrated? Observed coverage against nominal, over many simulated truths."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_positive_integers, draw_seed, is_integer, random_generator
from tfp_flows._types import Array, Context
from tfp_flows.context import context_shape_of
from tfp_flows.inference._band import binomial_band, check_levels
from tfp_flows.inference._flow import as_model, as_rows, batches
from tfp_flows.inference._reference import predicted_points
from tfp_flows.model import FlowModel

LEVELS = np.linspace(0.05, 0.95, 19)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How often regions of a nominal probability contained the truth, with the band expected of a right density.

    Attributes:
      nominal: the probabilities of the regions, `[L]`.
      observed: the fractions of truths inside them, `[L]`.
      lower, upper: the band, `[L]`; for a right density `observed` lies in it at all levels together with at least the
        probability `confidence`.
      confidence: e.g. 0.99.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 3])
    >>> print(tff.inference.coverage(tff.flows.gaussian(3, "unit"), x, levels=[0.5, 0.9]))
    coverage, with the 99 % band: inside
      0.500  0.490  0.456 to 0.544
      0.900  0.901  0.873 to 0.925
    """

    nominal: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    confidence: float

    @property
    def inside(self) -> bool:
        """Whether the observed coverage lies in the band at every level."""
        return bool(np.all((self.lower <= self.observed) & (self.observed <= self.upper)))

    def __str__(self):
        outside = ~((self.lower <= self.observed) & (self.observed <= self.upper))
        lines = [f"coverage, with the {100 * self.confidence:g} % band: {'inside' if self.inside else 'OUTSIDE'}"]
        for k in range(len(self.nominal)):
            band = f"{self.lower[k]:.3f} to {self.upper[k]:.3f}"
            lines.append(f"  {self.nominal[k]:.3f}  {self.observed[k]:.3f}  {band}{'  outside' if outside[k] else ''}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of truths among draws; uniform on 0 ... `num_samples`, for every coordinate, if the density is right.

    Attributes:
      ranks: how many draws lie below the truth, `[n, D]` integers.
      num_samples: the number of draws for each truth.

    Raises: ValueError unless `ranks` is `[n, D]` integers from 0 to `num_samples`, n at least 1.

    Example: truths that are all above the draws.

    >>> import numpy as np, tfp_flows as tff
    >>> tff.inference.Ranks(np.full([1000, 1], 100), num_samples=100).coverage(0).inside
    False
    """

    ranks: np.ndarray
    num_samples: int

    def __post_init__(self):
        check_positive_integers(num_samples=self.num_samples)
        object.__setattr__(self, "ranks", np.asarray(self.ranks))
        ranks = self.ranks
        if ranks.ndim != 2 or ranks.dtype.kind not in "iu" or not ranks.size:
            raise ValueError(f"Expected `ranks` as `[n, D]` integers. Received: shape {ranks.shape}, {ranks.dtype}")
        if ranks.min() < 0 or ranks.max() > self.num_samples:
            raise ValueError(f"Expected `ranks` from 0 to {self.num_samples}. Received: {ranks.min()} to {ranks.max()}")

    def coverage(self, coordinate: int, levels: Array = LEVELS, confidence: float = 0.99) -> Coverage:
        """The distribution function of one coordinate's ranks against that of the uniform distribution.

        For a right density P(rank < k) = k / (`num_samples` + 1). Each level is rounded to the nearest of these
        probabilities, which then is the `nominal` one; with few draws several levels may become the same.

        `confidence` is that of one coordinate: for all D together at 99 %, take `1 - 0.01 / D` for each.
        """
        size = self.ranks.shape[1]
        if not is_integer(coordinate) or not -size <= coordinate < size:
            raise ValueError(f"Expected `coordinate` below {size}. Received: coordinate={coordinate!r}")
        cells = self.num_samples + 1
        k = np.clip(np.rint(check_levels(levels, confidence) * cells), 1, cells - 1)
        return _curve(self.ranks[:, coordinate, np.newaxis] < k, k / cells, confidence)


def coverage(
    flow: FlowModel | tfd.Distribution,
    x: Array,
    context: Context | None = None,
    levels: Array = LEVELS,
    confidence: float = 0.99,
) -> Coverage:
    """Coverage of the regions of highest density in the base: balls around 0, mapped by the flow.

    For a standard normal base |z|² of z = f⁻¹(x; c) is chi-squared with D degrees of freedom, if the density is right.
    No draws are needed, and the regions are those of a density of any shape. The test sees the length of z only, not
    its direction; `rank_statistics` and `expected_coverage` see other faults.

    Shapes: x `[n, D]`, context `[n, C]`: n truths, each with its own observation.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution` made by a bijector from a standard normal.
      x: the truths, drawn from the joint distribution with their contexts: an array, a tensor, a list or a frame.
      context: the observations of a conditional flow; a dictionary of arrays where its embedding takes one.
      levels: the nominal probabilities, between 0 and 1, ascending.
      confidence: the probability that the whole curve of a right density lies in the band.

    Returns: a `Coverage`; print it, or draw it with `tff.plotting.coverage`.

    Raises: ValueError for a base other than a standard normal, for levels outside 0 to 1, for truths and contexts of
      the wrong shapes, of different lengths, or with NaN or infinite values, and where z is NaN; TypeError for integer
      truths, and for a flow without a bijector.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 3])
    >>> tff.inference.coverage(tff.flows.gaussian(3, "unit"), x).inside
    True
    >>> tff.inference.coverage(tff.flows.gaussian(3, "unit"), 1.1 * x).inside  # a density too narrow
    False
    """
    levels = check_levels(levels, confidence)
    model = as_model(flow)
    x, context = as_rows(model, x, context)
    z = model.inverse(x, context).numpy().astype(np.float64)
    _check_standard_normal(model.distribution.distribution, z.shape[1:])
    z = z.reshape(len(z), -1)
    _check_no_nan(z, "z of every truth", "it lies outside the flow's support, or the flow's weights are NaN")
    radius = np.sum(z**2, -1)  # infinite where the truth is beyond all that the base can reach: in no region
    probability = tfd.Chi2(np.float64(z.shape[1])).cdf(radius).numpy()
    return _curve(probability[:, np.newaxis] <= levels, levels, confidence)


def rank_statistics(
    flow: FlowModel | tfd.Distribution,
    x: Array,
    context: Context | None = None,
    num_samples: int = 100,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Ranks:
    """Simulation-based calibration: the rank of every coordinate of x among draws for the same context.

    A truth equal to some draws, as where the density has atoms, gets a rank drawn uniformly from those it could have,
    so that ranks stay uniform.

    Shapes: x `[n, D]`, context `[n, C]`. Events of other shapes are taken flat.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution`.
      x, context: truths and their observations, as in `coverage`.
      num_samples: the number of draws for each truth.
      batch_size: how many truths at once; None for as many as take 100,000 draws.
      seed: an integer; drawn if None.

    Returns: `Ranks`; draw them with `tff.plotting.ranks`.

    Raises: as `coverage`, and ValueError for draws that are NaN or infinite.

    Source: Talts et al. 2018, arXiv 1804.06788, algorithm 1.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 2])
    >>> ranks = tff.inference.rank_statistics(tff.flows.gaussian(2, "unit"), x, seed=0)
    >>> ranks.ranks.shape, ranks.coverage(0).inside
    ((1000, 2), True)
    """
    check_positive_integers(num_samples=num_samples)
    model, seed = as_model(flow), draw_seed(seed)
    x, context = as_rows(model, x, context)
    x = x.reshape(len(x), -1).astype(np.float64)
    rng = random_generator(seed)
    batched = _draws(model, len(x), context, num_samples, batch_size, seed)
    return Ranks(np.concatenate([_ranks(x[rows], draws, rng) for rows, draws in batched]), num_samples)


def expected_coverage(
    flow: FlowModel | tfd.Distribution,
    x: Array,
    context: Context | None = None,
    num_samples: int = 100,
    levels: Array = LEVELS,
    confidence: float = 0.99,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Coverage:
    """Coverage of balls around random points that reach to the truth: the test of TARP, for a density of any kind.

    The number of draws for the same context that are nearer than the truth to a reference point is uniform on
    0 ... `num_samples`, if the density is right and the point independent of the truth given the context.

    The point is a rough prediction of the truth from the context, by a regression fitted to other rows, plus one of its
    residuals. So it depends on the context, without which a density that ignores the context would pass, and not on the
    flow, from which faults could cancel.

    Distances are Euclidean, each coordinate in units of the standard deviation of the draws and the truth together
    (unchanged where they are all equal). Equal distances are treated as equal values in `rank_statistics`.

    Arguments: as `rank_statistics` and `coverage`; levels are rounded as in `Ranks.coverage`.

    Returns: a `Coverage`; print it, or draw it with `tff.plotting.coverage`.

    Raises: as `rank_statistics`.

    Source: Lemos et al. 2023, arXiv 2302.03026, algorithm 2.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> x = np.random.default_rng(0).normal(size=[1000, 2])
    >>> tff.inference.expected_coverage(tff.flows.gaussian(2, "unit"), x, seed=0).inside
    True
    """
    check_positive_integers(num_samples=num_samples)
    check_levels(levels, confidence)
    model, seed = as_model(flow), draw_seed(seed)
    x, context = as_rows(model, x, context)
    x = x.reshape(len(x), -1).astype(np.float64)
    rng = random_generator(seed)
    points = predicted_points(x, context, rng)
    ranks = []
    for rows, draws in _draws(model, len(x), context, num_samples, batch_size, seed):
        truths, point = x[rows], points[rows]
        # A scale that truth and draws enter alike: one made from the truths alone would make the truth special.
        scale = np.std(np.concatenate([truths[np.newaxis], draws]), 0)
        scale = np.where(scale > 0, scale, 1)
        of_truths, of_draws = (np.sum(((part - point) / scale) ** 2, -1) for part in (truths, draws))
        ranks.append(_ranks(of_truths, of_draws, rng))
    return Ranks(np.concatenate(ranks)[:, np.newaxis], num_samples).coverage(0, levels, confidence)


def _draws(model, n, context, num_samples, batch_size, seed):
    """Yields a slice of the n truths and flat draws for their contexts, `[num_samples, b, D]` float64."""
    batch_size = max(1, 100_000 // num_samples) if batch_size is None else batch_size
    check_positive_integers(batch_size=batch_size)
    start = 0
    for size, batch_seed in batches(n, batch_size, seed):
        rows = slice(start, start + size)
        start += size
        if context is None:
            draws = model.sample(num_samples * size, seed=batch_seed)
        else:
            part = tf.nest.map_structure(lambda leaf, rows=rows: leaf[rows], context)
            draws = model.sample(num_samples, part, seed=batch_seed)
        draws = draws.numpy().reshape(num_samples, size, -1).astype(np.float64)
        if not np.isfinite(draws).all():
            raise ValueError(
                f"Expected finite draws from the flow. Received: {np.isnan(draws).any(-1).sum()} draws with NaN, "
                f"{np.isinf(draws).any(-1).sum()} with infinity, among {num_samples * size}"
            )
        yield rows, draws


def _ranks(truths, draws, rng):
    """How many draws `[num_samples, ...]` lie below the truths `[...]`; of equal ones a random number, all alike."""
    return np.sum(draws < truths, 0) + rng.integers(0, np.sum(draws == truths, 0), endpoint=True)


def _curve(inside, nominal, confidence):
    """The coverage from `inside` `[n, L]`: whether a region of a nominal probability holds the truth."""
    lower, upper = binomial_band(len(inside), nominal, confidence)
    return Coverage(nominal, np.count_nonzero(inside, 0) / len(inside), lower, upper, confidence)


def _check_standard_normal(base, event_shape):
    """Raises ValueError unless a base has the density of a standard normal at some random points."""
    z = np.random.default_rng(0).normal(size=[10, *event_shape])
    expected = np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi), tuple(range(1, z.ndim)))
    found = None if context_shape_of(base) is not None else base.log_prob(tf.cast(z, base.dtype)).numpy()
    if found is None or found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise ValueError(f"Expected a standard normal as base. Received: {base}")


def _check_no_nan(values, what, reason):
    """Raises ValueError if there are rows with NaN, and says how many and which is the first."""
    rows = np.flatnonzero(np.isnan(values).any(-1))
    if len(rows):
        raise ValueError(
            f"Expected {what} to be a number; where it is NaN, {reason}. "
            f"Received: NaN for {len(rows)} of {len(values)} truths, the first in row {rows[0]}"
        )
