"""The figures of a report, as PNG data inside the page."""

import base64
import io

import numpy as np

DATA, DRAWN = "black", "#e07b00"


def embedded(figure):
    """A figure as a data URI; transparent, so that it lies on a page of either colour."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, transparent=True, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def marginal(data, drawn, name, labels=None, is_date=False):
    """The histograms of one column, of data and of draws; of a category, bars; of dates in days since 1970."""
    axes = _axes(3.0, 2.0)
    data, drawn = data[~np.isnan(data)], drawn[~np.isnan(drawn)]
    few = np.unique(np.concatenate([data, drawn]))
    if labels is not None or len(few) <= 12:
        # The most frequent categories; a phone has no room for hundreds.
        few = sorted(few[np.argsort([-np.sum(data == value) for value in few])][:12])
        places = np.arange(len(few))
        for values, color, shift in ((data, DATA, -0.2), (drawn, DRAWN, 0.2)):
            shares = [np.mean(values == value) if len(values) else 0 for value in few]
            axes.bar(places + shift, shares, 0.4, color=color)
        words = [str(labels[int(value)]) if labels is not None else f"{value:g}" for value in few]
        axes.set_xticks(places, [word[:14] for word in words], fontsize=8, rotation=90 if len(few) > 5 else 0)
    else:
        low, high = np.quantile(data, [0.001, 0.999]) if len(data) else (0, 1)
        edges = np.linspace(low, high if high > low else low + 1, 41)
        for values, color in ((data, DATA), (drawn, DRAWN)):
            axes.hist(values, edges, density=True, histtype="step", color=color, linewidth=1.3)
        if is_date:
            ends = edges[[4, -5]]
            axes.set_xticks(ends, [str(np.datetime64(round(end), "D")) for end in ends], fontsize=8)
    axes.set_title(_short(name), fontsize=10)
    axes.set_yticks([])
    return embedded(axes.figure)


def corner(data, drawn, names):
    """The corner plot of a few columns."""
    from tfp_flows import plotting

    return embedded(plotting.corner(data, drawn, labels=[_short(name) for name in names], names=("data", "draws")))


def coverage(result):
    """The coverage against the nominal one, with its band."""
    from tfp_flows import plotting

    axes = _axes(4.2, 4.2)
    plotting.coverage(result, axes=axes)
    return embedded(axes.figure)


def matrices(pair, names):
    """The correlations of data and of draws, and their difference, side by side."""
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
    data, drawn = pair
    for axes, matrix, title in zip(rows, (data, drawn, drawn - data), ("data", "draws", "difference"), strict=True):
        picture = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        axes.set_title(title, fontsize=10)
        few = len(names) <= 15
        axes.set_xticks(range(len(names)) if few else [], [_short(name) for name in names] if few else [], rotation=90)
        axes.set_yticks(range(len(names)) if few and axes is rows[0] else [])
        if few and axes is rows[0]:
            axes.set_yticklabels([_short(name) for name in names])
        axes.tick_params(labelsize=8)
    figure.colorbar(picture, ax=rows, shrink=0.7)
    return embedded(figure)


def curves(history):
    """The loss of every epoch, in training and in validation."""
    axes = _axes(6.0, 3.0)
    names = [name for name in ("loss", "val_loss") if history.get(name)]
    for name, color in zip(names, (DATA, DRAWN), strict=False):
        values = np.asarray(history[name], np.float64)
        axes.plot(
            np.arange(1, len(values) + 1), values, color=color, label={"loss": "training"}.get(name, "validation")
        )
    # The first epochs would squeeze the others.
    values = np.concatenate([np.asarray(history[name], np.float64) for name in names])
    values = values[np.isfinite(values)]
    if len(values) > 10:
        low, high = np.min(values), np.quantile(values, 0.95)
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low) or None)
    axes.set(xlabel="epoch", ylabel="negative log-likelihood, nats")
    axes.legend(frameon=False)
    return embedded(axes.figure)


def _axes(width, height):
    import matplotlib.pyplot as plt

    axes = plt.subplots(figsize=(width, height))[1]
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _short(name):
    """A name as a title: not too long, and no mathematics."""
    name = str(name).replace("$", r"\$")
    return name if len(name) <= 24 else name[:22] + "…"
