"""One function a paper, each only naming parts: a base, and bijectors one after the other.

Every function returns a `tfd.TransformedDistribution` of a `tfb.Chain`; the chain's first bijector is next to the data.
They share these arguments:

  event_size: D, the number of coordinates.
  num_layers: the number of layers.
  context_size: the length of a context vector; 0 for none.
  embedding: a Keras layer that compresses the context, once a call, to what the layers take; it is trained with them,
    and the context has the shape of its input: see `tff.bijectors.Embedded`. `context_size` is then the size of its
    output, and not to be given. None for none.
  base: a `tfd.Distribution` over `[D]`; None for a standard normal.
  dtype: of data, weights and densities.
  seed: an integer that fixes every weight, mask and order; drawn if None.
  standardize: whether a `Standardize` stands next to the data, for data of any units; `FlowModel.adapt` sets it.
  act_norm: whether an `ActNorm` stands on the data's side of every layer; `FlowModel.adapt` starts it.
  **parts: further arguments of every layer's bijector (`hidden_units`, `activation`, ...).
"""

import functools
import inspect

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, transformers
from tfp_flows._arguments import check_positive_integers, draw_seed, split_seed
from tfp_flows.bijectors.coupling import coupling_mask
from tfp_flows.context import embedded, input_and_output


def _preset(make_layers):
    """Makes a distribution's function, which takes the shared arguments, of one that only gives a list of layers."""
    shared = {
        name: parameter
        for name, parameter in inspect.signature(_flow).parameters.items()
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    # First event_size, and num_layers or what stands in its place; last what only this one takes, and **parts.
    own = [value for name, value in inspect.signature(make_layers).parameters.items() if name not in shared]
    signature = inspect.Signature([*own[:2], *shared.values(), *own[2:]])

    @functools.wraps(make_layers)
    def flow(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parts = bound.arguments.pop("parts")
        arguments = {**bound.arguments, **parts}
        for_flow = {name: arguments.pop(name) for name in shared}
        return _flow(functools.partial(make_layers, **arguments), arguments["event_size"], **for_flow)

    flow.__signature__ = signature
    return flow


def _flow(
    make_layers,
    event_size,
    /,
    context_size=0,
    base=None,
    dtype=tf.float32,
    seed=None,
    *,
    embedding=None,
    standardize=False,
    act_norm=False,
):
    """The distribution of the chain of the layers, with what was asked for beside them, over `base`."""
    check_positive_integers(event_size=event_size)
    if embedding is not None:
        if context_size:
            raise ValueError(
                "Expected no `context_size` beside an `embedding`, whose output has that size. "
                f"Received: context_size={context_size!r}"
            )
        context_size = input_and_output(embedding)[1]
    layers = make_layers(context_size=context_size, dtype=dtype, seed=draw_seed(seed))
    if act_norm:
        norms = [bijectors.ActNorm(event_size, dtype, name=f"act_norm_{k}") for k in range(len(layers))]
        layers = [part for pair in zip(norms, layers, strict=True) for part in pair]
    if standardize:
        layers = [bijectors.Standardize(event_size, dtype), *layers]
    if base is None:
        base = tfd.Independent(tfd.Normal(tf.zeros([event_size], dtype), tf.ones([], dtype)), 1, name="base")
    flow = tfd.TransformedDistribution(base, tfb.Chain(layers))
    return flow if embedding is None else embedded(flow, embedding)


@_preset
def nice(event_size, num_layers=4, *, context_size, dtype, seed, **parts):
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
    return [*layers, scale]


@_preset
def realnvp(event_size, num_layers=8, *, context_size, dtype, seed, **parts):
    """RealNVP: affine couplings; with a context, the conditional network (cINN) of Ardizzone et al.

    Arguments: see the module; **parts are those of `tff.bijectors.RealNVP`. `mask` is the first layer's, the others
    take its complement and itself in turn; after every two layers the coordinates are permuted, in orders from the
    seed.

    Source: Dinh et al. 2017, arXiv 1605.08803; Ardizzone et al. 2019, arXiv 1907.02392.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.realnvp(2, num_layers=4, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    return _couplings(bijectors.RealNVP, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def neural_spline_coupling(event_size, num_layers=8, *, mixing="permutation", context_size, dtype, seed, **parts):
    """The coupling neural spline flow: rational-quadratic splines, closed form in both directions.

    Arguments: see the module; **parts are those of `tff.bijectors.NeuralSplineCoupling`. Masks as in `realnvp`; and
      mixing: what stands between the layers: "permutation", or "lu", the paper's trainable `LULinear`.

    Source: Durkan et al. 2019, arXiv 1906.04032.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.neural_spline_coupling(3, num_layers=4, mixing="lu", seed=0).sample(5).shape
    TensorShape([5, 3])
    """
    bijector = bijectors.NeuralSplineCoupling
    return _couplings(bijector, event_size, num_layers, context_size, dtype, seed, parts, mixing)


@_preset
def maf(event_size, num_layers=5, *, context_size, dtype, seed, **parts):
    """The masked autoregressive flow: densities in one pass a layer, samples in a few.

    Arguments: see the module; **parts are those of `tff.bijectors.MAF`. `input_order` is the first layer's, the others
    take its reverse and itself in turn; with "random" every layer draws one of its own.

    Source: Papamakarios et al. 2017, arXiv 1705.07057; the reversed order: section 4.2 there.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.maf(2, num_layers=2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    return _autoregressions(bijectors.MAF, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def iaf(event_size, num_layers=5, *, context_size, dtype, seed, **parts):
    """The inverse autoregressive flow: samples and their densities in one pass a layer, other densities in a few.

    Arguments: see the module; **parts are those of `tff.bijectors.IAF`. `input_order` is the first layer's, the others
    take its reverse and itself in turn; with "random" every layer draws one of its own.

    Source: Kingma et al. 2016, arXiv 1606.04934, algorithm 1; the reversed order: section 4 there.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.iaf(2, num_layers=2, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    return _autoregressions(bijectors.IAF, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def neural_spline_autoregressive(event_size, num_layers=5, *, context_size, dtype, seed, **parts):
    """The autoregressive neural spline flow: as `maf`, with rational-quadratic splines.

    Arguments: see the module; **parts are those of `tff.bijectors.NeuralSplineAutoregressive`. `input_order` is the
    first layer's, the others take its reverse and itself in turn; with "random" every layer draws one of its own.

    Source: Durkan et al. 2019, arXiv 1906.04032.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.neural_spline_autoregressive(2, num_layers=2, seed=0).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    bijector = bijectors.NeuralSplineAutoregressive
    return _autoregressions(bijector, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def planar(event_size, num_layers=16, *, context_size, dtype, seed, **parts):
    """Planar flows, one hidden unit a layer.

    Sampling costs two dot products a layer, the density of any point a scalar root as well.

    Arguments: see the module; **parts are those of `tff.bijectors.Planar`.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.planar(2, num_layers=4).log_prob(tf.zeros([3, 2])).shape
    TensorShape([3])
    """
    return _like_layers(bijectors.Planar, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def radial(event_size, num_layers=16, *, context_size, dtype, seed, **parts):
    """Radial flows, one centre a layer; both directions are closed form.

    Arguments: see the module; **parts are those of `tff.bijectors.Radial`.

    Source: Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.radial(2, num_layers=4, seed=0).sample(3).shape
    TensorShape([3, 2])
    """
    return _like_layers(bijectors.Radial, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def sylvester(event_size, num_layers=4, *, context_size, dtype, seed, **parts):
    """Sylvester flows, planar flows with several hidden units a layer.

    Arguments: see the module; **parts are those of `tff.bijectors.Sylvester`.

    Source: van den Berg et al. 2018, arXiv 1803.05649, section 3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.flows.sylvester(3, num_layers=2, num_units=2, seed=0).sample(5).shape
    TensorShape([5, 3])
    """
    return _like_layers(bijectors.Sylvester, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def gaussianization(event_size, num_layers=6, *, context_size, dtype, seed, **parts):
    """Gaussianization flows: mixtures of logistics for every coordinate, and rotations.

    `FlowModel.adapt(x)` starts every layer from the data that reaches it: rotation-based iterative Gaussianization,
    which fits before any step of training.

    Arguments: see the module; **parts are those of `tff.bijectors.Gaussianization`.

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
    return _like_layers(bijectors.Gaussianization, event_size, num_layers, context_size, dtype, seed, parts)


@_preset
def gaussian(event_size, covariance="full", *, context_size, dtype, seed, **parts):
    """A Gaussian; with a context a regression: the mean and covariance of x are outputs of a network of the context.

    The ladder of regressions, each the maximum likelihood of one more freedom than the one before: a normal of unit
    width (squared error), of a width for every coordinate, of any covariance; then the other flows, of any shape.

    Arguments: see the module; and
      covariance: "unit", "diag" or "full".
      **parts: of the bijector: `tff.bijectors.Elementwise` with a shift, `DiagonalAffine` or `TriangularAffine`.

    Raises: ValueError for another `covariance`.

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
    if covariance not in makers:
        raise ValueError(f"Expected `covariance` to be one of {list(makers)}. Received: covariance={covariance!r}")
    return [makers[covariance](event_size, context_size=context_size, dtype=dtype, seed=seed, name="affine", **parts)]


def _couplings(bijector, event_size, num_layers, context_size, dtype, seed, parts, mixing="permutation"):
    """Couplings whose masks alternate with their complements, and what mixes the coordinates between them."""
    check_positive_integers(num_layers=num_layers)
    if mixing not in ("permutation", "lu"):
        raise ValueError(f'Expected `mixing` to be "permutation" or "lu". Received: mixing={mixing!r}')
    mask = coupling_mask(parts.pop("mask", "half"), event_size)
    layers = []
    for k, layer_seed in enumerate(split_seed(seed, num_layers)):
        if k > 0 and mixing == "lu":
            layers.append(bijectors.LULinear(event_size, permute=True, dtype=dtype, seed=layer_seed, name=f"lu_{k}"))
        # Two masks have moved every coordinate; and two coordinates have no other order that the masks do not give.
        elif k > 0 and k % 2 == 0 and event_size > 2:
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


def _autoregressions(bijector, event_size, num_layers, context_size, dtype, seed, parts):
    """Autoregressive layers in an order and its reverse in turn, or each in a random one of its own."""
    check_positive_integers(num_layers=num_layers)
    order = parts.pop("input_order", "left-to-right")
    if isinstance(order, str):
        orders = (order, {"left-to-right": "right-to-left", "right-to-left": "left-to-right"}.get(order, order))
    else:
        orders = (order, np.flip(order))
    return [
        bijector(
            event_size,
            input_order=orders[k % 2],
            context_size=context_size,
            dtype=dtype,
            seed=layer_seed,
            name=f"{bijector.__name__.lower()}_{k}",
            **parts,
        )
        for k, layer_seed in enumerate(split_seed(seed, num_layers))
    ]


def _like_layers(bijector, event_size, num_layers, context_size, dtype, seed, parts):
    """Layers of one kind, each with a seed of its own."""
    check_positive_integers(num_layers=num_layers)
    name = bijector.__name__.lower()
    return [
        bijector(event_size, context_size=context_size, dtype=dtype, seed=layer_seed, name=f"{name}_{k}", **parts)
        for k, layer_seed in enumerate(split_seed(seed, num_layers))
    ]
