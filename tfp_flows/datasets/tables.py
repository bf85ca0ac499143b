"""Two real tables, small enough to live inside the package.

Sources: both are taken from the package `datasets` of R.
  `quakes`: the Harvard PRIM-H project, which had it from Dr. John Woodhouse, Department of Geophysics, Harvard
    University.
  `geyser` (R's `faithful`): Härdle 1991, Smoothing Techniques with Implementation in S, Springer; a more complete
    version is in Azzalini and Bowman 1990, Applied Statistics 39, 357-365.

Their values are rounded, so that their density is a row of spikes: a flow could raise its likelihood without bound by
narrowing onto them. Therefore both are dequantized by default: every value is spread evenly over the interval that was
rounded to it. The mean log-density of the dequantized data, plus the logarithm of the cell's volume, is then a lower
bound of the mean log-probability of the rounded data (Theis et al. 2016, arXiv 1511.01844, section 3.1).
"""

import importlib.resources
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from tfp_flows._arguments import random_generator


class _Table(Protocol):
    """A function that gives a table, with the names of its columns and the steps they are rounded to."""

    columns: tuple[str, ...]
    steps: tuple[float, ...]

    def __call__(
        self, dequantize: bool = True, seed: int | Sequence[int] | np.random.Generator | None = None
    ) -> np.ndarray: ...


def _described(columns: tuple[str, ...], steps: tuple[float, ...]) -> Callable[[Callable], _Table]:
    def described(function):
        function.columns, function.steps = columns, steps
        return function

    return described


@_described(("latitude", "longitude", "depth", "magnitude", "stations"), steps=(0.01, 0.01, 1.0, 0.1, 1.0))
def quakes(dequantize: bool = True, seed: int | Sequence[int] | np.random.Generator | None = None) -> np.ndarray:
    """1000 earthquakes off Fiji since 1964: two bent planes of events, with skewed magnitudes and counts.

    Columns: latitude (degrees, negative towards the south), longitude (degrees towards the east, 165 to 189), depth
    (km), magnitude (Richter), and the number of stations that reported. Rounded to 0.01, 0.01, 1, 0.1 and 1; some of
    the latitudes and longitudes are round to 0.1, more than chance would have it, and stay so.

    Arguments:
      dequantize: whether to spread each value evenly over its rounding step; False gives the raw table.
      seed: of the dequantization: the same seed gives the same numbers.

    Returns:
      A float32 array `[1000, 5]`. The names of the columns are `quakes.columns`, their steps `quakes.steps`.

    Example:

    >>> import tfp_flows as tff
    >>> tff.datasets.quakes(dequantize=False)[0].tolist()
    [-20.420000076293945, 181.6199951171875, 562.0, 4.800000190734863, 41.0]
    """
    return _table("quakes.csv", quakes.steps, dequantize, seed)


@_described(("eruption", "waiting"), steps=(1 / 60, 1.0))
def geyser(dequantize: bool = True, seed: int | Sequence[int] | np.random.Generator | None = None) -> np.ndarray:
    """272 eruptions of Old Faithful: two clusters, short eruptions with short waits and long ones with long.

    Columns: the duration of an eruption and the waiting time until the next, both in minutes. The durations are whole
    seconds, written as minutes to three decimals; multiples of 5 seconds are more frequent than chance would have it,
    and stay so. The waiting times are whole minutes.

    Arguments:
      dequantize: whether to spread each value evenly over its rounding step; False gives the raw table.
      seed: of the dequantization: the same seed gives the same numbers.

    Returns:
      A float32 array `[272, 2]`. The names of the columns are `geyser.columns`, their steps `geyser.steps`.

    Example:

    >>> import tfp_flows as tff
    >>> tff.datasets.geyser(dequantize=False)[0].tolist()
    [3.5999999046325684, 79.0]
    """
    return _table("geyser.csv", geyser.steps, dequantize, seed)


def _table(file_name, steps, dequantize, seed):
    """The table of a CSV file with a header, as it is or with every value spread over its step."""
    if not isinstance(dequantize, bool | np.bool_):
        raise ValueError(f"Expected `dequantize` to be True or False. Received: dequantize={dequantize!r}")
    random = random_generator(seed)
    with (importlib.resources.files("tfp_flows.datasets") / "files" / file_name).open(encoding="utf-8") as lines:
        table = np.loadtxt(lines, delimiter=",", skiprows=1)
    if dequantize:
        # The intervals must meet without gap or overlap, so they are centred on the multiples of the step:
        # 3.333 minutes stand for 200 seconds.
        table = (np.round(table / steps) + random.uniform(-0.5, 0.5, size=table.shape)) * steps
    return table.astype(np.float32)
