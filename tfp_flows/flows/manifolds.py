"""Flows on manifolds: on the torus and the sphere, and products of them with each other and with vectors.

The arguments that they share are those of `tfp_flows.flows.flow`; `num_layers` is the number of layers. There are no
units to set, so `standardize` is for the context alone, and no `act_norm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors
from tfp_flows._arguments import check_one_of, check_positive_integers, draw_seed, split_seed
from tfp_flows._types import DType
from tfp_flows.bijectors.conditional_blocks import spaces_of
from tfp_flows.bijectors.coupling import coupling_mask
from tfp_flows.context import input_and_output
from tfp_flows.distributions import Flow, Product
from tfp_flows.flows.flow import coupling_order, flow_of, preset
from tfp_flows.flows.vectors import neural_spline_autoregressive


@preset
def torus(event_size: int, num_layers: int = 4, kind: str = "coupling", **options: Any) -> Flow:
    """A flow of angles in [-π, π), on the circle or the torus; the density is with respect to their volume.

    The density and its first derivative are the same at -π and π.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of the layers; and
      kind: "coupling", layers `tff.bijectors.CircularCoupling`, permuted as in `realnvp`, or "autoregressive", layers
        `tff.bijectors.CircularAutoregressive` whose orders alternate: more flexible, and D passes to draw. A single
        angle takes the second.
      base: None for the uniform distribution; or any other of angles in [-π, π), as `tfd.VonMises`.

    Source: Rezende et al. 2020, arXiv 2002.02428, section 2.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.torus(2, num_layers=2, seed=0)
    >>> print(f"{flow.log_prob(np.float32([0.5, 3.0])).numpy():.3f}")  # -2 log 2π
    -3.676
    """
    check_positive_integers(event_size=event_size, num_layers=num_layers)
    check_one_of(("coupling", "autoregressive"), kind=kind)

    def make_layers(*, dtype, seed, mask="half", **shared):
        layers = []
        for k, layer_seed in enumerate(split_seed(seed, num_layers)):
            shared_k = {"dtype": dtype, "seed": layer_seed, "name": f"circular_{k}", **shared}
            if kind == "autoregressive" or event_size == 1:
                order = ("left-to-right", "right-to-left")[k % 2]
                layers.append([bijectors.CircularAutoregressive(event_size, order, **shared_k)])
            else:
                order = coupling_order(k, coupling_mask(mask, event_size), layer_seed)
                permutation = bijectors.Permutation(event_size, order, dtype=dtype, name=f"permutation_{k}")
                layers.append([permutation, bijectors.CircularCoupling(event_size, mask=mask, **shared_k)])
        return layers

    return _on_manifold(make_layers, event_size, uniform_torus, **options)


@preset
def sphere(num_layers: int = 6, num_reflections: int = 3, **options: Any) -> Flow:
    """A flow of unit vectors `[3]`, on the sphere S²; the density is with respect to the area, 4π in all.

    Layers `tff.bijectors.SphereFlow`, whose poles a `Householder` of `num_reflections` brings to places that are drawn
    from the seed and trained. The density is continuous everywhere; both directions are closed.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.SphereFlow`; and
      base: None for the uniform distribution; or any other on the sphere, as `tfd.VonMisesFisher`.

    Source: Rezende et al. 2020, arXiv 2002.02428, section 2.3; the poles: see `tff.bijectors.SphereFlow`.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.sphere(num_layers=2, seed=0)
    >>> print(f"{flow.log_prob(np.float32([0.0, 0.6, 0.8])).numpy():.3f}")  # -log 4π
    -2.531
    """
    check_positive_integers(num_layers=num_layers)

    def make_layers(*, context_size, dtype, seed, **shared):
        layers = []
        for k, layer_seed in enumerate(split_seed(seed, num_layers)):
            both = {"context_size": context_size, "dtype": dtype, "seed": layer_seed}
            rotation = bijectors.Householder(3, num_reflections, name=f"rotation_{k}", **both)
            layers.append([rotation, bijectors.SphereFlow(name=f"sphere_{k}", **both, **shared)])
        return layers

    return _on_manifold(make_layers, 3, uniform_sphere, **options)


def product(
    spaces: str,
    *,
    num_layers: int = 4,
    context_size: int = 0,
    bounds: Mapping[str, tuple] | None = None,
    parts: Mapping[str, Any] | None = None,
    embedding: keras.layers.Layer | None = None,
    standardize: bool = True,
    dtype: DType = tf.float32,
    seed: int | None = None,
    **shared: Any,
) -> Product:
    """A flow on a product of spaces, for directions, positions and shares that are one event.

    p(x|c) = Π_k p(x_k|x_<k, c), each factor a flow of its own kind. The event is the parts side by side;
    `distribution.split(x)` gives them by name, `distribution.log_prob_parts(x)` the density of each.

    Arguments:
      spaces: the factors, as "e3+s2": e and a number for Euclidean space, i for intervals, c for angles, s1 for one, s2
        for the sphere of unit vectors, a for the simplex, a2 for three shares that sum to 1. The second "e3" is "e3_2".
      num_layers: of every part.
      context_size, embedding, dtype, seed: see `tfp_flows.flows.flow`.
      bounds: (low, high) for every part of intervals, by name, each a number or one for every interval. The ends have a
        margin of a thousandth, so that the density is finite at them.
      parts: for a part, by name, further arguments of its flow, as {"s2": {"num_layers": 8}} or {"e3": {"base": ...}},
        but `context_size`, `dtype` and `seed`, which follow from the product's; or another flow: a
        function of `context_size`, `dtype` and `seed` to a distribution with a bijector, with its base as Euclidean
        spaces, intervals and simplices have it, of the part's dimension.
      standardize: whether Euclidean parts, and contexts that are vectors, are standardized by `FlowModel.fit`.
      **shared: arguments of all flows, `hidden_units` for one.

    The flows are `tff.flows.neural_spline_autoregressive` for e, i and a, `torus` for c and `sphere` for s2.

    Returns: a `tff.distributions.Product`.

    Raises: ValueError for spaces that are none, names in `parts` that are no part's or in `bounds` that are no
      intervals', missing bounds, a base for all parts, and arguments of a part that follow from the product's.

    Source: Glüsenkamp 2020, arXiv 2008.05825, section 2.

    Example:

    >>> import tfp_flows as tff
    >>> flow = tff.flows.product("e3+s2", context_size=5, num_layers=1, parts={"s2": {"num_layers": 2}}, seed=0)
    >>> tff.condition(flow, [0.0] * 5).sample(7).shape
    TensorShape([7, 6])
    """
    factors = spaces_of(spaces)
    parts, bounds = dict(parts or {}), dict(bounds or {})
    intervals = [space.name for space in factors if space.letter == "i"]
    for given, names in ((parts, [space.name for space in factors]), (bounds, intervals)):
        if set(given) - set(names):
            raise ValueError(f"Expected names among {names}. Received: {sorted(given)}")
    check_one_of((True, False), standardize=standardize)
    if "base" in shared:
        raise ValueError(
            'Expected a base for each part of its own, as parts={"e3": {"base": ...}}. '
            f"Received: base={shared['base']!r}"
        )
    if embedding is not None:
        if context_size:
            raise ValueError(
                "Expected no `context_size` beside an `embedding`, whose output has that size. "
                f"Received: context_size={context_size!r}"
            )
        context_size = input_and_output(embedding)[1]
    bases, maps, size = [], [], context_size
    seed = draw_seed(seed)
    for space, part_seed in zip(factors, split_seed(seed, len(factors)), strict=True):
        options = parts.get(space.name, {})
        given = {"context_size": size, "dtype": dtype, "seed": part_seed}
        if callable(options):
            flow = options(**given)
        else:
            if set(options) & {*given, "embedding"}:
                raise ValueError(
                    f"Expected no {[*given, 'embedding']} for a part, which follow from the product's. "
                    f"Received: parts[{space.name!r}]={options}"
                )
            options = {"num_layers": num_layers, "standardize": False, **shared, **options, **given}
            make = torus if space.letter == "c" else neural_spline_autoregressive
            flow = sphere(**options) if space.letter == "s" else make(space.dimension, **options)
        bases.append(tfd.Independent(flow.distribution, 0, name=space.name))  # `Blockwise` wants names, each once
        chart = _chart(space, bounds, standardize, dtype)
        maps.append(flow.bijector if chart is None else tfb.Chain([chart, flow.bijector]))
        size += space.features_size
    bijector = bijectors.ConditionalBlocks(maps, spaces, context_size=context_size, dtype=dtype, seed=seed)
    if embedding is not None:
        bijector = bijectors.Embedded(bijector, embedding)
    elif context_size and standardize:
        bijector = bijectors.StandardizedContext(bijector)
    return Product(tfd.Blockwise(bases), bijector, spaces)


def _chart(space, bounds, standardize, dtype):
    """What brings a Euclidean flow to a part of a product, or its values to a unit scale; None for nothing."""
    if space.letter == "e":
        return bijectors.Standardize(space.dimension, dtype=dtype) if standardize else None
    if space.letter == "a":
        return bijectors.Simplex(space.dimension, dtype=dtype)
    if space.letter != "i":
        return None
    if space.name not in bounds:
        raise ValueError(f"Expected `bounds` for {space.name!r}, as (low, high). Received: bounds={bounds}")
    low, high = (np.broadcast_to(end, [space.dimension]).astype(float) for end in bounds[space.name])
    margin = 1e-3 * (high - low)
    return tfb.Sigmoid(tf.constant(low - margin, dtype), tf.constant(high + margin, dtype))


def uniform_torus(event_size, dtype):
    """The uniform distribution of angles in [-π, π)."""
    low, high = (tf.fill([event_size], tf.constant(end, dtype)) for end in (-math.pi, math.pi))
    return tfd.Independent(tfd.Uniform(low, high), 1)


def uniform_sphere(event_size, dtype):
    """The uniform distribution of unit vectors."""
    return tfd.SphericalUniform(event_size, dtype=dtype)


def _on_manifold(
    make_layers, event_size, make_base, *, dtype=tf.float32, base=None, standardize=True, act_norm=False, **options
):
    """`flow_of` over a base on the manifold."""
    check_one_of((True, False, "context"), standardize=standardize)
    check_one_of((False,), act_norm=act_norm)  # a scale and a shift leave no manifold in its place
    # `Independent` hides that TFP's distributions on spheres know their tangent space: for them TFP would take the
    # log-determinant from the Jacobian of the whole chain, by autodiff, in place of ours.
    base = tfd.Independent(make_base(event_size, dtype) if base is None else base, 0, name="base")
    standardize = "context" if standardize else False
    return flow_of(make_layers, event_size, dtype=dtype, base=base, standardize=standardize, **options)
