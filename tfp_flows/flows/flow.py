"""What the flows share: the chain of layers, what stands beside them, and the base.

context_size: the length of a context vector; 0 for none.
base: a `tfd.Distribution` over `[D]`; None for a standard normal.
dtype: of data, weights and densities.
seed: an integer that fixes every weight, mask and order; drawn if None.
embedding: a Keras layer that compresses the context, once a call, to what the layers take; it is trained with them,
  and the context has the shape of its input: see `tff.bijectors.Embedded`. `context_size` is then the size of its
  output, and not to be given. None for none.
standardize: whether a `Standardize` stands next to the data, for data of any units, and a `StandardizedContext`
  around all for contexts, which are left alone where there is an embedding. `FlowModel.fit` sets both from the
  training data, or `FlowModel.adapt` does.
act_norm: whether an `ActNorm` stands on the data's side of every layer; set from data likewise.
stack: whether equal layers that follow one another become one `Stack`, where that saves at least `LEAST` of them: the
  first call compiles sooner, and a step of training may take a little longer.
**parts: further arguments of every layer's bijector (`hidden_units`, `activation`, ...).
"""

import inspect

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors
from tfp_flows._arguments import check_one_of, check_positive_integers, draw_seed, merged_signature
from tfp_flows.bijectors.stack import stacked
from tfp_flows.context import embedded, input_and_output

# So many layers have to be saved for a `Stack` to pay: with fewer, the loop costs what it saves to compile.
LEAST = 4


def flow_of(
    make_layers,
    event_size,
    *,
    context_size=0,
    base=None,
    dtype=tf.float32,
    seed=None,
    embedding=None,
    standardize=True,
    act_norm=False,
    stack=False,
    **parts,
):
    """The distribution of a chain of layers over a base.

    Arguments: see the module; and
      make_layers: a function of `context_size`, `dtype`, `seed` and `**parts` that gives the layers, the one next to
        the data first.
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
        layers = [part for pair in zip(norms, layers, strict=True) for part in pair]
    if stack:
        layers = stacked(layers, LEAST)
    if standardize is True:
        layers = [bijectors.Standardize(event_size, dtype=dtype), *layers]
    if base is None:
        base = tfd.Independent(tfd.Normal(tf.zeros([event_size], dtype), tf.ones([], dtype)), 1, name="base")
    bijector = tfb.Chain(layers)
    if standardize and context_size and embedding is None:
        bijector = bijectors.StandardizedContext(bijector)
    flow = tfd.TransformedDistribution(base, bijector)
    return flow if embedding is None else embedded(flow, embedding)


def preset(function):
    """Has `help` show the arguments of `flow_of` where a function passes them on as `**options`."""
    function.__signature__ = merged_signature(function, inspect.signature(flow_of))
    return function
