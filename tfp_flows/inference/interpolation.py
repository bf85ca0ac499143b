"""What moves in the base's space do to data: interpolation, and manipulation along a direction."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_positive_integers
from tfp_flows._types import Array, Context
from tfp_flows.distributions import Dequantized
from tfp_flows.inference._flow import as_distribution
from tfp_flows.model import FlowModel


def interpolate(
    flow: FlowModel | tfd.Distribution, start: Array, end: Array, num: int = 8, context: Context | None = None
) -> tf.Tensor:
    """Data between two points, on the straight line between their z: x_t = f((1 - t) f⁻¹(start) + t f⁻¹(end)).

    t goes from 0 to 1 in `num` equal steps, both ends included.

    Shapes: start and end `[..., *event_shape]`; the result `[num, ..., *event_shape]`.

    Arguments:
      flow: a `FlowModel` or a distribution that is made by a bijector, or a `Dequantized` one of such. Integers are
        taken as the middles of their cells.
      start, end: data.
      num: points on the line, at least 2.
      context: of the flow, if it takes one.

    Raises: TypeError for a flow that is not made by a bijector; ValueError for a `num` below 2.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 6 and figure 5.

    Example: under a Gaussian flow the line stays straight.

    >>> import tfp_flows as tff
    >>> tff.inference.interpolate(tff.flows.gaussian(1), [0.0], [1.0], num=3).numpy().tolist()
    [[0.0], [0.5], [1.0]]
    """
    check_positive_integers(num=num)
    if num < 2:
        raise ValueError(f"Expected `num` to be at least 2, for both ends. Received: num={num}")
    encode, decode = _code(flow, context)
    start, end = encode(start), encode(end)
    t = tf.reshape(tf.linspace(tf.zeros([], start.dtype), 1, num), [num] + [1] * start.shape.rank)
    return decode((1 - t) * start + t * end)


def direction(
    flow: FlowModel | tfd.Distribution, positive: Array, negative: Array, context: Context | None = None
) -> tf.Tensor:
    """The direction in z from one group of data to another: the mean of f⁻¹ over `positive` less that over `negative`.

    `move` goes along it. A context is one for all, or one for each row of both groups, given as a pair.

    Shapes: positive `[n, *event_shape]`, negative `[m, *event_shape]`; the result has the shape of one z.

    Arguments and errors: see `interpolate`.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 6 and figure 6.

    Example:

    >>> import tfp_flows as tff
    >>> tff.inference.direction(tff.flows.gaussian(1), [[2.0], [4.0]], [[0.0]]).numpy().tolist()
    [3.0]
    """
    contexts = context if isinstance(context, tuple) else (context, context)
    means = [
        tf.reduce_mean(_code(flow, own)[0](group), 0) for group, own in zip((positive, negative), contexts, strict=True)
    ]
    return means[0] - means[1]


def move(
    flow: FlowModel | tfd.Distribution, x: Array, direction: Array, amounts: Array, context: Context | None = None
) -> tf.Tensor:
    """Data moved along a direction in z: f(f⁻¹(x) + a d) for every amount a.

    Shapes: x `[..., *event_shape]`, direction as one z, amounts `[n]`; the result `[n, ..., *event_shape]`.

    Arguments and errors: see `interpolate`.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 6 and figure 6.

    Example:

    >>> import tfp_flows as tff
    >>> tff.inference.move(tff.flows.gaussian(1), [1.0], direction=[3.0], amounts=[-1.0, 1.0]).numpy().tolist()
    [[-2.0], [4.0]]
    """
    encode, decode = _code(flow, context)
    z = encode(x)
    amounts = tf.convert_to_tensor(amounts, z.dtype)
    return decode(z + tf.reshape(amounts, [-1] + [1] * z.shape.rank) * tf.cast(direction, z.dtype))


def _code(flow, context):
    """Functions from data to z, and from z to data."""
    distribution = as_distribution(flow, context)
    is_dequantized = isinstance(distribution, Dequantized)
    continuous = distribution.distribution if is_dequantized else distribution
    bijector = getattr(continuous, "bijector", None)
    if bijector is None:
        raise TypeError(f"Expected a flow that is made by a bijector. Received: {flow}")

    def encode(x):
        x = distribution.dequantize(x) if is_dequantized else x
        return bijector.inverse(tf.identity(tf.cast(x, continuous.dtype)))

    def decode(z):
        x = bijector.forward(z)
        return distribution.quantize(x) if is_dequantized else x

    return encode, decode
