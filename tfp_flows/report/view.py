"""A model as a report sees it: a table of rows in, log-densities and a table of draws out."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfp_flows import inference
from tfp_flows.inference._flow import as_model
from tfp_flows.report.baselines import Marginal
from tfp_flows.tables import TableModel, frames

# Contexts of more columns, images say, are left out of classifier and baselines.
MOST_CONTEXT_COLUMNS = 50


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a table: events and their contexts.

    Attributes:
      events: a frame, one column per coordinate.
      contexts: a frame of as many rows, without columns where there is no context.
      raw: contexts as the model takes them; None where there are none.
    """

    events: object
    contexts: object
    raw: object = None

    def __len__(self):
        return len(self.events)

    def take(self, index):
        """The rows of these numbers."""
        raw = None if self.raw is None else tf.nest.map_structure(lambda leaf: leaf[index], self.raw)
        return Rows(self.events.iloc[index], self.contexts.iloc[index], raw)

    def joined(self, events=None):
        """Contexts and events, or other events for the same contexts, side by side."""
        import pandas as pd

        events = (self.events if events is None else events).reset_index(drop=True)
        return pd.concat([self.contexts.reset_index(drop=True), events], axis=1)


class FlowView:
    """A `FlowModel` whose events are one tensor.

    Arguments:
      model: a `FlowModel`.
      columns: the names of the coordinates; None for those of a frame, or x0, x1, ...
    """

    description = None  # of what was done to each column: a flow takes numbers as they are

    def __init__(self, model, columns=None):
        self.model, self.columns = model, columns

    def rows(self, x, context=None, what="held-out rows"):
        """Checked `Rows`.

        Raises: TypeError or ValueError as `FlowModel.fit`.
        """
        import pandas as pd

        model = self.model
        if tf.nest.is_nested(model.distribution.dtype):
            raise TypeError(
                f"Expected a flow whose events are one tensor. Received: events of dtypes {model.distribution.dtype}"
            )
        if model.is_conditional and context is None:
            raise ValueError(
                f"Expected contexts for the {what}, since the flow takes a context. Received: context=None"
            )
        if not model.is_conditional and context is not None:
            raise ValueError(f"Expected no context, since the flow takes none. Received: context={type(context)}")
        names = list(map(str, getattr(x, "columns", ())))
        raw, array, _ = model.data_spec.arrays(context, x, what=what)
        flat = array.reshape(len(array), -1)
        names = self.columns or names or [f"x{k}" for k in range(flat.shape[1])]
        if len(names) != flat.shape[1]:
            raise ValueError(f"Expected {flat.shape[1]} names of columns. Received: {len(names)}, {names[:5]}")
        self.columns = list(names)
        return Rows(pd.DataFrame(flat, columns=self.columns), self._contexts(context, raw, len(array)), raw)

    def _contexts(self, context, raw, n):
        import pandas as pd

        parts = [np.asarray(leaf).reshape(n, -1) for leaf in tf.nest.flatten(raw) if leaf is not None]
        width = sum(part.shape[1] for part in parts)
        if not 0 < width <= MOST_CONTEXT_COLUMNS:
            return pd.DataFrame(index=range(n))
        names = list(map(str, getattr(context, "columns", ())))
        names = names if len(names) == width else [f"context {k}" for k in range(width)]
        return pd.DataFrame(np.concatenate(parts, 1), columns=names)

    def events(self, rows):
        """The events as the flow takes them."""
        distribution = self.model.distribution
        shape = [len(rows), *distribution.event_shape]
        return rows.events.to_numpy().reshape(shape).astype(distribution.dtype.as_numpy_dtype)

    def log_prob(self, rows):
        """log p of each row, in nats, `[n]` float64."""
        return np.asarray(self.model.log_prob(self.events(rows), rows.raw), np.float64)

    def sample(self, rows, seed):
        """A frame of one draw for the context of each row."""
        import pandas as pd

        n = len(rows)
        x = self.model.sample(n, seed=seed) if rows.raw is None else self.model.sample(1, rows.raw, seed=seed)[0]
        return pd.DataFrame(np.asarray(x).reshape(n, -1), columns=self.columns)

    def coverage(self, rows):
        """The coverage of balls in the base's space; None where the base is no standard normal, or there is none."""
        try:
            return inference.coverage(self.model, self.events(rows), rows.raw)
        except (TypeError, ValueError):
            return None

    def is_category(self, name):
        """Whether a column holds categories."""
        return False

    def marginal(self, name, values, is_category):
        """The `Marginal` of a column in training: of probabilities if the model has those, of densities otherwise."""
        return Marginal(values, is_discrete=not self.model.distribution.dtype.is_floating)


class TableView:
    """A `TableModel`."""

    def __init__(self, model):
        self.model = model
        self.columns = [column.name for column in model.schema.modelled_columns]
        self._by_name = {column.name: column for column in model.schema.columns}

    @property
    def description(self):
        """What was done to each column."""
        return self.model.columns.rename_axis("column").reset_index().astype(str).to_dict("records")

    def rows(self, frame, context=None, what="held-out rows"):
        """Checked `Rows`; where missing values are to be dropped, those without."""
        if context is not None:
            raise ValueError(f"Expected no contexts beside a table: they are columns of it. Received: {type(context)}")
        schema = self.model.schema
        frame = frames.read(frame)
        frames.check_columns(frame, list(self._by_name))
        if schema.missing == "drop":
            frame = frame.dropna(subset=list(self._by_name))
        frame = frame.reset_index(drop=True)
        if not len(frame):
            raise ValueError(f"Expected {what} without missing values. Received: none")
        given = frame[list(schema.context)]
        if schema.context:
            schema.encode_context(given)  # which refuses a context that the model does not know
        return Rows(frame[self.columns], given)

    def log_prob(self, rows):
        """log p of each row, `[n]` float64; -inf for values that the model calls impossible, as unseen categories."""
        table, possible = rows.joined(), np.ones(len(rows), bool)
        for name in self.columns:
            outcome, _ = self._by_name[name].encode(tf.constant(frames.to_values(table[name], self._by_name[name])))
            possible &= outcome.numpy() >= 0
        found = np.full(len(rows), -np.inf)
        if possible.any():
            found[possible] = self.model.log_prob(table[possible])
        return found

    def sample(self, rows, seed):
        drawn = self.model.sample(rows.contexts if self.model.schema.context else len(rows), seed=seed)
        return drawn[self.columns]

    def coverage(self, rows):
        """None: with outcomes beside numbers there is no base whose balls have known probabilities."""

    def is_category(self, name):
        return self._by_name[name].labels is not None

    def marginal(self, name, values, is_category):
        column = self._by_name[name]
        if column.continuum is None:
            return Marginal(values, is_discrete=True)
        per_value = 1.0
        if column.ticks:  # the values are days here, whatever the ticks are
            per_value = 86400 * frames.TICKS[frames.unit_of(column)] / column.ticks
        return Marginal(values, atoms=column.atoms, unit=per_value / (column.continuum.step or 1.0))


def view_of(model, columns=None):
    """The view of a `FlowModel` or a `TableModel`."""
    if not isinstance(model, TableModel):
        return FlowView(as_model(model), columns)
    if columns is not None:
        raise ValueError(f"Expected no names of columns, since the table has its own. Received: columns={columns!r}")
    return TableView(model)
