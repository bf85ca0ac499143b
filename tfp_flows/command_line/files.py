"""What commands read and write: tables, models, and places for results."""

import itertools
import pathlib
import sys
import zipfile

import click
import keras
import numpy as np

from tfp_flows._files import written_whole
from tfp_flows.model import FlowModel
from tfp_flows.tables import TableModel, frames
from tfp_flows.tables.rows import Rows

PATH = click.Path(path_type=pathlib.Path)
FORCE = click.option("--force", is_flag=True, help="Overwrite what is there.")


def read_table(path):
    """The frame in a CSV or Parquet file."""
    _check_is_file(path)
    return frames.read(path)


def read_pieces(path):
    """Frames that make up the table in a file; a Parquet file may be larger than memory."""
    _check_is_file(path)
    return frames.pieces(path)


def split(frame, test, seed):
    """Rows for training, and the share `test` of rows that is held out, drawn from a seed."""
    order = np.random.default_rng(seed).permutation(len(frame))
    count = round(test * len(frame))
    if test and not 0 < count < len(frame):
        raise ValueError(f"Expected --test to leave rows on both sides. Received: {test} of {len(frame)} rows")
    parts = np.sort(order[count:]), np.sort(order[:count])
    return tuple(frame.iloc[part].reset_index(drop=True) for part in parts)


def load(path):
    """The model in a `.keras` file: a `TableModel` or a `FlowModel`."""
    if (path / "saved_model.pb").is_file():
        raise ValueError(f"Expected a .keras file; this is an exported model, for `tfp-flows serve`. Received: {path}")
    _check_is_file(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"Expected a .keras file, as `tfp-flows fit` writes it. Received: {path}, which is none")
    try:
        model = keras.saving.load_model(path)
    except Exception as error:  # as many kinds as there are ways to be no model
        raise ValueError(f"Expected a .keras file that can be read: {error}. Received: {path}") from error
    if not isinstance(model, FlowModel):
        raise ValueError(f"Expected a model of tfp_flows. Received: {path}, a {type(model).__name__}")
    return TableModel(model) if isinstance(model.distribution, Rows) else model


def load_table_model(path):
    """The `TableModel` in a `.keras` file."""
    model = load(path)
    if not isinstance(model, TableModel):
        raise ValueError(f"Expected a model of a table, as `tfp-flows fit` writes it. Received: {path}, a FlowModel")
    return model


def check_free(path, force, suffix=None):
    """Raises click.ClickException unless a result can be written to a path."""
    if suffix is not None and path.suffix != suffix:
        raise click.ClickException(f"Expected --out with the ending {suffix}. Received: {path}")
    if not path.parent.is_dir():
        raise click.ClickException(f"Expected --out in a folder that exists. Received: {path}")
    if path.exists() and suffix is not None and path.is_dir():
        raise click.ClickException(f"Expected --out as a file. Received: {path}, a folder")
    if path.exists() and not force:
        raise click.ClickException(f"{path} is there already; --force overwrites it.")


def check_table_place(path, force):
    """Raises click.ClickException unless a table can be written to a path; None is the standard output."""
    if path is None:
        return
    if path.suffix not in (".csv", ".parquet"):
        raise click.ClickException(f"Expected --out with the ending .csv or .parquet. Received: {path}")
    check_free(path, force, path.suffix)


def write_table(pieces, path):
    """Writes frames one below another, as CSV to the standard output, or as CSV or Parquet to a file."""
    if path is None:
        _write_csv(pieces, sys.stdout)
        return
    with written_whole(path) as new:
        _write_csv(pieces, new) if path.suffix == ".csv" else _write_parquet(pieces, new)


def _write_csv(pieces, place):
    for number, frame in enumerate(pieces):
        frame.to_csv(place, mode="a", index=False, header=number == 0)


def _write_parquet(pieces, path):
    import pyarrow
    from pyarrow import parquet

    tables = (pyarrow.Table.from_pandas(frame, preserve_index=False) for frame in pieces)
    first = next(tables)
    schema = first.schema
    for number, field in enumerate(schema):
        if pyarrow.types.is_dictionary(field.type):  # later pieces may have more labels than these indices can count
            wide = pyarrow.dictionary(pyarrow.int32(), field.type.value_type, field.type.ordered)
            schema = schema.set(number, field.with_type(wide))
    with parquet.ParquetWriter(path, schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table.cast(schema))


def _check_is_file(path):
    if not path.is_file():
        raise click.ClickException(f"{path} is {'a folder, not a file' if path.is_dir() else 'not there'}.")
