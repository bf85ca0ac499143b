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
        row = series.index[~np.isfinite(x)][0]
        raise ValueError(
            f"Expected finite numbers in the column {name!r}. Received: {np.count_nonzero(~np.isfinite(x))} infinite, "
            f"the first in row {row}"
        )
    low, high = _checked_bounds(series, x, kind, bounds)
    is_integer = "int" in str(series.dtype).lower()
    step, decimals = 0.0, None
    if is_integer or kind not in ("unbounded", "positive"):
        step, decimals = _rounding(x, str(series.dtype))
    if kind == "integer" and (not step or step != round(step)):
        raise ValueError(f"Expected integers in the column {name!r}. Received: {x[x != np.round(x)][0]:g}")
    if kind == "periodic" and step and not math.isclose((high - low) / step % 1.0, 0.0, abs_tol=1e-6):
        step, decimals = 0.0, None  # cells that do not fill the period
    if decimals is not None:
        x = np.round(x, decimals)
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) == len(x) and is_integer and kind is None and len(x) > 20 and np.ptp(x) < 2 * len(x):
        raise ValueError(
            f"Expected a measurement in the column {name!r}, which looks like a row number: leave it out, or state its "
            f"kind. Received: {len(x)} integers from {x.min():.0f} to {x.max():.0f}, no one twice"
        )
    if kind == "constant" and len(distinct) > 1:
        raise ValueError(f"Expected one value in the column {name!r}. Received: {len(distinct)} different values")
    if step and kind != "periodic":  # bounds at values
        low = None if low is None else distinct[0] - step * math.floor((distinct[0] - low) / step + 1e-6)
        high = None if high is None else distinct[0] + step * math.floor((high - distinct[0]) / step + 1e-6)
    atoms = _atoms(distinct, counts, kind, low, high, step, decimals)
    rest = x[~np.isin(x, atoms)]
    if len(atoms) and len(np.unique(rest)) < 5:  # too few to be a continuum
        atoms, rest = np.union1d(atoms, rest), rest[:0]
    continuum = _continuum(rest, kind, low, high, step, num_missing or len(atoms)) if len(rest) else None
    found = dict(zip(distinct.tolist(), counts.tolist(), strict=True))
    outcomes = [len(rest)] * (continuum is not None) + [found.get(atom, 0) for atom in atoms.tolist()]
    if continuum is None:
        word = "constant" if len(atoms) == 1 and not num_missing else "integer" if step == round(step) else "rounded"
    elif len(atoms):
        word = "mixture"
    else:
        word = kind or (("integer" if step == round(step) else "rounded") if step else _word(continuum))
    return Column(
        name,
        str(series.dtype),
        word,
        continuum,
        tuple(atoms.tolist()),
        has_missing=bool(num_missing),
        frequencies=_frequencies([*outcomes, *([num_missing] if num_missing else [])]),
        decimals=decimals,
    )


def _word(continuum):
    return {"log": "positive", "softplus": "positive", "below": "bounded"}.get(continuum.shape, continuum.shape)


def _frequencies(counts):
    counts = [float(count) for count in counts]
    return tuple(count / sum(counts) for count in counts)


def _checked_bounds(series, x, kind, bounds):
    """(low, high), each None for none, given or as the kind wants them."""
    name = series.name
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
        raise ValueError(
            f"Expected the column {name!r} {'above' if kind == 'positive' else 'within'} "
            f"{low if kind == 'positive' else (low, high)}. Received: {x[wrong][0]:g} in row {series.index[wrong][0]}"
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


def _atoms(values, counts, kind, low, high, step, decimals):
    """The values that have a probability of their own, in their order: all, if they are few, or frequent ones.

    Arguments:
      values, counts: the different values, in their order, and how often each occurs.
    """
    rows, few = counts.sum(), len(values) <= 20 and counts.sum() >= 10 * len(values)
    if len(values) == 1 and kind in (None, "constant"):
        return values
    if step and kind != "periodic":
        first, last = (values[0] if low is None else low), (values[-1] if high is None else high)
        cells = round((last - first) / step) + 1
        if cells <= MAX_CELLS:
            return np.round(first + step * np.arange(cells), decimals)
    if kind is not None:
        return values[:0]
    if step and few:
        return values
    if step and (values[-1] - values[0]) / step < 2**21:
        return _heaps(values, counts, step)
    is_atom = counts >= max(5, 0.01 * rows)
    if not step and values[0] == 0 and low is None:  # beside a density of positive numbers
        is_atom[0] = True
    return _most_frequent(values, counts, is_atom)


def _heaps(values, counts, step):
    """Rounded values that are twice as frequent as the third of the ten cells around, and more than by chance.

    The third, since heaps have heaps beside them, and a smooth peak has frequent neighbours on both sides. In a column
    that is heaped, of whose rows a sixth would have to move for its counts to be smooth, all frequent values.
    """
    rows = counts.sum()
    cells = np.round((values - values[0]) / step).astype(np.int64)
    histogram = np.zeros(cells[-1] + 1)
    histogram[cells] = counts
    window = np.ones(11)
    around = np.convolve(histogram, window, "same") / np.convolve(np.ones_like(histogram), window, "same")
    # By the second term, on average, do counts differ from a smooth density.
    moved = 0.5 * (np.abs(histogram - around) - np.sqrt(2 / math.pi * around)).sum() / rows
    if moved > 1 / 6:
        return _most_frequent(values, counts, counts >= max(10, 0.001 * rows))
    is_atom = counts >= max(10, 0.01 * rows)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(histogram, 5, "reflect"), 11)[cells[is_atom]]
    third = np.sort(np.delete(windows, 5, axis=1))[:, -3]
    is_atom[is_atom] = counts[is_atom] > 2 * third + 4 * np.sqrt(third)
    return _most_frequent(values, counts, is_atom)


def _most_frequent(values, counts, is_atom):
    """The most frequent of some values, in their order."""
    return np.sort(values[is_atom][np.argsort(-counts[is_atom], kind="stable")][:MAX_ATOMS])


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
