"""Flows on vectors: one function per paper, each of which only names parts.

The arguments that they share are those of `tfp_flows.flows.flow`; `num_layers` is the number of layers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows import bijectors, transformers
from tfp_flows._arguments import check_one_of, check_positive_integers, split_seed
from tfp_flows._types import Activation
from tfp_flows.bijectors.coupling import coupling_mask
from tfp_flows.distributions import Flow
from tfp_flows.flows.flow import coupling_order, flow_of, preset


@preset
def nice(event_size: int, num_layers: int = 4, **options: Any) -> Flow:
    """NICE: additive couplings, then a diagonal scale next to the base.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.NICE`. `mask` is every
    layer's; before each the coordinates are permuted, as in `realnvp`.

    Source: Dinh et al. 2014, arXiv 1410.8516, section 5: four couplings and the scale of section 3.3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.nice(2).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    couplings = _couplings(bijectors.NICE, event_size, num_layers)

    def layers(dtype, **shared):
        scale = tfb.Scale(log_scale=tf.Variable(tf.zeros([event_size], dtype), name="log_scale"), name="scale")
        return [*couplings(dtype=dtype, **shared), [scale]]

    return flow_of(layers, event_size, **options)


@preset
def realnvp(event_size: int, num_layers: int = 8, **options: Any) -> Flow:
    """RealNVP: affine couplings; with a context, the conditional network (cINN) of Ardizzone et al.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.RealNVP`. `mask` is every
    layer's. Before every second one the coordinates that were left unchanged change places with the others; before the
    rest, in more than two dimensions, they are permuted in orders from the seed.

    Source: Dinh et al. 2017, arXiv 1605.08803; Ardizzone et al. 2019, arXiv 1907.02392.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.realnvp(2, num_layers=4, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    return flow_of(_couplings(bijectors.RealNVP, event_size, num_layers), event_size, **options)


@preset
def neural_spline_coupling(event_size: int, num_layers: int = 8, mixing: str = "permutation", **options: Any) -> Flow:
    """The coupling neural spline flow: rational-quadratic splines, closed-form in both directions.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.NeuralSplineCoupling`. Masks as
    in `realnvp`; and
      mixing: what mixes the coordinates between layers: "permutation", or "lu", the paper's trainable `LULinear`.

    Source: Durkan et al. 2019, arXiv 1906.04032.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.neural_spline_coupling(3, num_layers=4, mixing="lu", seed=0).sample(5).shape
    TensorShape([5, 3])
    """
    layers = _couplings(bijectors.NeuralSplineCoupling, event_size, num_layers, mixing)
    return flow_of(layers, event_size, **options)


@preset
def maf(event_size: int, num_layers: int = 5, **options: Any) -> Flow:
    """The masked autoregressive flow: densities cost one network pass per layer, samples a few.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.MAF`. `input_order` is the first
    layer's, the others take its reverse and itself in turn; with "random" every layer draws one of its own.

    Source: Papamakarios et al. 2017, arXiv 1705.07057; the reversed order: section 4.2 there.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.maf(2, num_layers=2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    return flow_of(_autoregressions(bijectors.MAF, event_size, num_layers), event_size, **options)


@preset
def iaf(event_size: int, num_layers: int = 5, **options: Any) -> Flow:
    """The inverse autoregressive flow: samples with densities cost one network pass per layer, other densities a few.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.IAF`. `input_order` is the first
    layer's, the others take its reverse and itself in turn; with "random" every layer draws one of its own.

    Source: Kingma et al. 2016, arXiv 1606.04934, algorithm 1; the reversed order: section 4 there.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.iaf(2, num_layers=2, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    return flow_of(_autoregressions(bijectors.IAF, event_size, num_layers), event_size, **options)


@preset
def neural_spline_autoregressive(event_size: int, num_layers: int = 5, **options: Any) -> Flow:
    """The autoregressive neural spline flow: as `maf`, with rational-quadratic splines.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.NeuralSplineAutoregressive`.
    `input_order` is the first layer's, the others take its reverse and itself in turn; with "random" every layer draws
    one of its own.

    Source: Durkan et al. 2019, arXiv 1906.04032.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.neural_spline_autoregressive(2, num_layers=2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    layers = _autoregressions(bijectors.NeuralSplineAutoregressive, event_size, num_layers)
    return flow_of(layers, event_size, **options)


@preset
def planar(event_size: int, num_layers: int = 16, **options: Any) -> Flow:
    """Planar flows, one hidden unit per layer.

    Sampling costs two dot products per layer, the density of any point also a scalar root.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Planar`.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.planar(2, num_layers=4).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    return flow_of(_like_layers(bijectors.Planar, event_size, num_layers), event_size, **options)


@preset
def radial(event_size: int, num_layers: int = 16, **options: Any) -> Flow:
    """Radial flows, one centre per layer; both directions have a closed form.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Radial`.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.radial(2, num_layers=4, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    return flow_of(_like_layers(bijectors.Radial, event_size, num_layers), event_size, **options)


@preset
def sylvester(event_size: int, num_layers: int = 4, **options: Any) -> Flow:
    """Sylvester flows: planar flows with several hidden units per layer.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Sylvester`.

    Source: van den Berg et al. 2018, arXiv 1803.05649, section 3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.sylvester(3, num_layers=2, num_units=2, seed=0).sample(5).shape
    TensorShape([5, 3])
    """
    return flow_of(_like_layers(bijectors.Sylvester, event_size, num_layers), event_size, **options)


@preset
def residual(event_size: int, num_layers: int = 8, *, act_norm: bool = True, **options: Any) -> Flow:
    """A residual flow: invertible residual layers z = x + g(x), in which every coordinate moves every other.

    Densities cost one pass per layer and, as the determinants are exact, a Jacobian; samples a fixed point per layer.
    `fit` may estimate the determinants, see `tff.bijectors.Residual`.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Residual`; and
      act_norm: see there. Layers whose Lipschitz constants are bounded cannot rescale their inputs much, so here it is
        the default: it costs little, and the flow learns faster.

    Source: Chen et al. 2019, arXiv 1906.02735, with ActNorm between the layers as there.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.residual(2, num_layers=2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    layers = _like_layers(bijectors.Residual, event_size, num_layers)
    return flow_of(layers, event_size, act_norm=act_norm, **options)


@preset
def smooth(
    event_size: int,
    num_layers: int = 8,
    mixing: str = "permutation",
    *,
    num_components: int = 8,
    activation: Activation = "silu",
    **options: Any,
) -> Flow:
    """A smooth flow: couplings of mixtures of bumps, whose density has derivatives of every order, so forces too.

    The densities are closed form; samples cost a scalar root per coordinate and layer. A spline's density has a kink
    at every knot, where the forces ∇ log p jump.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Coupling`; masks and `mixing` as
    in `neural_spline_coupling`; and
      num_components: K, see `tff.transformers.Bump`.
      bound: the flow moves what lies between -bound and bound of standardized data.
      activation: of the networks; it has to be smooth for the flow to be.

    Source: Köhler et al. 2021, arXiv 2110.00351.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.smooth(2, num_layers=2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """

    def bump(event_size, bound=4.0, **shared):
        transformer = transformers.Bump(num_components, bound)
        return tfb.Invert(bijectors.Coupling(event_size, transformer, activation=activation, **shared))

    return flow_of(_couplings(bump, event_size, num_layers, mixing), event_size, **options)


@preset
def gaussianization(event_size: int, num_layers: int = 6, **options: Any) -> Flow:
    """Gaussianization flows: a mixture of logistics per coordinate, and rotations.

    `FlowModel.adapt(x)`, or the first `fit`, initializes every layer from the data that reaches it: rotation-based
    iterative Gaussianization, which fits before the first training step.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.Gaussianization`.

    Source: Meng et al. 2020, arXiv 2003.01941; Laparra et al. 2011, arXiv 1602.00229.

    Example:

    >>> import tfp_flows as tff
    >>> model = tff.FlowModel(tff.flows.gaussianization(2, num_layers=4, seed=0))
    >>> x = tff.datasets.two_moons(2000, seed=0)
    >>> before = model.log_prob(x).numpy().mean()
    >>> model.adapt(x)
    >>> bool(model.log_prob(x).numpy().mean() > before + 1)
    True
    """
    return flow_of(_like_layers(bijectors.Gaussianization, event_size, num_layers), event_size, **options)


@preset
def gaussian(event_size: int, covariance: str = "full", **options: Any) -> Flow:
    """A Gaussian; with a context a regression: the mean and covariance of x are outputs of a network of the context.

    A ladder of regressions by maximum likelihood, each with more freedom than the one before: a normal of unit width
    (squared error), of one width per coordinate, of any covariance; then the other flows, of any shape.

    Arguments: those of `tfp_flows.flows.flow`; and
      covariance: "unit", "diag" or "full".
      **parts: of the bijector: `tff.bijectors.Elementwise` with a shift, `DiagonalAffine` or `TriangularAffine`.

    Raises: ValueError for another `covariance`, or `act_norm` with "unit".

    Source: Nix & Weigend 1994, IEEE International Conference on Neural Networks 1, 55: the width as an output.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.gaussian(2, "unit").log_prob([1.0, 1.0]).numpy().item()  # -log 2π - 1
    -2.8378...
    """
    makers = {
        "unit": functools.partial(bijectors.Elementwise, transformer=transformers.Additive()),
        "diag": bijectors.DiagonalAffine,
        "full": bijectors.TriangularAffine,
    }
    check_one_of(makers, covariance=covariance)
    if covariance == "unit" and options.get("act_norm"):
        raise ValueError('Expected no `act_norm`, which scales, with `covariance="unit"`. Received: act_norm=True')
    # So would `Standardize`.
    options.setdefault("standardize", "context" if covariance == "unit" else True)
    return flow_of(lambda **shared: [[makers[covariance](event_size, name="affine", **shared)]], event_size, **options)


def _couplings(bijector, event_size, num_layers, mixing="permutation"):
    """Makes couplings of one mask, each after what mixes the coordinates."""
    check_positive_integers(event_size=event_size, num_layers=num_layers)
    check_one_of(("permutation", "lu"), mixing=mixing)

    def make_layers(*, dtype, seed, mask="half", **shared):
        mask = coupling_mask(mask, event_size)
        turns = []
        for k, layer_seed in enumerate(split_seed(seed, num_layers)):
            if mixing == "lu":
                mix = bijectors.LULinear(event_size, permute=True, dtype=dtype, seed=layer_seed, name=f"lu_{k}")
            else:
                order = coupling_order(k, mask, layer_seed)
                mix = bijectors.Permutation(event_size, order, dtype=dtype, name=f"permutation_{k}")
            name = f"{bijector.__name__.lower()}_{k}"
            turns.append([mix, bijector(event_size, mask=mask, dtype=dtype, seed=layer_seed, name=name, **shared)])
        return turns

    return make_layers


def _autoregressions(bijector, event_size, num_layers):
    """Makes autoregressive layers, alternately in an order and its reverse, or each in its own random order."""
    check_positive_integers(event_size=event_size, num_layers=num_layers)

    def make_layers(*, seed, input_order="left-to-right", **shared):
        if isinstance(input_order, str):
            reversed_order = {"left-to-right": "right-to-left", "right-to-left": "left-to-right"}.get(input_order)
            orders = (input_order, reversed_order or input_order)
        else:
            orders = (input_order, np.flip(input_order))
        layers = []
        for k, layer_seed in enumerate(split_seed(seed, num_layers)):
            name = f"{bijector.__name__.lower()}_{k}"
            layers.append([bijector(event_size, input_order=orders[k % 2], seed=layer_seed, name=name, **shared)])
        return layers

    return make_layers


def _like_layers(bijector, event_size, num_layers):
    """Makes layers of one kind, each with its own seed."""
    check_positive_integers(event_size=event_size, num_layers=num_layers)

    def make_layers(*, seed, **shared):
        name = bijector.__name__.lower()
        seeds = split_seed(seed, num_layers)
        return [[bijector(event_size, seed=seed_k, name=f"{name}_{k}", **shared)] for k, seed_k in enumerate(seeds)]

    return make_layers
