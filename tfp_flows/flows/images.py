"""Flows on images: one function a paper, each of which only names parts.

The arguments that they share are those of `tfp_flows.flows.flow`, without `standardize` and `act_norm` for the events,
and these:

image_shape: `[H, W, C]`; H and W are halved at every level.
num_levels: the number of scales; after every one but the last half of the channels leave for the base.
hidden_channels: the width of the networks.
alpha: the flow models logit(α + (1 - 2α) x) for images x in [0, 1], as `tff.distributions.Dequantized` makes them,
  so that no density is spent far outside; its log-determinant is counted. None for images of any units, whose channels
  are standardized instead.
context_shape: of a context that is an image: `[k H, k W, channels]`; none by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows import bijectors, transformers
from tfp_flows._arguments import check_image_shape, check_one_of, check_positive_integers, split_seed
from tfp_flows.bijectors.image_coupling import image_mask
from tfp_flows.distributions import Flow
from tfp_flows.flows.flow import flow_of, preset


@preset
def glow(
    image_shape: Sequence[int],
    num_levels: int = 2,
    num_steps: int = 4,
    hidden_channels: int = 32,
    alpha: float = 0.05,
    **options: Any,
) -> Flow:
    """Glow: at every level a squeeze, then steps of ActNorm, an invertible 1x1 convolution and a coupling of channels.

    Both directions cost one pass of every network. A context reaches every coupling and, if it is a vector, the means
    and widths of the base.

    Arguments: see the module and `tfp_flows.flows.flow`; and
      num_steps: steps at every level.
      **parts: of `tff.bijectors.ImageCoupling`; and `transformer`, `Affine` by default.

    Source: Kingma & Dhariwal 2018, arXiv 1807.03039, section 3 and figure 2.

    Example:

    >>> import tfp_flows as tff
    >>> tff.flows.glow([4, 4, 1], num_steps=1, hidden_channels=8, seed=0).sample(3, seed=1).shape
    TensorShape([3, 4, 4, 1])
    """
    check_positive_integers(num_steps=num_steps)

    def level(shape, _, seed, name, dtype, **coupling):
        squeeze = bijectors.Squeeze(shape, dtype=dtype, name=f"squeeze_{name}")
        shape = squeeze.base_shape
        parts = [squeeze]
        for k, step_seed in enumerate(split_seed(seed, num_steps)):
            parts += [
                bijectors.ActNorm(shape, dtype=dtype, name=f"act_norm_{name}_{k}"),
                bijectors.InvertibleConvolution(shape, dtype=dtype, seed=step_seed, name=f"convolution_{name}_{k}"),
                _coupling(shape, mask="channel", dtype=dtype, seed=step_seed, name=f"{name}_{k}", **coupling),
            ]
        return parts

    return _image_flow(level, image_shape, num_levels, alpha, hidden_channels=hidden_channels, **options)


@preset
def realnvp_image(
    image_shape: Sequence[int], num_levels: int = 2, hidden_channels: int = 32, alpha: float = 0.05, **options: Any
) -> Flow:
    """The multi-scale RealNVP: at every level three checkerboard couplings, a squeeze, three couplings of channels.

    The last level has four checkerboard couplings and no squeeze. `ActNorm` stands where the paper has its batch
    normalization. The networks are residual, with weight normalization.

    Arguments: see the module and `tfp_flows.flows.flow`; and
      **parts: of `tff.bijectors.ImageCoupling`; and `transformer`, `Affine` by default.

    Source: Dinh et al. 2017, arXiv 1605.08803, sections 3.6, 3.7 and 4.1.

    Example:

    >>> import tfp_flows as tff
    >>> tff.flows.realnvp_image([4, 4, 1], hidden_channels=8, seed=0).sample(3, seed=1).shape
    TensorShape([3, 4, 4, 1])
    """
    options = {"residual": True, "normalization": "weight", **options}

    def level(shape, is_last, seed, name, dtype, **coupling):
        masks = ["checkerboard"] * 4 if is_last else ["checkerboard"] * 3 + ["channel"] * 3
        parts = []
        for k, (mask, step_seed) in enumerate(zip(masks, split_seed(seed, len(masks)), strict=True)):
            if mask == "channel" and masks[k - 1] != mask:
                parts.append(bijectors.Squeeze(shape, dtype=dtype, name=f"squeeze_{name}"))
                shape = parts[-1].base_shape
            mask = image_mask(mask, tuple(shape))
            mask = ~mask if k % 2 else mask
            parts += [
                bijectors.ActNorm(shape, dtype=dtype, name=f"act_norm_{name}_{k}"),
                _coupling(shape, mask=mask, dtype=dtype, seed=step_seed, name=f"{name}_{k}", **coupling),
            ]
        return parts

    return _image_flow(level, image_shape, num_levels, alpha, hidden_channels=hidden_channels, **options)


def _coupling(shape, *, transformer=None, name, **coupling):
    return bijectors.ImageCoupling(shape, transformer or transformers.Affine(), name=f"coupling_{name}", **coupling)


def _image_flow(level, image_shape, num_levels, alpha, *, standardize=True, act_norm=False, **options):
    """The flow of levels, whose parts `level(shape, is_last, seed, name, dtype, **coupling)` gives, data first."""
    image_shape = check_image_shape(image_shape)
    check_positive_integers(num_levels=num_levels)
    check_one_of((True, False, "context"), standardize=standardize)
    check_one_of((False,), act_norm=act_norm)  # the levels have theirs, by channel

    def make_layers(*, context_size, dtype, seed, **coupling):
        *seeds, seed = split_seed(seed, num_levels + 1)
        shape, levels = image_shape, []
        for k, level_seed in enumerate(seeds):
            is_last = k == num_levels - 1
            parts = level(shape, is_last, level_seed, f"{k}", dtype, context_size=context_size, **coupling)
            levels.append(tfb.Chain(parts, name=f"level_{k}"))
            height, width, channels = levels[-1].inverse_event_shape(shape)
            shape = [height, width, channels // 2]
        standardize = bijectors.Standardize(image_shape, dtype=dtype)
        return [
            [standardize if alpha is None else _to_the_unit_interval(alpha, dtype)],
            [bijectors.MultiScale(levels, seed=seed, name="multi_scale")],
            [
                bijectors.DiagonalAffine(
                    event_size, context_size=context_size, dtype=dtype, seed=seed, name="base_scale"
                )
            ],
        ]

    event_size = tf.TensorShape(image_shape).num_elements()
    return flow_of(make_layers, event_size, standardize="context" if standardize else False, **options)


def _to_the_unit_interval(alpha, dtype):
    """x of h by logit(α + (1 - 2α) x) = h: a sigmoid whose range is a little more than [0, 1]."""
    if not 0 <= alpha < 0.5:
        raise ValueError(f"Expected `alpha` to be None, or at least 0 and below 0.5. Received: alpha={alpha!r}")
    margin = alpha / (1 - 2 * alpha)
    return tfb.Sigmoid(tf.constant(-margin, dtype), tf.constant(1 + margin, dtype), name="sigmoid")
