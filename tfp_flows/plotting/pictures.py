"""Pictures of densities, samples and coverage; they need the extra `plot` (matplotlib, corner)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tensorflow_probability import distributions as tfd

from tfp_flows._types import Array, Context
from tfp_flows.inference import Coverage, Ranks
from tfp_flows.inference._flow import as_model
from tfp_flows.model import FlowModel

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure


def corner(
    data: Array, samples: Array, labels: Sequence[str] | None = None, names: tuple[str, str] = ("data", "samples")
) -> matplotlib.figure.Figure:
    """Draws two sets of points over each other: a histogram per column and contours per pair.

    Arguments:
      data, samples: points, `[n, D]` and `[m, D]`; both are drawn with a total weight of one.
      labels: the names of the D columns.
      names: what the legend calls the two.

    Returns: the `matplotlib.figure.Figure`.

    Raises: ImportError if matplotlib or corner are not installed.
    """
    import corner as corner_package
    import matplotlib.lines
    import numpy as np

    figure, colors = None, ("black", "tab:orange")
    # Ranges of the data, so that a stray sample does not squeeze the picture.
    ranges = [tuple(np.quantile(column, [0.001, 0.999])) for column in np.asarray(data).T]
    for points, color in zip((data, samples), colors, strict=True):
        points = np.asarray(points)
        figure = corner_package.corner(
            points,
            fig=figure,
            labels=labels,
            color=color,
            range=ranges,
            bins=30,
            plot_datapoints=False,
            plot_density=False,
            no_fill_contours=True,
            levels=(0.393, 0.865),  # the one- and two-sigma ellipses of a Gaussian in the plane
            smooth=1.0,
            weights=np.full(len(points), 1 / len(points)),
        )
    handles = [matplotlib.lines.Line2D([], [], color=color) for color in colors]
    figure.legend(handles, names, loc="upper right", fontsize="x-large", frameon=False)
    return figure


def density(
    flow: FlowModel | tfd.Distribution,
    bounds: tuple[float, float] | tuple[tuple[float, float], tuple[float, float]],
    context: Context | None = None,
    truth: Array | None = None,
    num_points: int = 200,
    labels: Sequence[str] | None = None,
    axes: matplotlib.axes.Axes | None = None,
) -> matplotlib.figure.Figure:
    """Draws a density over an interval, or over a rectangle in the plane.

    Arguments:
      flow: a `FlowModel` or `tfd.Distribution` over `[1]` or `[2]`.
      bounds: (low, high), or ((low, high), (low, high)) in the plane.
      context: `[C]`, for a conditional flow.
      truth: a point `[1]` or `[2]` to mark.
      num_points: along each axis.
      labels: the names of the coordinates.
      axes: the `matplotlib.axes.Axes` to draw on; None for those of a new figure.

    Returns: the `matplotlib.figure.Figure`.

    Raises: ValueError for bounds of neither kind; ImportError if matplotlib is not installed.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    bounds = np.asarray(bounds, np.float64)
    if bounds.shape not in ((2,), (2, 2)):
        raise ValueError(f"Expected (low, high), or two of these for the plane. Received: bounds={bounds.tolist()}")
    lines = [np.linspace(low, high, num_points) for low, high in np.atleast_2d(bounds)]
    points = np.stack(np.meshgrid(*lines), -1).reshape(-1, len(lines))
    values = np.exp(as_model(flow).log_prob(points, context))
    axes = plt.subplots()[1] if axes is None else axes
    if len(lines) == 1:
        axes.plot(lines[0], values)
        axes.set(xlabel=None if labels is None else labels[0], ylabel="density", ylim=(0, None))
    else:
        extent = [*bounds[0], *bounds[1]]
        axes.imshow(values.reshape(num_points, num_points), origin="lower", extent=extent, aspect="auto")
        axes.set(**({} if labels is None else {"xlabel": labels[0], "ylabel": labels[1]}))
    if truth is not None:
        axes.axvline(truth[0], color="tab:orange")
        if len(lines) == 2:
            axes.axhline(truth[1], color="tab:orange")
    return axes.figure


def posterior(
    samples: Array,
    truth: Array | None = None,
    labels: Sequence[str] | None = None,
    weights: Array | None = None,
    figure: matplotlib.figure.Figure | None = None,
    color: str = "tab:blue",
) -> matplotlib.figure.Figure:
    """Draws samples of a posterior: a histogram per parameter, contours per pair, and lines at the truth.

    The contours hold 39.3 % and 86.5 % of a pair: the one- and two-sigma ellipses of a Gaussian in the plane.

    Arguments:
      samples: `[n, D]`.
      truth: `[D]`, marked by lines.
      labels: the names of the D parameters.
      weights: `[n]`, as `ImportanceSample.weights` are; None for equal ones.
      figure: the result of an earlier call, to draw another posterior over it.
      color: of histograms and contours.

    Returns: the `matplotlib.figure.Figure`.

    Raises: ImportError if matplotlib or corner are not installed.
    """
    import corner as corner_package
    import numpy as np

    samples = np.asarray(samples)
    # Ranges of nearly all samples and the truth, so that a stray sample does not squeeze the picture.
    ranges = np.quantile(samples, [0.005, 0.995], axis=0)
    if truth is not None:
        ranges = np.stack([np.minimum(ranges[0], truth), np.maximum(ranges[1], truth)])
    return corner_package.corner(
        samples,
        fig=figure,
        labels=labels,
        range=ranges.T.tolist(),
        truths=truth,
        truth_color="tab:orange",
        color=color,
        bins=30,
        plot_datapoints=False,
        plot_density=False,
        no_fill_contours=True,
        levels=(0.393, 0.865),
        smooth=1.0,
        weights=np.full(len(samples), 1 / len(samples)) if weights is None else weights,
    )


def coverage(
    result: Coverage, axes: matplotlib.axes.Axes | None = None, label: str = "observed"
) -> matplotlib.figure.Figure:
    """Draws the observed coverage against the nominal, with the band in which the curve of a correct density lies.

    Arguments:
      result: a `tff.inference.Coverage`.
      axes: the `matplotlib.axes.Axes` to draw on; None for those of a new figure.
      label: what the legend calls the curve.

    Returns: the `matplotlib.figure.Figure`.

    Raises: ImportError if matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    axes = plt.subplots(figsize=(5, 5))[1] if axes is None else axes
    band = f"{100 * result.confidence:g} % band"
    axes.fill_between(result.nominal, result.lower, result.upper, color="tab:gray", alpha=0.3, linewidth=0, label=band)
    axes.plot([0, 1], [0, 1], color="tab:gray", linewidth=1)
    axes.plot(result.nominal, result.observed, ".-", label=label)
    axes.set(xlabel="nominal coverage", ylabel="observed coverage", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", frameon=False)
    return axes.figure


def ranks(result: Ranks, labels: Sequence[str] | None = None, confidence: float = 0.99) -> matplotlib.figure.Figure:
    """Draws, per coordinate, the distribution function of its ranks minus that of uniform ones, with the band.

    Arguments:
      result: `tff.inference.Ranks`.
      labels: the names of the coordinates.
      confidence: the probability that the whole curve of a correct density lies in the band.

    Returns: the `matplotlib.figure.Figure`.

    Raises: ImportError if matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    size = result.ranks.shape[1]
    figure, rows = plt.subplots(1, size, figsize=(2.5 * size, 2.5), sharey=True, squeeze=False, layout="constrained")
    for k, axes in enumerate(rows[0]):
        found = result.coverage(k, confidence=confidence)
        low, high = found.lower - found.nominal, found.upper - found.nominal
        axes.fill_between(found.nominal, low, high, color="tab:gray", alpha=0.3, linewidth=0)
        axes.plot(found.nominal, found.observed - found.nominal, ".-")
        axes.set(title=f"x{k}" if labels is None else labels[k], xlabel="rank / number of draws")
    rows[0][0].set_ylabel("excess of truths below")
    return figure
