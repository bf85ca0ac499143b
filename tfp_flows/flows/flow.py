"""What the flows share: the chain of layers, standardization, and the base.

context_size: the length of a context vector; 0 for none.
base: a `tfd.Distribution` over `[D]`; None for a standard normal.
dtype: of data, weights and densities.
seed: an integer that fixes every weight, mask and order; drawn if None.
embedding: a Keras layer that compresses the context, once per call, and is trained with the flow; the context has
  the shape of its input: see `tff.bijectors.Embedded`. `context_size` is then the size of its output and must not be
  given. None for none.
standardize: whether to put a `Standardize` next to the data and, for vector contexts without an embedding, a
  `StandardizedContext` around the chain; "context" for the latter alone. The first `FlowModel.fit` sets both from its
  training data, or `FlowModel.adapt` does.
act_norm: whether to put an `ActNorm` on the data's side of every layer; set from data likewise.
stack: whether equal layers become one `tff.bijectors.Stack`, the same flow as a loop, which compiles in a fraction of
  the time, or stay bijectors of the chain. The layers of a `Stack` cannot be trained or frozen one by one. Layers that
  it does not take stay in the chain.
**parts: further arguments of every layer's bijector (`hidden_units`, `activation`, ...).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors
from tfp_flows._arguments import check_one_of, check_positive_integers, draw_seed, merged_signature
from tfp_flows._types import DType
from tfp_flows.bijectors.stack import stacked
from tfp_flows.context import embedded, input_and_output
from tfp_flows.distributions import Flow, Normal


def flow_of(
    make_layers: Callable[..., Sequence[Sequence[tfb.Bijector]]],
    event_size: int,
    *,
    context_size: int = 0,
    base: tfd.Distribution | None = None,
    dtype: DType = tf.float32,
    seed: int | None = None,
    embedding: keras.layers.Layer | None = None,
    standardize: bool | str = True,
    act_norm: bool = False,
    stack: bool = True,
    **parts: Any,
) -> Flow:
    """The distribution of a chain of layers over a base.

    Arguments: see the module; and
      make_layers: a function of `context_size`, `dtype`, `seed` and `**parts` that gives the layers, the one next to
        the data first, each as a list of bijectors.
      event_size: D, the number of coordinates.

    Returns: a `tfd.TransformedDistribution`.
    """
    check_positive_integers(event_size=event_size)
    check_one_of((True, False, "context"), standardize=standardize)
    if embedding is not None:
        if context_size:
            raise ValueError(
                "Expected no `context_size` beside an `embedding`, whose output has that size. "
                f"Received: context_size={context_size!r}"
            )
        context_size = input_and_output(embedding)[1]
    layers = make_layers(context_size=context_size, dtype=dtype, seed=draw_seed(seed), **parts)
    if act_norm:
        norms = [bijectors.ActNorm(event_size, dtype=dtype, name=f"act_norm_{k}") for k in range(len(layers))]
        layers = [[norm, *layer] for norm, layer in zip(norms, layers, strict=True)]
    layers = stacked(layers) if stack else [part for layer in layers for part in layer]
    if standardize is True:
        layers = [bijectors.Standardize(event_size, dtype=dtype), *layers]
    if base is None:
        base = tfd.Independent(Normal(tf.zeros([event_size], dtype), tf.ones([], dtype)), 1, name="base")
    bijector = tfb.Chain(layers)
    if standardize and context_size and embedding is None:
        bijector = bijectors.StandardizedContext(bijector)
    flow = Flow(base, bijector)
    return flow if embedding is None else embedded(flow, embedding)


def coupling_order(k, mask, seed):
    """The order of the coordinates before coupling k.

    Every second coupling transforms what the one before left unchanged; two of them later the order is drawn anew.
    """
    if k == 0:
        return np.arange(mask.size)
    # Two coordinates have no order but the exchanged one.
    if k % 2 == 0 and mask.size > 2:
        return np.random.default_rng(seed).permutation(mask.size)
    unchanged, transformed = np.flatnonzero(mask), np.flatnonzero(~mask)
    order = np.empty(mask.size, int)
    order[np.concatenate([unchanged, transformed])] = np.concatenate([transformed, unchanged])
    return order


Preset = TypeVar("Preset", bound=Callable[..., Flow])


def preset(function: Preset) -> Preset:
    """Has `help` show the arguments of `flow_of` where a function passes them on as `**options`."""
    function.__signature__ = merged_signature(function, inspect.signature(flow_of))
    return function
