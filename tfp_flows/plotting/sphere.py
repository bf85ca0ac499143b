"""Pictures of densities and samples on the sphere; they need the extra `plot` (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorflow_probability import distributions as tfd

from tfp_flows._types import Array, Context
from tfp_flows.inference._flow import as_model
from tfp_flows.inference.manifolds import von_mises_fisher
from tfp_flows.model import FlowModel

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure


def sphere(
    flow: FlowModel | tfd.Distribution | None = None,
    samples: Array | None = None,
    truth: Array | None = None,
    context: Context | None = None,
    levels: Array = (0.5, 0.9),
    num_points: int = 180,
    axes: matplotlib.axes.Axes | None = None,
) -> matplotlib.figure.Figure:
    """Draws a density on the sphere as a map in Mollweide's projection, which preserves areas.

    The density is that of a flow on the sphere; without one it is estimated from the samples, by a von Mises-Fisher
    kernel, which also serves for the directions in draws of a product. Lines surround the regions of highest density
    that hold the probabilities `levels`.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution` over unit vectors; None to take the density of the samples.
      samples: unit vectors `[n, 3]`, drawn as points where there is a flow.
      truth: a unit vector to mark.
      context: `[C]`, for a conditional flow.
      levels: the probabilities of the regions.
      num_points: along the latitude; twice as many along the longitude.
      axes: the `matplotlib.axes.Axes` to draw on, made with `projection="mollweide"`; None for those of a new figure.

    Returns: the `matplotlib.figure.Figure`.

    Raises: ValueError without a flow and without samples; ImportError if matplotlib is not installed.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    if flow is None and samples is None:
        raise ValueError("Expected a flow or samples. Received: neither")
    if axes is None:
        axes = plt.subplots(figsize=(8, 4.5), subplot_kw={"projection": "mollweide"}, layout="constrained")[1]
    latitudes = np.pi * ((np.arange(num_points) + 0.5) / num_points - 0.5)
    longitudes = 2 * np.pi * ((np.arange(2 * num_points) + 0.5) / (2 * num_points) - 0.5)
    longitude, latitude = np.meshgrid(longitudes, latitudes)
    points = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], -1
    )
    if flow is None:
        density = _kernel_density(np.asarray(samples, np.float64), points)
    else:
        log_prob = as_model(flow).log_prob(points.reshape(-1, 3).astype(np.float32), context)
        density = np.exp(log_prob.numpy().reshape(latitude.shape))
    axes.pcolormesh(longitude, latitude, density, cmap="Blues", shading="gouraud", rasterized=True)
    # The least density inside the region of each probability, cells having the areas cos(latitude).
    order = np.argsort(-density, axis=None)
    probability = np.cumsum((density * np.cos(latitude)).flat[order])
    reached = np.searchsorted(probability / probability[-1], sorted(levels, reverse=True))
    lines = np.unique(density.flat[order[np.minimum(reached, order.size - 1)]])
    axes.contour(longitude, latitude, density, lines, colors="black", linewidths=1)
    if samples is not None and flow is not None:
        axes.plot(*_longitude_and_latitude(samples), ".", color="tab:red", markersize=1, alpha=0.5)
    if truth is not None:
        axes.plot(*_longitude_and_latitude(truth), "*", color="tab:orange", markersize=12)
    axes.grid(alpha=0.3)
    axes.set_xticklabels([])
    return axes.figure


def _longitude_and_latitude(x):
    import numpy as np

    first, second, third = np.moveaxis(np.asarray(x, np.float64), -1, 0)
    return np.arctan2(second, first), np.arctan2(third, np.hypot(first, second))


def _kernel_density(samples, points):
    """The mean of von Mises-Fisher densities about the samples; their width follows Silverman's rule in the plane."""
    import numpy as np

    _, concentration = von_mises_fisher(samples)
    concentration = concentration * len(samples) ** (1 / 3)
    normalization = concentration / (2 * np.pi * -np.expm1(-2 * concentration))
    values = np.zeros(points.shape[:-1])
    for block in np.array_split(samples, max(1, len(samples) // 100)):
        values += np.exp(concentration * (points @ block.T - 1)).sum(-1)
    return normalization * values / len(samples)
