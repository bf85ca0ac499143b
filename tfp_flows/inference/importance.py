"""Importance sampling: a flow as proposal for a density that is known up to its normalization, the evidence."""

import dataclasses
import warnings

import numpy as np

from tfp_flows._arguments import check_positive_integers, random_generator
from tfp_flows.inference._flow import as_model, batches

# Above it the error of the mean shrinks too slowly with the number of draws to be relied on (Vehtari et al. 2024).
RELIABLE = 0.7


@dataclasses.dataclass(frozen=True)
class ImportanceSample:
    """Draws θ_i from a flow q and their weights w_i = p̃(θ_i) / q(θ_i), with p̃ = Z p the target.

    Attributes:
      samples: θ, `[n, D]`.
      log_weights: log w, `[n]`, in nats.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> found = tff.inference.ImportanceSample(np.array([[0.0], [1.0]]), np.log([1.0, 3.0]))
    >>> round(np.exp(found.log_evidence).item(), 6), found.mean().tolist(), round(found.ess, 6)
    (2.0, [0.75], 1.6)
    """

    samples: np.ndarray
    log_weights: np.ndarray

    @property
    def log_evidence(self):
        """log Z, the logarithm of the mean weight, in nats."""
        largest = self.log_weights.max()
        return float(largest + np.log(np.mean(np.exp(self.log_weights - largest))))

    @property
    def log_evidence_std(self):
        """The standard error of `log_evidence`: that of the mean weight over that mean, √((n / ESS - 1) / (n - 1))."""
        n = len(self.log_weights)
        return float(np.sqrt(max(0.0, n / self.ess - 1) / (n - 1)))

    @property
    def weights(self):
        """The weights, of sum one, `[n]`."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        return weights / weights.sum()

    @property
    def ess(self):
        """The effective sample size of Kish, (Σ w)² / Σ w²: as many draws from p would have this variance."""
        return float(1 / np.sum(self.weights**2))

    @property
    def pareto_k(self):
        """The shape of the generalized Pareto distribution of the largest weights: see `pareto_shape`."""
        return pareto_shape(self.log_weights)

    def resample(self, n, seed=None):
        """Draws from the target: `[n, D]`, rows of `samples` by their weights, with replacement.

        Where n is not small against `ess`, rows come several times.
        """
        check_positive_integers(n=n)
        # Systematic resampling: one random offset, so that no row's count is off by more than one from n w.
        positions = (np.arange(n) + random_generator(seed).uniform()) / n
        rows = np.searchsorted(np.cumsum(self.weights), positions).clip(max=len(self.samples) - 1)
        return self.samples[random_generator(seed).permutation(rows)]

    def mean(self, values=None):
        """The mean under the target of the samples, or of values at them `[n, ...]`."""
        return np.tensordot(self.weights, self.samples if values is None else values, 1)

    def __str__(self):
        n, k = len(self.log_weights), self.pareto_k
        return (
            f"importance sampling with {n} draws\n"
            f"  log evidence           {self.log_evidence:.4f} ± {self.log_evidence_std:.4f} nats\n"
            f"  effective sample size  {self.ess:.0f} ({100 * self.ess / n:.1f} % of the draws)\n"
            f"  Pareto k               {k:.2f} ({'reliable' if k <= RELIABLE else 'not reliable'}: "
            f"{'not ' if k <= RELIABLE else ''}above {RELIABLE})"
        )


def importance_sample(flow, target_log_prob, num_samples, context=None, batch_size=None, seed=None):
    """Draws from a flow, with the weights that make them draws from a target known up to its normalization.

    The evidence Z = ∫ p̃(θ) dθ = E_q[w], w = p̃(θ) / q(θ), comes with its standard error, whatever the flow: where it
    misses a part of the target, the Pareto shape of the weights is to tell.

    Arguments:
      flow: the proposal q, a `FlowModel` or `tfd.Distribution` with events `[D]`.
      target_log_prob: log p̃, a function from θ `[n, D]` to `[n]`, in nats, as log-likelihood plus log-prior; -inf is
        allowed, outside the prior's support.
      num_samples: n, the number of draws.
      context: the observation `[C]` for a conditional flow, one only.
      batch_size: how many draws go through flow and target at once; None for all.
      seed: an integer; drawn if None.

    Returns: an `ImportanceSample`; print it for a summary.

    Warns: UserWarning where the Pareto shape k exceeds 0.7.

    Raises: ValueError for numbers that are not positive integers, for contexts of a batch shape, and for a target whose
      values are not `[n]`, NaN, or -inf everywhere.

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
    samples, log_weights = [], []
    for size, batch_seed in batches(num_samples, batch_size, seed):
        theta, log_q = model.sample_and_log_prob(size, context, seed=batch_seed)
        if log_q.shape.rank != 1:
            raise ValueError(f"Expected one context, not a batch. Received: log-densities of shape {log_q.shape}")
        log_p = np.asarray(target_log_prob(theta), np.float64)
        if log_p.shape != (size,) or np.isnan(log_p).any() or np.isposinf(log_p).any():
            raise ValueError(
                f"Expected `target_log_prob` to give {size} log-densities, none of them NaN or +inf. "
                f"Received: shape {log_p.shape}, {np.isnan(log_p).sum()} NaN, {np.isposinf(log_p).sum()} +inf"
            )
        samples.append(theta.numpy())
        log_weights.append(log_p - log_q.numpy())
    result = ImportanceSample(np.concatenate(samples), np.concatenate(log_weights))
    if np.isneginf(result.log_weights).all():
        raise ValueError("Expected a target with support where the flow draws. Received: a density of 0 at every draw")
    k = result.pareto_k
    if k > RELIABLE:
        warnings.warn(
            f"The weights have a heavy tail, of Pareto shape {k:.2f} > {RELIABLE}: the flow misses a part of the "
            "target, and evidence and error are not to be relied on. Train longer, or draw more.",
            stacklevel=2,
        )
    return result


def pareto_shape(log_weights):
    """k̂: the tail of the weights is like a power law with 1/k finite moments; their mean is reliable if k̂ < 0.7.

    A generalized Pareto distribution of scale σ and shape k, fitted to the M = min(n / 5, 3 √n) largest weights, their
    threshold taken off. -inf where fewer than 5 weights are in the tail or all of them are equal: no tail to speak of.

    Arguments:
      log_weights: `[n]`, in nats, up to a constant.

    Source: the tail and the prior of k: Vehtari et al. 2024, arXiv 1507.02646, section 3 and appendix; the fit: Zhang
    and Stephens 2009, Technometrics 51, 316-325.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> uniform = np.random.default_rng(0).uniform(size=1_000_000)
    >>> round(tff.inference.pareto_shape(-0.5 * np.log(uniform)), 1)  # weights u^-k have the shape k
    0.5
    """
    log_weights = np.sort(np.asarray(log_weights, np.float64))
    size = int(np.ceil(min(len(log_weights) / 5, 3 * np.sqrt(len(log_weights)))))
    weights = np.exp(log_weights[-size - 1 :] - log_weights[-1])
    x = weights[1:] - weights[0]
    x = x[x > 0]
    if len(x) < 5 or x[-1] < 1e-12:
        return -np.inf
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
