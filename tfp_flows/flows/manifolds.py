"""Flows on manifolds: on the torus and the sphere, and products of them with each other and with vectors.

The arguments that they share are those of `tfp_flows.flows.flow`; `num_layers` is the number of layers. There are no
units to set, so `standardize` is for the context alone, and no `act_norm`.
"""

import math

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors
from tfp_flows._arguments import check_one_of, check_positive_integers, split_seed
from tfp_flows.bijectors.coupling import coupling_mask
from tfp_flows.flows.flow import flow_of, preset


@preset
def torus(event_size, num_layers=4, kind="coupling", **options):
    """A flow of angles in [-π, π), on the circle or the torus; the density is with respect to their volume.

    The density and its first derivative are the same at -π and π.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of the layers; and
      kind: "coupling", layers `tff.bijectors.CircularCoupling` whose masks alternate, or "autoregressive", layers
        `tff.bijectors.CircularAutoregressive` whose orders alternate: more flexible, and D passes to draw. A single
        angle takes the second.
      base: None for the uniform distribution; or any other of angles in [-π, π), as `tfd.VonMises`.

    Source: Rezende et al. 2020, arXiv 2002.02428, section 2.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.torus(2, num_layers=2, seed=0)
    >>> flow.log_prob(np.float32([0.5, 3.0])).numpy().round(3).item()  # -2 log 2π
    -3.676...
    """
    check_positive_integers(event_size=event_size, num_layers=num_layers)
    check_one_of(("coupling", "autoregressive"), kind=kind)

    def make_layers(*, seed, mask="half", **shared):
        layers = []
        for k, layer_seed in enumerate(split_seed(seed, num_layers)):
            shared_k = {"seed": layer_seed, "name": f"circular_{k}", **shared}
            if kind == "autoregressive" or event_size == 1:
                order = ("left-to-right", "right-to-left")[k % 2]
                layers.append(bijectors.CircularAutoregressive(event_size, order, **shared_k))
            else:
                layer_mask = coupling_mask(mask, event_size)
                layer_mask = layer_mask if k % 2 == 0 else ~layer_mask
                layers.append(bijectors.CircularCoupling(event_size, mask=layer_mask, **shared_k))
        return layers

    return _on_manifold(make_layers, event_size, uniform_torus, **options)


@preset
def sphere(num_layers=6, num_reflections=3, **options):
    """A flow of unit vectors `[3]`, on the sphere S²; the density is with respect to the area, 4π in all.

    Layers `tff.bijectors.SphereFlow`, whose poles a `Householder` of `num_reflections` brings to places that are drawn
    from the seed and trained. The density is continuous everywhere; both directions are closed.

    Arguments: those of `tfp_flows.flows.flow` and, as **parts, those of `tff.bijectors.SphereFlow`; and
      base: None for the uniform distribution; or any other on the sphere, as `tfd.VonMisesFisher`.

    Source: Rezende et al. 2020, arXiv 2002.02428, section 2.3; the poles: see `tff.bijectors.SphereFlow`.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.sphere(num_layers=2, seed=0)
    >>> flow.log_prob(np.float32([0.0, 0.6, 0.8])).numpy().round(3).item()  # -log 4π
    -2.531...
    """
    check_positive_integers(num_layers=num_layers)

    def make_layers(*, context_size, dtype, seed, **shared):
        layers = []
        for k, layer_seed in enumerate(split_seed(seed, num_layers)):
            both = {"context_size": context_size, "dtype": dtype, "seed": layer_seed}
            layers.append(bijectors.Householder(3, num_reflections, name=f"rotation_{k}", **both))
            layers.append(bijectors.SphereFlow(name=f"sphere_{k}", **both, **shared))
        return layers

    return _on_manifold(make_layers, 3, uniform_sphere, **options)


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
    check_one_of((True, False, "context"), standardize=standardize)
    check_one_of((False,), act_norm=act_norm)  # a scale and a shift leave no manifold in its place
    # `Independent` hides that TFP's distributions on spheres know their tangent space: for them TFP would take the
    # log-determinant from the Jacobian of the whole chain, by autodiff, in place of ours.
    base = tfd.Independent(make_base(event_size, dtype) if base is None else base, 0, name="base")
    standardize = "context" if standardize else False
    return flow_of(make_layers, event_size, dtype=dtype, base=base, standardize=standardize, **options)
