"""Expectations under a flow as functions of its parameters: means over draws x = f(z), differentiable through f."""

import tensorflow as tf

from tfp_flows._arguments import check_positive_integers, stateless_seed
from tfp_flows.context import context_shape_of
from tfp_flows.inference._flow import as_distribution


def expectation(flow, fn, num_samples=1000, context=None, seed=None):
    """E[F(x)] as the mean of F(f(z_i)), with z_i from the base.

    The gradient for the flow's parameters goes through the draws, and is that of the expectation: the draws of the base
    do not depend on them. Use it inside a `tf.GradientTape` or a `tf.function`.

    Shapes: fn takes `[n, D]` to `[n, ...]`, the result is `[...]`; with contexts `[B, C]`, x is `[n, B, D]`.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution`, reparametrized, as every flow over a normal base is.
      fn: F, a function of tensors, or a structure of results.
      num_samples: the number of draws.
      context: of a conditional flow.
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


def moments(flow, num_samples=1000, context=None, seed=None):
    """The mean `[..., D]` and the covariance `[..., D, D]`, by draws; differentiable, see `expectation`.

    Example:

    >>> import tfp_flows as tff
    >>> mean, covariance = tff.inference.moments(tff.flows.gaussian(3, "unit"), seed=0)
    >>> mean.shape, covariance.shape
    (TensorShape([3]), TensorShape([3, 3]))
    """
    check_positive_integers(num_samples=num_samples)
    x = as_distribution(flow, context).sample(num_samples, seed=stateless_seed(seed))
    mean = tf.reduce_mean(x, 0)
    return mean, tf.einsum("n...i,n...j->...ij", x - mean, x - mean) / (num_samples - 1)


def entropy(flow, num_samples=1000, context=None, seed=None):
    """-E[log q(x)], in nats, by draws; `[]`, or `[B]` for contexts `[B, C]`.

    Its gradient has two parts: through the draws, and through the parameters of log q at the draws. With the draws held
    fixed only the second would be left, E[∂ log q / ∂φ], which is zero for every flow.

    Arguments, errors: see `expectation`.

    Example: the entropy of a normal in one dimension of width e is that of the standard normal, and one.

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


def kl(p, q, num_samples=1000, context=None, seed=None):
    """KL(p || q) = E_p[log p(x) - log q(x)], in nats, by draws from p; differentiable for the parameters of both.

    Arguments:
      p, q: each a `FlowModel` or `tfd.Distribution`; those that take a context get it.
      num_samples, context, seed: see `expectation`.

    Example:

    >>> import tfp_flows as tff
    >>> flow = tff.flows.realnvp(2, num_layers=2)
    >>> tff.inference.kl(flow, flow).numpy().item()
    0.0
    """
    check_positive_integers(num_samples=num_samples)
    p, q = (as_distribution(part) for part in (p, q))
    p, q = (part if context_shape_of(part) is None else as_distribution(part, context) for part in (p, q))
    x, log_p = p.experimental_sample_and_log_prob(num_samples, seed=stateless_seed(seed))
    return tf.reduce_mean(log_p - q.log_prob(x), 0)
