"""One function a paper, each only naming parts: a base, and bijectors one after the other.

Every function returns a `tfd.TransformedDistribution` of a `tfb.Chain` whose first bijector is the one next to the data.
They share these arguments:

  event_size: D, the number of coordinates.
  num_layers: the number of layers.
  context_size: the length of a context vector; 0 for none.
  base: a `tfd.Distribution` over `[D]`; None for a standard normal.
  dtype: of data, weights and densities.
  seed: an integer that fixes every weight, mask and order; drawn if None.
  standardize: whether a `Standardize` stands next to the data, for data of any units; `FlowModel.adapt` sets it.
  act_norm: whether an `ActNorm` stands on the data's side of every layer; `FlowModel.adapt` starts it.
  **parts: further arguments of every layer's bijector (`hidden_units`, `activation`, ...).
"""

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors
from tfp_flows._checks import check_positive_integers
from tfp_flows._seeds import draw_seed, split_seed
from tfp_flows.bijectors.coupling import coupling_mask


def nice(
    event_size,
    num_layers=4,
    context_size=0,
    base=None,
    dtype=tf.float32,
    seed=None,
    standardize=False,
    act_norm=False,
    **parts,
):
    """NICE: additive couplings, then a diagonal scale next to the base.

    Arguments: see the module; **parts are those of `tff.bijectors.NICE`. `mask` is the first layer's, the others take
    its complement and itself in turn.

    Source: Dinh et al. 2014, arXiv 1410.8516, section 5: four couplings and the scale of section 3.3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.nice(2).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    layers = _couplings(bijectors.NICE, event_size, num_layers, context_size, dtype, seed, parts)
    scale = tfb.Scale(log_scale=tf.Variable(tf.zeros([event_size], dtype), name="log_scale"), name="scale")
    return _flow(event_size, [*layers, scale], base, dtype, standardize, act_norm)


def realnvp(
    event_size,
    num_layers=8,
    context_size=0,
    base=None,
    dtype=tf.float32,
    seed=None,
    standardize=False,
    act_norm=False,
    **parts,
):
    """RealNVP: affine couplings; with a context, the conditional network (cINN) of Ardizzone et al.

    Arguments: see the module; **parts are those of `tff.bijectors.RealNVP`. `mask` is the first layer's, the others take
    its complement and itself in turn; after every two layers the coordinates are permuted, in an order from the seed.

    Source: Dinh et al. 2017, arXiv 1605.08803; Ardizzone et al. 2019, arXiv 1907.02392.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.realnvp(2, num_layers=4, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    layers = _couplings(bijectors.RealNVP, event_size, num_layers, context_size, dtype, seed, parts)
    return _flow(event_size, layers, base, dtype, standardize, act_norm)


def _couplings(bijector, event_size, num_layers, context_size, dtype, seed, parts):
    """Couplings whose masks alternate with their complements, and a permutation after every second."""
    check_positive_integers(event_size=event_size, num_layers=num_layers)
    mask = coupling_mask(parts.pop("mask", "half"), event_size)
    layers = []
    for k, layer_seed in enumerate(split_seed(draw_seed(seed), num_layers)):
        # Two coordinates have changed places by the masks already.
        if k > 0 and k % 2 == 0 and event_size > 2:
            order = np.random.default_rng(layer_seed).permutation(event_size)
            layers.append(tfb.Permute(order, name=f"permute_{k}"))
        layers.append(
            bijector(
                event_size,
                mask=mask if k % 2 == 0 else ~mask,
                context_size=context_size,
                dtype=dtype,
                seed=layer_seed,
                name=f"{bijector.__name__.lower()}_{k}",
                **parts,
            )
        )
    return layers


def _flow(event_size, layers, base, dtype, standardize, act_norm):
    """The distribution of the chain of `layers`, with the normalizations asked for, over `base`."""
    if act_norm:
        layers = [
            part
            for k, layer in enumerate(layers)
            for part in (bijectors.ActNorm(event_size, dtype, name=f"act_norm_{k}"), layer)
        ]
    if standardize:
        layers = [bijectors.Standardize(event_size, dtype), *layers]
    if base is None:
        base = tfd.Independent(tfd.Normal(tf.zeros([event_size], dtype), tf.ones([], dtype)), 1, name="base")
    return tfd.TransformedDistribution(base, tfb.Chain(layers))
