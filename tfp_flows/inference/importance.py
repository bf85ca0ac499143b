"""Importance sampling: a flow as the proposal for a density known up to its normalization, the evidence."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_positive_integers, draw_seed, random_generator
from tfp_flows._types import Array, Context
from tfp_flows.context import context_batch_shape
from tfp_flows.inference._flow import as_model, batches
from tfp_flows.model import FlowModel

# Above it the error of the mean shrinks too slowly with the number of draws to be reliable (Vehtari et al. 2024).
RELIABLE = 0.7


@dataclasses.dataclass(frozen=True)
class ImportanceSample:
    """Draws θ_i from a flow q and their weights w_i = p̃(θ_i) / q(θ_i), with p̃ = Z p the target.

    Attributes:
      samples: θ, `[n, D]`.
      log_weights: log w, `[n]`, in nats; -inf for draws where the target has no density.

    Raises: ValueError unless there is one log-weight for each of the samples, at least one, none of them NaN or +inf,
      and not all of them -inf.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> found = tff.inference.ImportanceSample(np.array([[0.0], [1.0]]), np.log([1.0, 3.0]))
    >>> round(np.exp(found.log_evidence).item(), 6), found.mean().tolist(), round(found.ess, 6)
    (2.0, [0.75], 1.6)
    """

    samples: np.ndarray
    log_weights: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "samples", np.asarray(self.samples))
        object.__setattr__(self, "log_weights", np.asarray(self.log_weights, np.float64))
        n, shape = len(self.samples), self.log_weights.shape
        if n < 1 or shape != (n,):
            raise ValueError(
                f"Expected one log-weight for each sample. Received: {n} samples, log-weights of shape {shape}"
            )
        _check_log_weights(self.log_weights)

    @property
    def log_evidence(self) -> float:
        """log Z, the logarithm of the mean weight, in nats."""
        largest = self.log_weights.max()
        return float(largest + np.log(np.mean(np.exp(self.log_weights - largest))))

    @property
    def log_evidence_std(self) -> float:
        """The standard error of `log_evidence`: that of the mean weight, s / √n, over the mean weight.

        s² = Σ (w - w̄)² / (n - 1) is the sample variance. NaN for one draw, which has none.
        """
        n = len(self.weights)
        return float(np.std(self.weights, ddof=1) * np.sqrt(n)) if n > 1 else np.nan  # the mean of `weights` is 1 / n

    @property
    def weights(self) -> np.ndarray:
        """The weights, normalized to sum to one, `[n]`."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        return weights / weights.sum()

    @property
    def ess(self) -> float:
        """Kish's effective sample size, (Σ w)² / Σ w²: the number of draws from p with the same variance."""
        return float(1 / np.sum(self.weights**2))

    @property
    def pareto_k(self) -> float:
        """The shape of the generalized Pareto distribution of the largest weights: see `pareto_shape`."""
        return pareto_shape(self.log_weights)

    def resample(self, n: int, seed: int | None = None) -> np.ndarray:
        """Draws from the target: `[n, D]`, rows of `samples` by their weights, with replacement, in random order.

        If n is not small compared with `ess`, rows are repeated.
        """
        check_positive_integers(n=n)
        rng = random_generator(draw_seed() if seed is None else seed)
        # Systematic resampling: one random offset, so that every row comes n w times, rounded up or down.
        positions = (np.arange(n) + rng.uniform()) / n
        cumulative = np.cumsum(self.weights)
        # Row i takes the positions from the sum before it up to its own, exclusive: none if its weight is 0.
        rows = np.searchsorted(cumulative / cumulative[-1], positions, side="right").clip(max=len(self.samples) - 1)
        return self.samples[rng.permutation(rows)]

    def mean(self, values: Array | None = None) -> np.ndarray:
        """The mean under the target of the samples, or of values at them `[n, ...]`."""
        return np.tensordot(self.weights, self.samples if values is None else values, 1)

    def __str__(self):
        n, k = len(self.log_weights), self.pareto_k
        error = f"± {self.log_evidence_std:.4f} nats" if n > 1 else "nats, its error unknown with one draw"
        if k == np.inf:
            verdict = "unknown: too few draws in the tail"
        else:
            verdict = f"reliable: not above {RELIABLE}" if k <= RELIABLE else f"not reliable: above {RELIABLE}"
        return (
            f"importance sampling with {n} draw{'s' if n > 1 else ''}\n"
            f"  log evidence           {self.log_evidence:.4f} {error}\n"
            f"  effective sample size  {self.ess:.0f} ({100 * self.ess / n:.1f} % of the draws)\n"
            f"  Pareto k               {k:.2f} ({verdict})"
        )


def importance_sample(
    flow: FlowModel | tfd.Distribution,
    target_log_prob: Callable[[tf.Tensor], tf.Tensor],
    num_samples: int,
    context: Context | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> ImportanceSample:
    """Draws from a flow, weighted so that they represent a target known up to its normalization.

    The evidence Z = ∫ p̃(θ) dθ = E_q[w], w = p̃(θ) / q(θ), comes with its standard error, whatever the flow. Both
    hold only if the flow covers the target, which the Pareto shape of the weights checks; a mode in which no draw fell
    leaves no trace in the weights.

    Arguments:
      flow: the proposal q, a `FlowModel` or `tfd.Distribution` with events `[D]`.
      target_log_prob: log p̃, a function from θ `[n, D]` to `[n]`, in nats, e.g. log-likelihood plus log-prior; -inf
        outside the prior's support.
      num_samples: n, the number of draws.
      context: for a conditional flow the one observation, `[C]`; a dictionary where its embedding takes one.
      batch_size: how many draws go through flow and target at once; None for all.
      seed: an integer; drawn if None.

    Returns: an `ImportanceSample`; print it for a summary.

    Warns: UserWarning if the Pareto shape k exceeds 0.7, or is unknown because the draws are too few.

    Raises: ValueError for numbers that are not positive integers; for a context that is missing, unexpected, a batch,
      NaN or infinite; for a target whose values are not `[n]`, NaN, +inf, or -inf everywhere; and for a flow with
      non-finite draws or log-densities.

    Source: Vehtari et al. 2024, arXiv 1507.02646.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.flows.gaussian(2, "unit")
    >>> target = lambda x: -tf.reduce_sum(x**2, -1) / 2  # Z = 2π, whose logarithm is 1.8379
    >>> found = tff.inference.importance_sample(flow, target, 1000, seed=0)
    >>> round(found.log_evidence, 4), round(found.ess)
    (1.8379, 1000)
    """
    check_positive_integers(num_samples=num_samples, **({} if batch_size is None else {"batch_size": batch_size}))
    model = as_model(flow)
    context = _one_context(model, context)
    samples, log_weights = [], []
    for size, batch_seed in batches(num_samples, batch_size, seed):
        theta, log_q = model.sample_and_log_prob(size, context, seed=batch_seed)
        finite = np.isfinite(log_q) & np.isfinite(theta.numpy().reshape(size, -1)).all(1)
        if not finite.all():
            raise ValueError(
                "Expected finite draws and log-densities of the flow. "
                f"Received: NaN or infinity in {size - finite.sum()} draws of {size}"
            )
        log_p = np.asarray(target_log_prob(theta), np.float64)
        if log_p.shape != (size,) or np.isnan(log_p).any() or np.isposinf(log_p).any():
            raise ValueError(
                f"Expected `target_log_prob` to give {size} log-densities, none of them NaN or +inf. "
                f"Received: shape {log_p.shape}, {np.isnan(log_p).sum()} NaN, {np.isposinf(log_p).sum()} +inf"
            )
        samples.append(theta.numpy())
        log_weights.append(log_p - log_q.numpy())
    result = ImportanceSample(np.concatenate(samples), np.concatenate(log_weights))
    k = result.pareto_k
    if k > RELIABLE:
        problem = (
            "Too few draws to check the tail of the weights: evidence and error may be off. Draw more."
            if k == np.inf
            else f"The weights have a heavy tail, of Pareto shape {k:.2f} > {RELIABLE}: the flow misses a part of the "
            "target, and evidence and error are not reliable. Train longer, or draw more."
        )
        warnings.warn(problem, stacklevel=2)
    return result


def _one_context(model, context):
    """The context of a single observation, checked; None for a flow that takes none."""
    context = model.methods.context(context)
    if context is not None:
        batch_shape = context_batch_shape(context, model.context_shape)
        if batch_shape.rank:
            raise ValueError(f"Expected one context, not a batch. Received: contexts of batch shape {batch_shape}")
        for leaf in tf.nest.flatten(context):
            if not np.isfinite(leaf).all():
                raise ValueError(f"Expected a finite context. Received: {leaf.numpy()}")
    return context


def _check_log_weights(log_weights):
    if np.isnan(log_weights).any() or np.isposinf(log_weights).any():
        raise ValueError(
            "Expected log-weights without NaN and +inf. "
            f"Received: {np.isnan(log_weights).sum()} NaN, {np.isposinf(log_weights).sum()} +inf"
        )
    if np.isneginf(log_weights).all():
        raise ValueError("Expected a target with support where the flow draws. Received: a density of 0 at every draw")


def pareto_shape(log_weights: Array) -> float:
    """k̂: the tail of the weights is like a power law with 1/k finite moments; their mean is reliable if k̂ < 0.7.

    A generalized Pareto distribution of scale σ and shape k, fitted to the M = min(n / 5, 3 √n) largest weights, their
    threshold taken off.

    Arguments:
      log_weights: `[n]`, in nats, up to a constant; at least one, not all of them -inf.

    Returns: k̂; -inf if the largest weights are all equal, so that there is no tail; inf if the tail has fewer than 5
      draws (n up to 20, or many equal weights), from which no shape can be told.

    Raises: ValueError for NaN, +inf, and where all are -inf.

    Source: the tail and the prior of k: Vehtari et al. 2024, arXiv 1507.02646, section 3 and appendix; the fit: Zhang
    and Stephens 2009, Technometrics 51, 316-325.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> uniform = np.random.default_rng(0).uniform(size=1_000_000)
    >>> round(tff.inference.pareto_shape(-0.5 * np.log(uniform)), 1)  # weights u^-k have the shape k
    0.5
    """
    log_weights = np.sort(np.asarray(log_weights, np.float64).ravel())
    _check_log_weights(log_weights)
    size = int(np.ceil(min(len(log_weights) / 5, 3 * np.sqrt(len(log_weights)))))
    weights = np.exp(log_weights[-size - 1 :] - log_weights[-1])
    x = weights[1:] - weights[0]
    x = x[x > 0]
    if not len(x) or x[-1] < 1e-12:  # equal up to rounding
        return -np.inf if len(weights) > 1 else np.inf
    if len(x) < 5:
        return np.inf
    n = len(x)
    # The posterior mean of θ = -k / σ on a grid, by the likelihood profiled over k, which is n (log(-θ / k) - k - 1).
    m = 30 + int(np.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * quartile)
    k = np.mean(np.log1p(-theta[:, None] * x), 1)
    log_likelihood = n * (np.log(-theta / k) - k - 1)
    posterior = np.exp(log_likelihood - log_likelihood.max())
    theta = np.sum(theta * posterior) / np.sum(posterior)
    k = np.mean(np.log1p(-theta * x))
    # A weak prior of ten observations at 0.5, for the small sizes.
    return float((n * k + 10 * 0.5) / (n + 10))
