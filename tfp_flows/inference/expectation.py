"""Expectations under a flow, estimated from draws x = f(z) and differentiable in the flow's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_positive_integers, stateless_seed
from tfp_flows._types import Context, Seed
from tfp_flows.context import context_shape_of
from tfp_flows.inference._flow import as_distribution
from tfp_flows.model import FlowModel

Result = TypeVar("Result")  # a tensor, or a structure of tensors


def expectation(
    flow: FlowModel | tfd.Distribution,
    fn: Callable[[tf.Tensor], Result],
    num_samples: int = 1000,
    context: Context | None = None,
    seed: Seed | None = None,
) -> Result:
    """E[F(x)] as the mean of F(f(z_i)), with z_i from the base.

    The gradient with respect to the flow's parameters goes through the draws and is an unbiased estimate of that of the
    expectation, since the base does not depend on them. Use it inside a `tf.GradientTape` or a `tf.function`.

    Shapes: fn takes `[n, D]` to `[n, ...]`, the result is `[...]`; with contexts `[B, C]`, x is `[n, B, D]`.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution`; for gradients a reparameterized one, as every flow over a normal base.
      fn: F, a function of tensors, or a structure of results.
      num_samples: the number of draws.
      context: the context of a conditional flow, `[C]` or `[B, C]`.
      seed: an integer or `[2]` integers; drawn if None.

    Raises: ValueError if `num_samples` is not a positive integer.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, section 2.2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.flows.gaussian(2, "unit")
    >>> with tf.GradientTape() as tape:
    ...     mean = tff.inference.expectation(flow, lambda x: x[:, 0], seed=0)
    >>> tape.gradient(mean, flow.trainable_variables[0]).numpy().round(3).tolist()  # of the shift
    [[1.0, 0.0]]
    """
    check_positive_integers(num_samples=num_samples)
    x = as_distribution(flow, context).sample(num_samples, seed=stateless_seed(seed))
    return tf.nest.map_structure(lambda values: tf.reduce_mean(values, 0), fn(x))


def moments(
    flow: FlowModel | tfd.Distribution,
    num_samples: int = 1000,
    context: Context | None = None,
    seed: Seed | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean `[..., D]` and the covariance `[..., D, D]` from draws; differentiable, see `expectation`.

    The covariance is the unbiased sample covariance, with n - 1 in the denominator.

    Raises: ValueError if `num_samples` is not an integer of at least 2.

    Example:

    >>> import tfp_flows as tff
    >>> mean, covariance = tff.inference.moments(tff.flows.gaussian(3, "unit"), seed=0)
    >>> mean.shape, covariance.shape
    (TensorShape([3]), TensorShape([3, 3]))
    """
    check_positive_integers(num_samples=num_samples)
    if num_samples < 2:
        raise ValueError(f"Expected at least two samples for a covariance. Received: num_samples={num_samples}")
    x = as_distribution(flow, context).sample(num_samples, seed=stateless_seed(seed))
    mean = tf.reduce_mean(x, 0)
    return mean, tf.einsum("n...i,n...j->...ij", x - mean, x - mean) / (num_samples - 1)


def entropy(
    flow: FlowModel | tfd.Distribution,
    num_samples: int = 1000,
    context: Context | None = None,
    seed: Seed | None = None,
) -> tf.Tensor:
    """-E[log q(x)], in nats, from draws; `[]`, or `[B]` for contexts `[B, C]`.

    Its gradient has two parts: through the draws, and through the parameters of log q at the draws. With the draws held
    fixed only the second, E[∂ log q / ∂φ], would remain, which is zero for every flow.

    Arguments and errors: see `expectation`.

    Example: the entropy of a normal grows by one for each unit of its log-scale.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.flows.gaussian(1, "diag")
    >>> with tf.GradientTape() as tape:
    ...     found = tff.inference.entropy(flow, seed=0)
    >>> tape.gradient(found, flow.trainable_variables[0]).numpy().round(5).tolist()  # of shift and log-scale
    [[0.0], [1.0]]
    """
    check_positive_integers(num_samples=num_samples)
    _, log_q = as_distribution(flow, context).experimental_sample_and_log_prob(num_samples, seed=stateless_seed(seed))
    return -tf.reduce_mean(log_q, 0)


def kl(
    p: FlowModel | tfd.Distribution,
    q: FlowModel | tfd.Distribution,
    num_samples: int = 1000,
    context: Context | None = None,
    seed: Seed | None = None,
) -> tf.Tensor:
    """KL(p || q) = E_p[log p(x) - log q(x)], in nats, from draws of p; differentiable in the parameters of both.

    Arguments:
      p, q: each a `FlowModel` or `tfd.Distribution`; the context goes to those that take one.
      num_samples, context, seed: see `expectation`.

    Raises: as `expectation`, and ValueError for a context where neither takes one.

    Example:

    >>> import tfp_flows as tff
    >>> flow = tff.flows.realnvp(2, num_layers=2)
    >>> tff.inference.kl(flow, flow).numpy().item()
    0.0
    """
    check_positive_integers(num_samples=num_samples)
    p, q = (as_distribution(part) for part in (p, q))
    if context is not None and all(context_shape_of(part) is None for part in (p, q)):
        raise ValueError(f"Expected no context, since neither p nor q takes one. Received: context={type(context)}")
    p, q = (part if context_shape_of(part) is None else as_distribution(part, context) for part in (p, q))
    x, log_p = p.experimental_sample_and_log_prob(num_samples, seed=stateless_seed(seed))
    return tf.reduce_mean(log_p - q.log_prob(x), 0)
