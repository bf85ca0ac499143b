"""Coverage on manifolds, by the base's own measure; and directions summarized."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._types import Array, Context
from tfp_flows.inference._band import check_levels
from tfp_flows.inference._flow import as_model, as_rows
from tfp_flows.inference.coverage import LEVELS, Coverage, _curve
from tfp_flows.model import FlowModel


def manifold_coverage(
    flow: FlowModel | tfd.Distribution,
    x: Array,
    context: Context | None = None,
    levels: Array = LEVELS,
    confidence: float = 0.99,
) -> dict[str, Coverage]:
    """Coverage for a flow on a product of spaces, on the sphere or the torus: of every part, and of all together.

    In the base, each part's z has a number that is chi-squared if the density is right:
      for D normal coordinates |z|², with D degrees of freedom;
      for a uniform unit vector -2 log u with 2, where u = (1 - z₃) / 2 is the share of the sphere nearer to the pole;
      for D uniform angles -2 Σ log u_i with 2 D, where u_i = (z_i + π) / 2π.
    Regions up to a value of it have a known probability, and so have those up to a value of their sum: "all".
    `rank_statistics` and `expected_coverage` take such flows as they are.

    Shapes: x `[n, D]`, context `[n, C]`: n truths, each with its own observation.

    Arguments:
      flow: a `FlowModel` or distribution of `tff.flows.product`, `sphere` or `torus`, over their own bases.
      x, context: truths and their observations, as in `coverage`.
      levels, confidence: as in `coverage`.

    Returns: a dictionary from the parts' names, and "all", to `Coverage`s.

    Raises: ValueError for another base than a standard normal or a uniform one; as `FlowModel.inverse`.

    Source: Glüsenkamp 2020, arXiv 2008.05825, section 3.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.product("e2+s2", num_layers=1, seed=0)
    >>> x = flow.sample(500, seed=(0, 1)).numpy()
    >>> {name: found.inside for name, found in tff.inference.manifold_coverage(flow, x).items()}
    {'e2': True, 's2': True, 'all': True}
    """
    levels = check_levels(levels, confidence)
    model = as_model(flow)
    x, context = as_rows(model, x, context)
    z, distribution = model.inverse(x, context), model.distribution
    if hasattr(distribution, "spaces"):
        sizes = [space.base_size for space in distribution.spaces]
        names = [space.name for space in distribution.spaces]
        bases = distribution.distribution.parameters["distributions"]
    else:
        sizes, names, bases = [z.shape[-1]], ["x"], [distribution.distribution]
    found, total, total_degrees = {}, 0.0, 0
    for name, base, part in zip(names, bases, tf.split(z, sizes, -1), strict=True):
        value, degrees = _chi_squared(base, part)
        found[name] = _chi_squared_curve(value, degrees, levels, confidence)
        total, total_degrees = total + value, total_degrees + degrees
    return {**found, "all": _chi_squared_curve(total, total_degrees, levels, confidence)}


def von_mises_fisher(x: Array) -> tuple[np.ndarray, np.ndarray]:
    """The mean direction and the concentration κ of unit vectors: the von Mises-Fisher distribution nearest to them.

    With the mean m of the vectors: the direction is m / |m|, and κ has coth κ - 1 / κ = |m|, the maximum of the
    likelihood. For κ above 10 or so, 1 / √κ is the width in radians along each of the two axes.

    Shapes: x `[n, ..., 3]`, draws of a flow; direction `[..., 3]`, κ `[...]`.

    Raises: ValueError for anything but vectors of three coordinates.

    Source: Mardia & Jupp 2000, Directional Statistics, section 10.3.

    Example:

    >>> import numpy as np, tensorflow_probability as tfp, tfp_flows as tff
    >>> x = tfp.distributions.VonMisesFisher([0.0, 0.0, 1.0], 50.0).sample(10_000, seed=(0, 1))
    >>> direction, concentration = tff.inference.von_mises_fisher(x)
    >>> direction.round(1).tolist(), bool(48 < concentration < 52)
    ([0.0, 0.0, 1.0], True)
    """
    x = np.asarray(x, np.float64)
    if x.ndim < 2 or x.shape[-1] != 3:
        raise ValueError(f"Expected unit vectors `[n, ..., 3]`. Received: shape {x.shape}")
    mean = x.mean(0)
    length = np.linalg.norm(mean, axis=-1)
    # Vectors that are all the same have no finite κ, and ones that cancel no direction.
    length = np.clip(length, 1e-12, 1 - 1e-12)
    concentration = length * (3 - length**2) / (1 - length**2)  # within a few per cent
    for _ in range(20):
        ratio = _langevin(concentration)
        slope = 1 - ratio**2 - 2 * ratio / concentration
        concentration = np.maximum(concentration - (ratio - length) / slope, concentration / 2)
    return mean / length[..., np.newaxis], concentration


def _langevin(κ):
    """coth κ - 1 / κ, the length of the mean vector; by its series where the difference would lose its digits."""
    large = np.maximum(κ, 1e-2)
    return np.where(κ < 1e-2, κ / 3 - κ**3 / 45, 1 / np.tanh(large) - 1 / large)


def _chi_squared(base, z):
    """A number for every z that is chi-squared under the base, and its degrees of freedom."""
    size, got = z.shape[-1], base.log_prob(z[:10]).numpy()
    normal = tfd.MultivariateNormalDiag(tf.zeros(size, z.dtype)).log_prob(z[:10])
    z = z.numpy().astype(np.float64)
    if np.allclose(got, normal, rtol=1e-3, atol=1e-3):
        return np.sum(z**2, -1), size
    if size == 3 and np.allclose(got, -np.log(4 * np.pi), atol=1e-3):
        shares = (1 - z[:, 2:]) / 2
    elif np.allclose(got, -size * np.log(2 * np.pi), atol=1e-3):
        shares = (z + np.pi) / (2 * np.pi)
    else:
        raise ValueError(f"Expected a base that is a standard normal or uniform. Received: {base}")
    return -2 * np.sum(np.log(np.maximum(shares, 1e-300)), -1), 2 * shares.shape[-1]


def _chi_squared_curve(value, degrees, levels, confidence):
    probability = tfd.Chi2(np.float64(degrees)).cdf(value).numpy()
    return _curve(probability[:, np.newaxis] <= levels, levels, confidence)
