"""Pictures of densities and samples; they need the extra `plot` (matplotlib, corner)."""


def corner(data, samples, labels=None, names=("data", "samples")):
    """Draws two sets of points over each other: every column's histogram and every pair's contours.

    Arguments:
      data, samples: points, `[n, D]` and `[m, D]`; both are drawn with weight one in all.
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
