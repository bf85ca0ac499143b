"""Variational inference: a flow fitted to a density known up to its normalization, on the flow's own draws."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_positive_integers, draw_seed, stateless_seed
from tfp_flows._types import Context, Seed
from tfp_flows.inference._flow import as_distribution, as_model
from tfp_flows.model import FlowModel


def reverse_kl(
    flow: FlowModel | tfd.Distribution,
    target_log_prob: Callable[[tf.Tensor], tf.Tensor],
    num_samples: int = 256,
    context: Context | None = None,
    path_gradient: bool = False,
    seed: Seed | None = None,
) -> tf.Tensor:
    """KL(q || p) - log Z = E_q[log q(x) - log p̃(x)] from draws, in nats: the negative ELBO.

    With `path_gradient` the value is the same and the gradient another estimate of the same: that of
    log q(x; φ) - log p̃(x) at x = f(z; φ) through x alone, with φ held fixed in log q. The term it leaves out,
    ∂ log q / ∂φ, has mean zero but not variance zero; if q is p the path gradient of every draw is zero. It costs one
    more pass of the inverse.

    Arguments:
      flow: q, a `FlowModel` or `tfd.Distribution`.
      target_log_prob: log p̃, a function from x `[n, D]` to `[n]`, in nats.
      num_samples: the number of draws.
      context: of a conditional flow; p̃ then takes x of shape `[n, B, D]` for contexts `[B, C]`.
      path_gradient: whether to use the path ("sticking the landing") estimator of the gradient.
      seed: an integer or `[2]` integers; drawn if None.

    Raises: ValueError if `num_samples` is not a positive integer, or the target does not give one number per draw.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, equation 15; the path gradient: Roeder et al. 2017, arXiv
    1703.09194, section 3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.flows.gaussian(2, "unit")
    >>> target = lambda x: -tf.reduce_sum(x**2, -1) / 2  # log Z = 1.8379
    >>> round(float(tff.inference.reverse_kl(flow, target, seed=0)), 4)
    -1.8379
    """
    check_positive_integers(num_samples=num_samples)
    distribution = as_distribution(flow, context)
    x, log_q = distribution.experimental_sample_and_log_prob(num_samples, seed=stateless_seed(seed))
    log_p = tf.convert_to_tensor(target_log_prob(x))
    # A shape such as [n, 1] would broadcast to [n, n], and give a mean over pairs.
    if not log_p.shape.is_compatible_with(log_q.shape):
        raise ValueError(
            f"Expected `target_log_prob` to give one log-density per draw, of shape {log_q.shape}. "
            f"Received: shape {log_p.shape}"
        )
    value = tf.reduce_mean(log_q - log_p)
    if not path_gradient:
        return value
    # A leaf of its own, which TFP's cache does not know: what is differentiated is log q as a function of x.
    leaf = tf.stop_gradient(tf.identity(x))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(leaf)
        at_leaf = tf.reduce_mean(distribution.log_prob(leaf) - target_log_prob(leaf))
    slope = tf.stop_gradient(tape.gradient(at_leaf, leaf))
    path = tf.reduce_sum(slope * x)  # whose gradient is slope · ∂x/∂φ
    return tf.stop_gradient(value) + path - tf.stop_gradient(path)


def fit_reverse_kl(
    flow: FlowModel | tfd.Distribution,
    target_log_prob: Callable[[tf.Tensor], tf.Tensor],
    num_steps: int = 1000,
    num_samples: int = 256,
    optimizer: keras.optimizers.Optimizer | None = None,
    context: Context | None = None,
    path_gradient: bool = False,
    annealing: Callable[[tf.Tensor], tf.Tensor] | None = None,
    jit_compile: bool = True,
    seed: int | None = None,
) -> np.ndarray:
    """Fits a flow to a density known up to its normalization: gradient descent on `reverse_kl` with fresh draws.

    The flow is trained in place. Reverse KL is mode-seeking: of several modes far apart it may find only one.

    Arguments:
      flow, target_log_prob, num_samples, context, path_gradient: see `reverse_kl`.
      num_steps: the number of steps.
      optimizer: any Keras optimizer; None for Adam at 1e-3 with the norm of the whole gradient clipped at 5.
      annealing: a function from the step, a float scalar tensor counted from 0, to the weight of log p̃ at this step,
        e.g. `lambda t: tf.minimum(1.0, 0.01 + t / 10_000)` for a target that starts flat. None for 1.
      jit_compile: whether to run under XLA; set it to False for a target that XLA cannot compile.
      seed: an integer; drawn if None.

    Returns: the value of `reverse_kl` at every step, `[num_steps]`; with annealing that of the weighted target.

    Raises: ValueError for numbers that are not positive integers, and for a target that does not give one number per
      draw; FloatingPointError at the first step whose loss is NaN or infinite.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, algorithm 1; annealing: equation 20 there.

    Example:

    >>> import keras, tensorflow as tf, tfp_flows as tff
    >>> flow = tff.flows.gaussian(1, "unit")
    >>> losses = tff.inference.fit_reverse_kl(
    ...     flow, lambda x: -(x[:, 0] - 3) ** 2 / 2, num_steps=200, optimizer=keras.optimizers.Adam(0.1), seed=0
    ... )
    >>> flow.trainable_variables[0].numpy().round(1).tolist()
    [[3.0]]
    """
    check_positive_integers(num_steps=num_steps, num_samples=num_samples)
    model = as_model(flow)
    weights = model.trainable_weights
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=5.0) if optimizer is None else optimizer
    optimizer.build(weights)
    seed = stateless_seed(draw_seed(seed))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(k):
        weight = 1.0 if annealing is None else annealing(tf.cast(k, model.precision))

        def target(x):
            return weight * target_log_prob(x)

        step_seed = tf.random.experimental.stateless_fold_in(seed, k)
        with tf.GradientTape() as tape:
            loss = reverse_kl(model, target, num_samples, context, path_gradient, step_seed)
        gradients = tape.gradient(loss, [variable.value for variable in weights])
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    losses = np.empty(num_steps)
    for k in range(num_steps):
        losses[k] = step(tf.constant(k))
        if not np.isfinite(losses[k]):
            raise FloatingPointError(
                "Expected a finite loss: does the target give NaN or -inf where the flow draws, or was the step too "
                f"large? Received: {losses[k]} at step {k}"
            )
    return losses
