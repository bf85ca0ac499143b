"""All columns of a table: from a frame to rows of outcomes and numbers, and back."""

import typing

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.tables import frames
from tfp_flows.tables.columns import Column


class Layout(typing.NamedTuple):
    """Which columns have a place in a row, by what they have there; see `Rows`."""

    discrete: list
    angles: list
    numbers: list
    partial: list


@keras.saving.register_keras_serializable("tfp_flows")
class Schema:
    """The columns of a table, in their order.

    Arguments:
      columns: a `Column` for each.
      context: the names of those that are given, not modelled.
      missing: what happens to missing values: "raise", "drop" or "model".
    """

    def __init__(self, columns, context=(), missing="raise"):
        self.columns = tuple(columns)
        self.context = tuple(context)
        self.missing = missing
        self.modelled_columns = [column for column in self.columns if column.name not in self.context]
        self.context_columns = [column for column in self.columns if column.name in self.context]
        modelled = self.modelled_columns
        continua = [column for column in modelled if column.continuum is not None]
        always = [column for column in continua if not column.is_discrete]
        self.layout = Layout(
            [column for column in modelled if column.is_discrete],
            [column for column in always if column.continuum.is_periodic],
            [column for column in always if not column.continuum.is_periodic],
            [column for column in continua if column.is_discrete],
        )
        self.context_size = sum(column.num_features for column in self.context_columns)

    def get_config(self):
        columns = [column.get_config() for column in self.columns]
        return {"columns": columns, "context": list(self.context), "missing": self.missing}

    @classmethod
    def from_config(cls, config):
        return cls([Column.from_config(column) for column in config["columns"]], config["context"], config["missing"])

    # Frames

    def encode(self, frame, training=False):
        """The rows `[n, D]` float64 of a frame, the context `[n, C]` or None, and which rows of the frame they are.

        In training, rows with missing values are left out where they are to be dropped.

        Raises: ValueError for other columns, values that a column cannot have, and missing ones, by name.
        """
        frame = frames.read(frame)
        frames.check_columns(frame, [column.name for column in self.columns])
        kept = np.ones(len(frame), bool)
        if self.missing == "drop" and training:
            kept = ~frame[[column.name for column in self.columns]].isna().to_numpy().any(1)
            if not kept.any():
                raise ValueError(f"Expected rows without missing values. Received: {len(frame)} rows, all with some")
            frame = frame[kept]
        encoded = {column.name: self._encoded(column, frame[column.name]) for column in self.columns}
        context = self.features(encoded) if self.context else None
        return self.rows(encoded), context, np.flatnonzero(kept)

    def encode_context(self, frame):
        """The context `[n, C]` of a frame that has the context columns, and perhaps others."""
        frame = frames.read(frame)
        frames.check_columns(frame, self.context, others=True)
        return self.features(
            {column.name: self._encoded(column, frame[column.name]) for column in self.context_columns}
        )

    def _encoded(self, column, series):
        """The outcomes and numbers of a column of a frame, checked."""
        outcome, y = column.encode(tf.constant(frames.to_values(series, column)))
        wrong = np.flatnonzero(outcome.numpy() < 0)
        if len(wrong):
            frames.refuse_values(series, column, wrong)
        return outcome, y

    def decode(self, rows, context_frame=None):
        """A frame of rows `[n, D]`, with the columns of the context as they are given."""
        decoded = self.values(tf.cast(rows, tf.float64))
        series = {}
        for column in self.columns:
            if column.name in self.context:
                series[column.name] = context_frame[column.name].reset_index(drop=True)
            else:
                series[column.name] = frames.to_series(decoded[column.name].numpy(), column)
        return frames.from_series(series)

    # Tensors, for frames and for what is served

    def rows(self, encoded):
        """Rows `[n, D]` float64 from the outcomes and numbers of all columns."""
        layout = self.layout
        parts = [tf.cast(encoded[column.name][0], tf.float64) for column in layout.discrete]
        parts += [encoded[column.name][1] for column in (*layout.angles, *layout.numbers, *layout.partial)]
        return tf.stack(parts, -1)

    def features(self, encoded):
        """The context `[n, C]` float64 from the outcomes and numbers of its columns."""
        return tf.concat([column.features(*encoded[column.name]) for column in self.context_columns], -1)

    def values(self, rows):
        """The values of all modelled columns, by name, from rows `[n, D]` float64."""
        layout = self.layout
        outcomes = {column.name: rows[:, k] for k, column in enumerate(layout.discrete)}
        with_numbers = (*layout.angles, *layout.numbers, *layout.partial)
        numbers = {column.name: rows[:, k] for k, column in enumerate(with_numbers, start=len(layout.discrete))}
        zeros = tf.zeros_like(rows[:, 0])
        return {
            column.name: column.decode(outcomes.get(column.name, zeros), numbers.get(column.name, zeros))
            for column in self.modelled_columns
        }

    def table(self):
        """What each column is, as a frame for people."""
        return frames.summary(self)
