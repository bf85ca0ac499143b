"""Frames in and out: pandas, files, structured arrays; the values of a column as numbers, and numbers as its values."""

import pathlib

import numpy as np

MAX_COLUMNS = 1000
PIECE_ROWS = 65_536
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # per second


def pandas():
    """The module pandas, which only tables need."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("Tables need pandas: pip install 'tfp_flows[tables]'. Received: no module pandas") from error
    return pandas


def read(source):
    """A table of any kind as a pandas frame.

    A frame itself; the path of a CSV or Parquet file; what has `to_pandas`, as polars' and pyarrow's tables have; a
    structured array; a dictionary of columns. In CSV files, which know no date-times, columns of ISO dates become some.

    Raises: TypeError for anything else; ValueError for a file of another kind, one without a table, names that are no
      strings or occur twice, more columns than are sensible, and no rows.
    """
    pd = pandas()
    if isinstance(source, (str, pathlib.Path)):
        frame = _read_file(pd, pathlib.Path(source))
    elif hasattr(source, "to_pandas"):
        frame = source.to_pandas()
    elif isinstance(source, pd.DataFrame):
        frame = source
    elif isinstance(source, dict) or (isinstance(source, np.ndarray) and source.dtype.names):
        frame = pd.DataFrame(source)
    else:
        raise TypeError(
            "Expected a table: a pandas or polars frame, a structured array, a dictionary of columns, or the path of a "
            f"CSV or Parquet file. Received: {type(source).__name__}"
        )
    names = list(frame.columns)
    if len(names) > MAX_COLUMNS:
        raise ValueError(
            f"Expected at most {MAX_COLUMNS} columns: take those that matter together. Received: {len(names)} columns"
        )
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"Expected columns whose names are strings. Received: the name {_plain(wrong[0])!r}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Expected every column's name once. Received: {twice[0]!r} {names.count(twice[0])} times")
    if not len(frame) or not names:
        raise ValueError(f"Expected a table with rows. Received: {len(frame)} rows of {len(names)} columns")
    return frame


def pieces(source):
    """The frames that make up a table: of a Parquet file, which may be larger than memory, `PIECE_ROWS` rows each.

    Anything else is one frame: what the columns of a CSV file are is known only from all of its rows. Rows of a file
    keep their numbers.
    """
    path = pathlib.Path(source) if isinstance(source, (str, pathlib.Path)) else None
    if path is None or not _is_parquet(path) or not path.is_file():
        yield read(source)
        return
    from pyarrow import parquet

    file, start = parquet.ParquetFile(path), 0
    for batch in file.iter_batches(PIECE_ROWS) if file.metadata.num_rows else [file.read()]:
        frame = read(batch)
        yield frame.set_axis(range(start, start + len(frame)))
        start += len(frame)


def _is_parquet(path):
    return bool({".parquet", ".pq"} & set(path.suffixes[-2:]))


def _read_file(pd, path):
    try:
        if _is_parquet(path):
            return pd.read_parquet(path)
        if ".csv" not in path.suffixes[-2:]:
            raise ValueError(f"Expected a file of the kind .csv or .parquet. Received: {path}")
        frame = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        raise ValueError(f"Expected a file with a table in it. Received: {path}, which is empty") from None
    for name in frame.columns[frame.dtypes.map(pd.api.types.is_string_dtype)]:
        if frame[name].dropna().astype(str).str.match(r"\d{4}-\d\d-\d\d([T ][\d:.+Z-]*)?$").all():
            frame[name] = pd.to_datetime(frame[name], format="ISO8601")
    return frame


def check_columns(frame, names, others=False):
    """Raises ValueError unless a frame has these columns, in any order, and no others unless they do not matter."""
    missing = [name for name in names if name not in frame.columns]
    more = [] if others else [name for name in frame.columns if name not in names]
    if missing or more:
        found = [f"no column {name!r}" for name in missing[:3]] + [f"a column {name!r}" for name in more[:3]]
        raise ValueError(f"Expected the {len(names)} columns {_shortened(names)}. Received: {', '.join(found)}")


# Columns


def is_categorical(series):
    return str(series.dtype) == "category"


def is_time(series):
    return pandas().api.types.is_datetime64_any_dtype(series.dtype)


def is_text(series):
    """Whether a column holds strings, or Python objects."""
    types = pandas().api.types
    return not is_categorical(series) and (types.is_string_dtype(series.dtype) or types.is_object_dtype(series.dtype))


def numbers(series):
    """A column of numbers as float64, with NaN where a value is missing.

    Raises: ValueError for values that are no numbers, with the first of them.
    """
    pd = pandas()
    if is_categorical(series):
        series = series.astype(series.cat.categories.dtype if not series.isna().any() else object)
    if is_text(series):
        values = pd.to_numeric(series, errors="coerce")
        wrong = np.flatnonzero((values.isna() & series.notna()).to_numpy())
        if len(wrong):
            raise ValueError(
                f"Expected numbers in the column {series.name!r}. "
                f"Received: {_plain(series.iloc[wrong[0]])!r} in row {series.index[wrong[0]]}{_more(wrong)}"
            )
        series = values
    if series.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected numbers in the column {series.name!r}; of durations take `.dt.total_seconds()`. "
            f"Received: dtype {series.dtype}"
        )
    return series.to_numpy(dtype="float64", na_value=np.nan)


def times(series):
    """A column of date-times as int64 ticks, the smallest integer where one is missing; and the unit of a tick.

    Raises: ValueError for values that are no date-times.
    """
    if not is_time(series):
        raise ValueError(f"Expected date-times in the column {series.name!r}. Received: dtype {series.dtype}")
    if getattr(series.dt, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    array = series.to_numpy(dtype=f"datetime64[{series.dt.unit}]")
    return array.astype("int64"), series.dt.unit


def codes(series, labels):
    """The position of every value among labels, NaN where it is missing, -1 where it is none of them."""
    pd = pandas()
    places = pd.Index(list(labels), dtype=object).get_indexer(series.astype(object))
    return np.where(series.isna().to_numpy(), np.nan, places.astype(float))


def to_values(series, column):
    """The values of a column of a frame as `Column.encode` takes them."""
    if column.labels is not None:
        return codes(series, column.labels)
    if column.ticks:
        ticks, unit = times(series)
        expected = unit_of(column)
        factor, divisor = TICKS[expected], TICKS[unit]
        if factor == divisor:
            return ticks
        return np.where(ticks == np.iinfo("int64").min, ticks, ticks * factor // divisor)
    return numbers(series)


def unit_of(column):
    """The unit of the ticks of a column of date-times: s, ms, us or ns."""
    return column.dtype.split("[")[1].split(",")[0].rstrip("]")


def to_series(values, column):
    """The values of a column, as `Column.decode` gives them, as a pandas series of the column's dtype."""
    pd = pandas()
    if column.labels is not None:
        places = np.where(np.isnan(values), len(column.labels), values).astype(int)
        objects = pd.Series([*column.labels, None], dtype=object).iloc[places].reset_index(drop=True)
        if column.dtype == "category":
            kind = pd.CategoricalDtype(pd.Index(column.labels), ordered=column.ordered)
            return objects.astype(kind).rename(column.name)
        return objects.astype(column.dtype).rename(column.name)
    if column.ticks:
        stamps = pd.Series(values.view(f"datetime64[{unit_of(column)}]"))
        zone = column.dtype.split(", ")[1].rstrip("]") if ", " in column.dtype else None
        return (stamps.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else stamps).rename(column.name)
    series = pd.Series(values)
    if pd.api.types.is_integer_dtype(column.dtype):
        series = series.round()
    if column.dtype[0] in "IUF":  # pandas' nullable dtypes take NaN as it is
        series = series.astype("Float64")
    return series.astype(column.dtype).rename(column.name)


def from_series(series):
    """A frame of series by name."""
    return pandas().DataFrame(series)


def summary(schema):
    """What each column is, as a frame that prints whole."""

    class Summary(pandas().DataFrame):
        def __repr__(self):
            return self.to_string()

    rows = []
    for column in schema.columns:
        part = column.continuum
        rows.append(
            {
                "role": "context" if column.name in schema.context else "modelled",
                "kind": column.kind,
                "dtype": column.dtype,
                "atoms": _atoms_in_words(column),
                "continuum": "" if part is None else _continuum_in_words(column),
                "log_prob is of": _measure_in_words(column),
            }
        )
    return Summary(rows, index=[column.name for column in schema.columns])


def _atoms_in_words(column):
    values = column.labels if column.labels is not None else column.atoms
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values[:3]]
    if len(values) > 3:
        words.append(f"... {len(values)} in all")
    return ", ".join(words + ["missing"] * column.has_missing)


def _continuum_in_words(column):
    part = column.continuum
    if column.ticks:
        words = f"{column.unit}s since {np.datetime64(int(part.offset), unit_of(column))}"
    else:
        low, high = (None if end is None else f"{end + part.offset:g}" for end in (part.low, part.high))
        words = {
            "unbounded": "standardized",
            "log": f"logarithm above {low}",
            "softplus": f"softplus above {low}",
            "below": f"logarithm below {high}",
            "bounded": f"logit from {low} to {high}",
            "periodic": f"angle, of a period from {low} to {high}",
        }[part.shape]
    return words + (f", in steps of {part.step:g}" if part.step else "")


def _measure_in_words(column):
    if column.continuum is None:
        return "a probability" if column.is_discrete else "nothing: it is constant"
    density = "a cell's probability" if column.continuum.step else "a density"
    return f"a probability, or {density}" if column.is_discrete else density


# Errors


def refuse_values(series, column, rows):
    """Raises ValueError for values that a column cannot have: missing ones, unseen ones, or beyond its bounds."""
    missing = series.iloc[rows].isna()
    if missing.any():
        raise ValueError(
            f'Expected no missing values in the column {column.name!r} (`missing` may be "drop" or "model"). '
            f"Received: {int(missing.sum())} missing"
        )
    received = f"Received: {_plain(series.iloc[rows[0]])!r} in row {series.index[rows[0]]}{_more(rows)}"
    part = column.continuum
    if part is not None:
        ends = {"at least": part.low, "at most": part.high}
        words = [f"{word} {end + part.offset:g}" for word, end in ends.items() if end is not None]
        expected = " and ".join(words) or "finite numbers"
        raise ValueError(f"Expected {expected} in the column {column.name!r}. {received}")
    known = column.labels if column.labels is not None else [f"{atom:g}" for atom in column.atoms]
    raise ValueError(f"Expected the column {column.name!r} to be among {_shortened(known)}. {received}")


def _plain(value):
    """A NumPy number as Python's, which prints as the number alone."""
    return value.item() if isinstance(value, np.generic) else value


def _more(rows):
    return f", and {len(rows) - 1} more" if len(rows) > 1 else ""


def _shortened(values):
    values = list(values)
    words = ", ".join(map(repr, values[:6]))
    return f"[{words}{f', ... {len(values)} in all' if len(values) > 6 else ''}]"
