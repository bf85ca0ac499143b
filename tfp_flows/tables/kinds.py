"""What kind of column a column is: found from its values, or stated."""

import dataclasses
import math

import numpy as np

from tfp_flows.tables import frames
from tfp_flows.tables.columns import Column
from tfp_flows.tables.continua import Chart, Continuum

KINDS = ("unbounded", "positive", "bounded", "periodic", "integer", "category", "constant", "date-time")
# Integers and rounded numbers of at most so many cells are categories with exact probabilities.
MAX_CELLS = 64
MAX_ATOMS = 128
MAX_LABELS = 1000


def column_of(series, kind=None, bounds=None, missing="raise"):
    """The `Column` that a series is, of the kind that is stated or found.

    Raises: ValueError for missing values where `missing` is "raise", for text and identifiers, infinities, a kind that
      is none or does not fit, and values outside of the bounds; each names the column.
    """
    name = series.name
    if kind is not None and kind not in KINDS:
        raise ValueError(f"Expected the kind of the column {name!r} to be one of {list(KINDS)}. Received: {kind!r}")
    is_missing = series.isna().to_numpy()
    if is_missing.any() and missing == "raise":
        raise ValueError(
            f'Expected no missing values in the column {name!r} (`missing` may be "drop" or "model"). '
            f"Received: {int(is_missing.sum())} missing"
        )
    known = series[~is_missing]
    if not len(known):
        raise ValueError(f"Expected values in the column {name!r}; leave it out. Received: only missing ones")
    num_missing = int(is_missing.sum()) if missing == "model" else 0
    is_label, is_time = kind == "category" or _has_labels(known), kind == "date-time" or frames.is_time(known)
    if bounds is not None and kind in (None, "category", "date-time") and (is_label or is_time):
        raise ValueError(f"Expected bounds for columns of numbers alone. Received: bounds of {name!r}")
    if kind == "category" or (kind is None and is_label):
        return _category(known, num_missing, stated=kind is not None)
    if kind == "date-time" or (kind is None and is_time):
        return _date_time(known, num_missing)
    return _number(known, kind, bounds, num_missing)


def _has_labels(series):
    return frames.is_categorical(series) or frames.is_text(series) or "bool" in str(series.dtype)


def _category(series, num_missing, stated):
    """A column of labels, each with a probability."""
    name, dtype, ordered = series.name, str(series.dtype), False
    if frames.is_categorical(series):
        dtype, ordered, labels = "category", bool(series.cat.ordered), series.cat.categories.tolist()
    else:
        labels = series.unique().tolist()
        kinds = {type(label) for label in labels}
        if not kinds <= {str, bool, int, float}:
            found = next(label for label in labels if type(label) not in (str, bool, int, float))
            raise ValueError(f"Expected strings or numbers in the column {name!r}. Received: {found!r}")
        labels = sorted(labels, key=lambda label: (str(type(label)), label))
        count = len(labels)
        if not stated and (count > MAX_LABELS or (count > 20 and count > len(series) / 2)):
            raise ValueError(
                f"Expected few labels in the column {name!r}, which looks like text or an identifier: leave it out, "
                f'group its values, or state that it is a "category". '
                f"Received: {count} different values in {len(series)} rows"
            )
    if len(labels) > 10 * MAX_LABELS:
        raise ValueError(
            f"Expected at most {10 * MAX_LABELS} labels in the column {name!r}. Received: {len(labels)} labels"
        )
    counts = np.bincount(frames.codes(series, labels).astype(int), minlength=len(labels))
    return Column(
        name,
        dtype,
        "constant" if len(labels) == 1 and not num_missing else "category",
        atoms=tuple(map(float, range(len(labels)))),
        labels=tuple(labels),
        has_missing=bool(num_missing),
        frequencies=_frequencies([*counts, *([num_missing] if num_missing else [])]),
        ordered=ordered,
    )


def _date_time(series, num_missing):
    """A column of date-times: numbers since the first of them."""
    ticks, unit = frames.times(series)
    per_second = frames.TICKS[unit]
    if len(np.unique(ticks)) == 1:
        values, is_constant = (int(ticks[0]),), True
    else:
        values, is_constant = (), False
    start = int(ticks.min())
    steps = ticks - start
    units = {"day": 86400 * per_second, "second": per_second}
    word = "day" if np.ptp(ticks) >= 2 * units["day"] else "second"
    y = steps / units[word]
    sizes = [seconds * per_second for seconds in (86400, 3600, 60, 1)]
    whole = [size for size in sizes if not (steps % size).any()]
    step = whole[0] / units[word] if whole else 0.0
    continuum = None if is_constant else _standardized(Continuum("unbounded", offset=start, step=step), y)
    return Column(
        series.name,
        str(series.dtype),
        "constant" if is_constant and not num_missing else "date-time",
        continuum=continuum,
        atoms=values,
        has_missing=bool(num_missing),
        frequencies=_frequencies([len(ticks), *([num_missing] if num_missing else [])]),
        ticks=units[word],
        unit=word,
    )


def _number(series, kind, bounds, num_missing):
    """A column of numbers: atoms, a continuum, or both."""
    name, x = series.name, frames.numbers(series)
    if not np.isfinite(x).all():
        row = np.flatnonzero(~np.isfinite(x))[0]
        raise ValueError(
            f"Expected finite numbers in the column {name!r}. Received: {np.count_nonzero(~np.isfinite(x))} infinite, "
            f"the first in row {row}"
        )
    low, high = _checked_bounds(name, x, kind, bounds)
    is_integer = "int" in str(series.dtype).lower()
    step, decimals = (
        _rounding(x, str(series.dtype)) if kind not in ("unbounded", "positive") or is_integer else (0.0, None)
    )
    if kind == "integer" and (not step or step != round(step)):
        raise ValueError(f"Expected integers in the column {name!r}. Received: {x[0]!r}")
    if decimals is not None:
        x = np.round(x, decimals)
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) == len(x) and is_integer and kind is None and len(x) > 20 and np.ptp(x) < 2 * len(x):
        raise ValueError(
            f"Expected a measurement in the column {name!r}, which looks like a row number: leave it out, or state its "
            f"kind. Received: {len(x)} integers from {x.min():.0f} to {x.max():.0f}, no one twice"
        )
    shared = {"name": name, "dtype": str(series.dtype), "has_missing": bool(num_missing), "decimals": decimals}
    if len(distinct) == 1 and kind in (None, "constant"):
        word = "mixture" if num_missing else "constant"
        counts = _frequencies([len(x), *([num_missing] if num_missing else [])])
        return Column(kind=word, atoms=(float(x[0]),), frequencies=counts, **shared)
    if kind == "constant":
        raise ValueError(f"Expected one value in the column {name!r}. Received: {len(distinct)} different values")
    word = "integer" if step and step == round(step) else "rounded"
    if kind != "periodic":
        first, last = (x.min() if low is None else low), (x.max() if high is None else high)
        cells = round((last - first) / step) + 1 if step else math.inf
        few = len(distinct) <= 20 and len(x) >= 10 * len(distinct) and kind is None
        if cells <= MAX_CELLS or few:
            grid = distinct if cells > MAX_CELLS else np.round(first + step * np.arange(cells), decimals)
            atoms = tuple(grid.tolist())
            found = dict(zip(distinct.tolist(), counts.tolist(), strict=True))
            counts = [found.get(atom, 0) for atom in atoms]
            counts = _frequencies([*counts, *([num_missing] if num_missing else [])])
            return Column(kind=word, atoms=atoms, frequencies=counts, **shared)
    atoms = _atoms(distinct, counts, step) if kind is None else np.array([])
    if kind is None and not step and x.min() == 0 and low is None:  # beside a density of positive numbers
        atoms = np.union1d(atoms, [0.0])
    rest = x[~np.isin(x, atoms)]
    if len(np.unique(rest)) < 5 and len(atoms):  # too few to be a continuum
        atoms, rest = distinct, rest[:0]
    continuum = _continuum(rest, kind, low, high, step, num_missing or len(atoms)) if len(rest) else None
    found = dict(zip(distinct.tolist(), counts.tolist(), strict=True))
    outcomes = [*([len(rest)] if continuum else []), *(found[atom] for atom in atoms.tolist())]
    outcomes = _frequencies([*outcomes, *([num_missing] if num_missing else [])])
    word = "mixture" if len(atoms) else kind or (word if step else _word(continuum))
    return Column(kind=word, continuum=continuum, atoms=tuple(atoms.tolist()), frequencies=outcomes, **shared)


def _word(continuum):
    return {"log": "positive", "softplus": "positive", "below": "bounded"}.get(continuum.shape, continuum.shape)


def _frequencies(counts):
    counts = [float(count) for count in counts]
    return tuple(count / sum(counts) for count in counts)


def _checked_bounds(name, x, kind, bounds):
    """(low, high), each None for none, given or as the kind wants them."""
    low, high = bounds if bounds is not None else (None, None)
    low, high = (None if end is None or not np.isfinite(end) else float(end) for end in (low, high))
    if None not in (low, high) and low >= high:
        raise ValueError(f"Expected bounds (low, high) of the column {name!r}. Received: {bounds}")
    if kind == "periodic" and (low is None or high is None):
        raise ValueError(
            f"Expected the ends of a period of the column {name!r} in `bounds`, as (0, 24). Received: bounds={bounds}"
        )
    if kind == "positive" and low is None:
        low = 0.0
    if kind == "bounded" and low is None and high is None:  # learned, with a margin
        margin = 0.05 * np.ptp(x) or 1.0
        low, high = float(x.min() - margin), float(x.max() + margin)
    wrong = np.zeros(len(x), bool)
    if low is not None:
        wrong |= x < low
    if high is not None:
        wrong |= x > high
    if kind == "positive":
        wrong |= x <= low
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"Expected the column {name!r} {'above' if kind == 'positive' else 'within'} "
            f"{low if kind == 'positive' else (low, high)}. Received: {x[row]:g} in row {row}"
        )
    return low, high


def _rounding(x, dtype):
    """The step of rounded numbers and the decimals that they are written with; (0, None) of others.

    Arguments:
      dtype: of the frame, by name: numbers are rounded if they are as near to round ones as it can hold.
    """
    precision = np.finfo("float32" if "32" in dtype else "float16" if "16" in dtype else "float64").eps
    for decimals in range(7):
        rounded = np.round(x, decimals)
        if np.all(np.abs(x - rounded) <= 4 * precision * np.abs(x)):
            whole = np.round(rounded * 10.0**decimals)
            if np.abs(whole).max() > 2**50:
                break
            steps = np.unique(whole - whole.min()).astype(np.int64)
            step = int(np.gcd.reduce(steps)) or 1
            if steps[-1] / step > 2**20 and decimals:  # finer than it matters
                break
            return step / 10.0**decimals, decimals
    return 0.0, None


def _atoms(values, counts, step):
    """The values that have a probability of their own: much more frequent than those around them, or heaped.

    Of rounded numbers, those around a value are the five cells on either side. A column is heaped if a sixth of its
    rows would have to move for its counts to be smooth, rounding aside.
    """
    rows = counts.sum()
    if not step:
        return values[counts >= max(5, 0.01 * rows)][:MAX_ATOMS]
    cells = np.round((values - values[0]) / step).astype(np.int64)
    if cells[-1] > 2**21:
        return values[counts >= max(5, 0.05 * rows)][:MAX_ATOMS]
    histogram = np.zeros(cells[-1] + 1)
    histogram[cells] = counts
    window = np.ones(11)
    around = np.convolve(histogram, window, "same") / np.convolve(np.ones_like(histogram), window, "same")
    # What counts of a smooth density differ from it by, on average.
    moved = 0.5 * (np.abs(histogram - around) - np.sqrt(2 / math.pi * around)).sum() / rows
    if moved > 1 / 6:
        is_atom = counts >= max(10, 0.001 * rows)
    else:
        others = (around * 11 - histogram)[cells] / 10
        is_atom = (counts >= max(5, 0.01 * rows)) & (counts > 5 * others)
    return np.sort(values[is_atom][np.argsort(-counts[is_atom])][:MAX_ATOMS])


def _continuum(x, kind, low, high, step, is_partial):
    """The continuum of numbers, with the shape of the two that makes them less skewed where there is a choice."""
    mean, deviation = float(x.mean()), float(x.std()) or 1.0
    if kind is None and low is None and high is None and x.min() >= 0 and mean < 20 * deviation:
        low = 0.0
        if step and x.min() > 0:  # zero was not seen: the smallest value is a step
            low = float(x.min() - step * max(0, math.floor((x.min() - step / 2) / step)))
    if kind == "unbounded":
        low = high = None
    # Numbers far from zero for their spread would lose digits in float32.
    offset = float(x.min()) if step else (round(mean) if abs(mean) > 100 * deviation else 0.0)
    y = x - offset
    low, high = (None if end is None else end - offset for end in (low, high))
    shared = {"offset": offset, "step": step}
    if kind == "periodic":
        # On a circle there is no place for what is absent: such a column is cut at its ends.
        part = Continuum("bounded" if is_partial else "periodic", low, high, **shared)
        return _standardized(part, y) if is_partial else part
    if low is not None and high is not None:
        return _standardized(Continuum("bounded", low, high, **shared), y)
    if high is not None:
        softness = float(np.median(high - y)) or 1.0
        return _standardized(Continuum("below", None, high, softness, **shared), y)
    if low is not None:
        softness = float(np.median(y - low)) or 1.0
        both = [_standardized(Continuum(shape, low, None, softness, **shared), y) for shape in ("log", "softplus")]
        return min(both, key=lambda part: abs(_skewness(part, y)))
    return _standardized(Continuum("unbounded", **shared), y)


def _standardized(part, y):
    """A continuum with the mean and the deviation that g⁻¹(y) has in the data."""
    z = _z(part, y)
    return dataclasses.replace(part, location=float(z.mean()), spread=float(z.std()) or 1.0)


def _z(part, y):
    # Rounded values as what they stand for: numbers spread over their cells.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(y)) * part.step
    return Chart([part], np.float64).inverse((y + noise)[:, np.newaxis])[0].numpy()[:, 0]


def _skewness(part, y):
    z = _z(part, y)
    return np.mean(((z - z.mean()) / (z.std() or 1.0)) ** 3)
