"""Blocks of coordinates side by side, each by a bijector of its own, conditioned on the blocks before it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows._types import Walk
from tfp_flows.bijectors.actnorm import Standardize
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.conditioners.periodic import cos_and_sin
from tfp_flows.context import context_arguments, context_shape_of, walk
from tfp_flows.context.joining import concatenate


@dataclasses.dataclass(frozen=True)
class Space:
    """One factor of a product space, as "e3" names it.

    Attributes:
      name: "e3"; a second of the same is "e3_2".
      letter: "e" Euclidean, "i" intervals, "c" angles, "s" the sphere of unit vectors, "a" the simplex.
      dimension: 3.
    """

    name: str
    letter: str
    dimension: int

    @property
    def event_size(self):
        """The number of coordinates of an event: one more than the dimension on a sphere and a simplex."""
        return self.dimension + (self.letter in "sa")

    @property
    def base_size(self):
        """The number of coordinates of the base, which is Euclidean for a simplex."""
        return self.dimension + (self.letter == "s")

    @property
    def features_size(self):
        """How many numbers tell a network where a point is: for an angle two, the cosine and the sine."""
        return 2 * self.dimension if self.letter == "c" else self.event_size


def spaces_of(product):
    """The factors of a product space such as "e3+s2": a list of `Space`.

    Raises: ValueError for other words than e, i, c, a with a positive number (1 if left out), s1 and s2.
    """
    spaces, counts = [], {}
    for word in str(product).split("+"):
        match = re.fullmatch(r"\s*([eicas])([1-9]\d*)?\s*", word)
        letter, dimension = (match.group(1), int(match.group(2) or 1)) if match else (None, 0)
        if not match or (letter == "s" and dimension > 2):
            raise ValueError(
                'Expected a product as "e3+s2", of e (Euclidean), i (intervals), c (angles) and a (simplex) with their '
                f"dimensions, s1 (a circle) and s2 (the sphere). Received: {word!r} in {product!r}"
            )
        kind = f"{letter}{dimension}"
        counts[kind] = counts.get(kind, 0) + 1
        name = kind if counts[kind] == 1 else f"{kind}_{counts[kind]}"
        spaces.append(Space(name, "c" if kind == "s1" else letter, dimension))
    return spaces


class ConditionalBlocks(Bijector):
    """Bijectors side by side, one for each factor of a product space, conditioned on the factors before it.

    Forward: x_k = f_k(z_k; x_<k, c), log|det ∂x/∂z| = Σ_k log|det ∂x_k/∂z_k|. Inverse: z_k = f_k⁻¹(x_k; x_<k, c).
    Both directions cost those of the parts, one after the other. The context of part k is (features of x_<k, c):
    Euclidean parts and intervals standardized, angles as (cos, sin), unit vectors and simplices as they are.

    Shapes: x `[..., D]` with D the sum of the parts' sizes, z likewise of their bases' sizes, context
    `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      bijectors: f_k, any `tfb.Bijector`s of vectors, the k-th with a context of size F_k + C, where F_k is the number
        of features of the parts before it; where that is 0 it takes none.
      product: the factors, as "e3+s2"; see `tff.flows.product`.
      context_size, dtype, seed, validate_args, name: see `Bijector`.

    Raises: ValueError for a wrong number of parts, or a part whose context has another size.

    Source: Glüsenkamp 2020, arXiv 2008.05825, section 2.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> parts = [tff.bijectors.RealNVP(2), tff.bijectors.SphereFlow(context_size=2)]
    >>> blocks = tff.bijectors.ConditionalBlocks(parts, "e2+s2")
    >>> blocks.forward(tf.constant([1.0, 2.0, 0.6, 0.0, 0.8])).numpy().round(3).tolist()
    [1.0, 2.0, 0.6..., 0.0, 0.8...]
    """

    has_its_context = True  # the parts', which they get here, is not the one from outside

    def __init__(self, bijectors: Sequence[tfb.Bijector], product: str, **shared: Any) -> None:
        self.spaces = spaces_of(product)
        super().__init__(
            sum(space.event_size for space in self.spaces), sum(space.base_size for space in self.spaces), **shared
        )
        self.bijectors = list(bijectors)
        if len(self.bijectors) != len(self.spaces):
            raise ValueError(f"Expected {len(self.spaces)} bijectors for {product!r}. Received: {len(self.bijectors)}")
        size = self.context_size
        for space, bijector in zip(self.spaces, self.bijectors, strict=True):
            shape = context_shape_of(bijector)
            if shape != (tf.TensorShape([size]) if size else None):
                raise ValueError(
                    f"Expected a context of size {size} of the bijector of {space.name!r}: the features of what comes "
                    f"before it, and {self.context_size} from outside. "
                    f"Received: {bijector} with contexts of shape {shape}"
                )
            size += space.features_size
        self.standardize = {
            space.name: Standardize(space.event_size, dtype=self.dtype, name=f"features_of_{space.name}")
            for space in self.spaces[:-1]
            if space.letter in "ei"
        }

    def inverse_parts(self, x: tf.Tensor, context: tf.Tensor | None) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """(z_k, log|det ∂z_k/∂x_k|) for every part."""
        results = []
        blocks = tf.split(x, [space.event_size for space in self.spaces], -1)
        for bijector, block, joined in zip(self.bijectors, blocks, self._contexts(blocks, context), strict=True):
            arguments = context_arguments(bijector, joined)
            log_det = bijector.inverse_log_det_jacobian(block, event_ndims=1, **arguments)
            results.append((bijector.inverse(block, **arguments), log_det))
        return results

    def _inverse_and_log_det(self, x, context):
        blocks, log_dets = zip(*self.inverse_parts(x, context), strict=True)
        return tf.concat(blocks, -1), tf.add_n([_full(log_det, x) for log_det in log_dets])

    def _forward_and_log_det(self, z, context):
        blocks, log_dets = [], []
        contexts = self._contexts(blocks, context)
        for bijector, block in zip(
            self.bijectors, tf.split(z, [space.base_size for space in self.spaces], -1), strict=True
        ):
            arguments = context_arguments(bijector, next(contexts))
            blocks.append(bijector.forward(block, **arguments))
            log_dets.append(_full(bijector.forward_log_det_jacobian(block, event_ndims=1, **arguments), z))
        return tf.concat(blocks, -1), tf.add_n(log_dets)

    def _contexts(self, blocks, context):
        """Yields the context of every part, from the blocks of x before it; they may come as it goes."""
        for k, space in enumerate(self.spaces):
            yield context
            if k + 1 < len(self.spaces):
                context = _joined(self._features(space, blocks[k]), context)

    def _features(self, space, block):
        if space.letter == "c":
            return cos_and_sin(block)
        return self.standardize[space.name].inverse(block) if space.name in self.standardize else block

    def walk(self, x: tf.Tensor, context: tf.Tensor | None, inverted: bool) -> Walk:
        """The way of data through the parts: see `tfp_flows.context.walk`."""
        sizes = [space.base_size if inverted else space.event_size for space in self.spaces]
        results = []
        for space, bijector, block in zip(self.spaces, self.bijectors, tf.split(x, sizes, -1), strict=True):
            result = yield from walk(bijector, block, context, inverted)
            results.append(result)
            event = result if inverted else block
            if space.name in self.standardize:
                yield self.standardize[space.name], event, None, False
            context = _joined(self._features(space, event), context)
        return tf.concat(results, -1)


def _joined(features, context):
    return features if context is None else concatenate(features, context)


def _full(log_det, event):
    """A log-determinant that is the same for every event, as TFP may have it, once for each."""
    return tf.broadcast_to(log_det, tf.shape(event)[:-1])
