"""A multi-scale architecture: half of the channels leave after every level, the others go on."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows._types import Walk
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.image_coupling import ImageCoupling
from tfp_flows.context import context_arguments, context_shape_of, walk
from tfp_flows.transformers.affine import Affine


class MultiScale(Bijector):
    """Levels of image flows, between which half of the channels leave for the base and the others go on.

    Inverse, with h₀ = x: (hₖ, yₖ) = fₖ⁻¹(hₖ₋₁) split by channel, zₖ = (yₖ - m(hₖ)) exp(-s(hₖ)) for every level k but
    the last, where z_K = f_K⁻¹(h_K₋₁); z is the z₁, ..., z_K side by side. Forward: yₖ = zₖ exp(s(hₖ)) + mₖ(hₖ) and
    hₖ₋₁ = fₖ(hₖ, yₖ), from the last level on. The log-determinants are the sums of those of the parts.
    m and s make what leaves a normal given what stays, learned (Glow's "prior"); they are the output of one 3x3
    convolution, zero at initialization. So the base stays a standard normal. Both directions cost the levels' own.

    Shapes: x `[..., H, W, C]`, z `[..., H W C]`, context as the levels take it, log-determinants `[...]`, in nats.

    Arguments:
      levels: image bijectors f₁, ..., f_K, or chains of them, the one next to the data first; each takes what goes on
        from the one before it. The first part of f₁ has an `event_shape`, as the bijectors of this package have.
        All conditional parts take the same context.
      seed, validate_args, name: see `Bijector`.

    Raises: ValueError where a level ends with a single channel, which cannot be split.

    Source: Dinh et al. 2017, arXiv 1605.08803, section 3.6; the learned prior: Kingma & Dhariwal 2018, arXiv
    1807.03039, in their code.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> levels = [tff.bijectors.Squeeze([4, 4, 1]), tff.bijectors.Squeeze([2, 2, 2])]
    >>> tff.bijectors.MultiScale(levels).inverse(tf.ones([5, 4, 4, 1])).shape
    TensorShape([5, 16])
    """

    def __init__(
        self,
        levels: Sequence[tfb.Bijector],
        *,
        seed: int | None = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        first = _first_part(levels[0])
        if not isinstance(first, Bijector):
            raise ValueError(
                "Expected the part next to the data to have an `event_shape`, as the bijectors of this package have. "
                f"Received: {first}"
            )
        image_shape, dtype = first.event_shape, first.dtype
        context_shape = next(filter(None, map(context_shape_of, levels)), None)
        super().__init__(
            image_shape,
            image_shape.num_elements(),
            context_shape=context_shape,
            dtype=dtype,
            seed=seed,
            validate_args=validate_args,
            name=name,
        )
        self.levels, self._ends = [], []
        for k, level in enumerate(levels):
            height, width, channels = level.inverse_event_shape(image_shape)
            going_on = 0
            if k < len(levels) - 1:
                if channels < 2:
                    raise ValueError(
                        f"Expected level {k} to end with 2 channels or more, of which half go on. Received: {channels}"
                    )
                # A coupling whose untransformed channels go on: it gives the others, given those, a mean and a width.
                prior = ImageCoupling(
                    [height, width, channels],
                    Affine(),
                    "channel",
                    num_hidden_layers=0,
                    dtype=dtype,
                    seed=self.seed,
                    name=f"prior_{k}",
                )
                level = tfb.Chain([level, prior])
                going_on = channels // 2
                image_shape = [height, width, going_on]
            self.levels.append(level)
            self._ends.append((height, width, channels - going_on, going_on))

    def _inverse_and_log_det(self, x, context):
        log_det, leaving = tf.zeros([], self.dtype), []
        for level, (_, _, _, going_on) in zip(self.levels, self._ends, strict=True):
            arguments = context_arguments(level, context)
            y = level.inverse(x, **arguments)
            log_det += level.inverse_log_det_jacobian(x, 3, **arguments)
            x = y[..., :going_on]
            leaving.append(_flat(y[..., going_on:]))
        return tf.concat(leaving, -1), log_det

    def _forward_and_log_det(self, z, context):
        log_det, x = tf.zeros([], self.dtype), None
        for level, leaving in self._from_the_base(z):
            arguments = context_arguments(level, context)
            y = leaving if x is None else tf.concat([x, leaving], -1)
            x = level.forward(y, **arguments)
            log_det += level.forward_log_det_jacobian(y, 3, **arguments)
        return x, log_det

    def walk(self, event: tf.Tensor, context: tf.Tensor | None = None, inverted: bool = False) -> Walk:
        """The way of data through the levels: see `tfp_flows.context.walk`."""
        if inverted:
            x = None
            for level, leaving in self._from_the_base(event):
                y = leaving if x is None else tf.concat([x, leaving], -1)
                x = yield from walk(level, y, context, True)
            return x
        leaving = []
        for level, (_, _, _, going_on) in zip(self.levels, self._ends, strict=True):
            y = yield from walk(level, event, context)
            event = y[..., :going_on]
            leaving.append(_flat(y[..., going_on:]))
        return tf.concat(leaving, -1)

    def _from_the_base(self, z):
        """(level, the image of what leaves there), the last level first."""
        sizes = [height * width * leaving for height, width, leaving, _ in self._ends]
        images = [
            tf.reshape(part, tf.concat([tf.shape(part)[:-1], shape], 0))
            for part, (*shape, _) in zip(tf.split(z, sizes, -1), self._ends, strict=True)
        ]
        return list(zip(self.levels, images, strict=True))[::-1]


def _flat(image):
    return tf.reshape(image, tf.concat([tf.shape(image)[:-3], [image.shape[-3:].num_elements()]], 0))


def _first_part(bijector):
    """The part next to the data of a chain, a chain of chains, or a bijector itself."""
    while hasattr(bijector, "bijectors"):
        bijector = bijector.bijectors[0]
    return bijector
