"""Continuous flows, for training by likelihood or by flow matching."""

from tfp_flows import bijectors
from tfp_flows.flows.flow import flow_of, preset


@preset
def continuous(event_size, **options):
    """A continuous flow: one neural differential equation from the base to the data.

    Flow matching trains it without solving the equation, a hundred times as many steps in the same time as likelihood:
    `model.compile(objective="flow_matching")`.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Continuous`.

    Source: Grathwohl et al. 2019, arXiv 1810.01367 (FFJORD); Lipman et al. 2023, arXiv 2210.02747 (flow matching).

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.continuous(2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    return flow_of(
        lambda **parts: [bijectors.Continuous(event_size, name="continuous", **parts)], event_size, **options
    )
