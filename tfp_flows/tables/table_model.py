"""TableModel: a table in, the density of its rows out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows import flows
from tfp_flows._arguments import check_one_of, check_positive_integers, draw_seed, split_seed
from tfp_flows._types import Array, DType, Metrics, Table
from tfp_flows.distributions import Categories, Partial
from tfp_flows.model import FlowModel
from tfp_flows.tables import export, frames
from tfp_flows.tables.kinds import column_of
from tfp_flows.tables.rows import Rows
from tfp_flows.tables.schema import Schema

if TYPE_CHECKING:
    import pandas


class TableModel:
    """The density of the rows of a table with columns of every kind: fitted, scored, sampled, saved and served.

    What each column is is found, or stated: `model.columns` shows it. A column is a mixture of atoms, which have
    probabilities, and a continuum, which has a density:

    - unbounded: standardized; positive: of its logarithm, or by a softplus, whichever is less skewed; bounded: by a
      logit, of bounds that are given, or learned with a margin; periodic: an angle; date-time: since the first.
    - integers and other rounded numbers: up to 64 values have a probability each, more are dequantized: the
      probability of a value is that of its cell, and `log_prob` a lower bound of its logarithm.
    - category, with a probability each, of strings, booleans and pandas categoricals; constant: kept aside.
    - mixture: values that occur often, as 0 in a rainfall, have a probability, the others a density.
    - text, identifiers and row numbers are refused.

    log p(row) is log P(outcomes) + log p(numbers | outcomes), in nats and in the units of the table; see
    `tfp_flows.tables.rows.Rows`. Outcomes are which atom a column has, if any, by an exact autoregressive network of
    categories; numbers go through a flow that is conditioned on them.

    Tables are pandas frames, what has `to_pandas` (polars, pyarrow), structured arrays, dictionaries of columns, and
    paths of CSV and Parquet files. Samples are pandas frames with the columns, the order and the dtypes of the table.

    `TableModel.from_data` makes one; attributes:
      flow_model: the `FlowModel` inside, whose distribution is a `Rows`.
      schema: the columns.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> random = np.random.default_rng(0)
    >>> table = {"size": random.lognormal(size=200), "kind": random.choice(["a", "b"], 200)}
    >>> model = tff.TableModel.from_data(table, num_layers=1, seed=0)
    >>> history = model.fit(table, epochs=1, verbose=0)
    >>> model.sample(3, seed=1).columns.tolist()
    ['size', 'kind']
    """

    def __init__(self, flow_model: FlowModel) -> None:
        if not isinstance(getattr(flow_model, "distribution", None), Rows):
            raise ValueError(f"Expected a model of a table, as `TableModel.save` writes it. Received: {flow_model}")
        self.flow_model = flow_model
        self.schema = flow_model.distribution.schema

    @classmethod
    def from_data(
        cls,
        frame: Table,
        flow: str = "neural_spline_autoregressive",
        context_columns: Sequence[str] | None = None,
        bounds: Mapping[str, tuple] | None = None,
        kinds: Mapping[str, str] | None = None,
        missing: str = "raise",
        *,
        hidden_units: Sequence[int] | None = None,
        dtype: DType = tf.float32,
        seed: int | None = None,
        **options: Any,
    ) -> TableModel:
        """A new model for a table, with what each column is found from it; `fit` trains it.

        Arguments:
          frame: the table, see the class.
          flow: of the numbers: the name of a function of `tff.flows` for vectors.
          context_columns: the names of columns that are given and not modelled; None for none.
          bounds: (low, high) by column, either of them None for none; of a periodic column, the ends of a period.
          kinds: by column "unbounded", "positive", "bounded", "periodic", "integer", "category", "constant" or
            "date-time", where it is not to be found.
          missing: what happens to missing values: "raise", "drop" their rows in training, or "model" them, each with
            its probability.
          hidden_units: of all networks; None for two layers of 64 units, or more for many columns.
          dtype: of the densities; values are brought near to zero in float64 before.
          seed: an integer that fixes every weight; drawn if None.
          **options: of the flow, where a column needs it: `num_layers` and the like. The `bound` of splines is 5.0
            unless it is given.

        Raises: ValueError or TypeError that names the column, for what no model can be made of.
        """
        frame = frames.read(frame)
        context, kinds, bounds = list(context_columns or ()), dict(kinds or {}), dict(bounds or {})
        check_one_of(("raise", "drop", "model"), missing=missing)
        for argument, names in (("context_columns", context), ("kinds", kinds), ("bounds", bounds)):
            unknown = [name for name in names if name not in frame.columns]
            if unknown:
                raise ValueError(
                    f"Expected `{argument}` to name columns of the table: {', '.join(map(str, frame.columns[:20]))}. "
                    f"Received: {', '.join(map(repr, unknown))}"
                )
        if missing == "drop":
            frame = frame.dropna()
        if len(frame) < 2:
            raise ValueError(f"Expected a table of at least two rows. Received: {len(frame)}")
        columns = [column_of(frame[name], kinds.get(name), bounds.get(name), missing) for name in frame.columns]
        schema = Schema(columns, context, missing)
        rows = _rows(schema, flow, hidden_units, tf.as_dtype(dtype), draw_seed(seed), options)
        return cls(FlowModel(rows, name="table"))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training, as `FlowModel.compile` does; without it `fit` trains with its defaults."""
        self.flow_model.compile(*args, **kwargs)

    def fit(
        self,
        frame: Table,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_split: float = 0.1,
        validation_data: Table | None = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        sample_weight: Array | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains on a table, as `FlowModel.fit` does.

        By default a tenth of the rows, drawn at random, is held out; the learning rate is halved when their likelihood
        has not improved for 5 epochs, training ends when it has not for 15, and the best weights are kept.

        Arguments: those of `keras.Model.fit`; and
          epochs: None for at most 20,000 steps, between 10 and 200 epochs.
          batch_size: None for 256, or 1024 from 50,000 rows.
          validation_data: a table.
          callbacks: in place of those for the above.
          sample_weight: a weight for every row.
          seed: of which rows are held out.

        Returns: a `keras.callbacks.History`.
        """
        rows, context, kept = self.schema.encode(frame, training=True)
        order = np.random.default_rng(seed).permutation(len(kept))
        rows, context = self._cast(rows, order), self._cast(context, order)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)[kept][order]
        if validation_data is not None:
            held_out, held_out_context, _ = self.schema.encode(validation_data, training=True)
            held_out = self._cast(held_out)
            validation_data = held_out if context is None else (self._cast(held_out_context), held_out)
            validation_split = 0.0
        batch_size = batch_size or (256 if len(order) < 50_000 else 1024)
        if epochs is None:
            epochs = int(np.clip(20_000 // math.ceil(len(order) / batch_size), 10, 200))
        if callbacks is None and (validation_split or validation_data is not None):
            callbacks = [
                keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=5),
                keras.callbacks.EarlyStopping(patience=15, restore_best_weights=True),
            ]
        return self.flow_model.fit(
            rows,
            context=context,
            epochs=epochs,
            batch_size=batch_size,
            validation_split=validation_split,
            validation_data=validation_data,
            callbacks=callbacks,
            sample_weight=sample_weight,
            **kwargs,
        )

    def log_prob(self, frame: Table, batch_size: int = 4096) -> np.ndarray:
        """log p of every row, given its context columns if there are some, in nats and units of the table: `[n]`.

        A Parquet file is read piece by piece, so that it may be larger than memory.

        Raises: ValueError for other columns, values that a column cannot have, and missing ones that are not modelled.
        """
        parts = []
        for piece in frames.pieces(frame):
            rows, context, _ = self.schema.encode(piece)
            rows, context = self._cast(rows), self._cast(context)
            for k in range(0, len(rows), batch_size):
                known = None if context is None else context[k : k + batch_size]
                parts.append(self.flow_model.log_prob(rows[k : k + batch_size], known).numpy())
        return np.concatenate(parts)

    def sample(self, n: int | Table, seed: int | None = None, batch_size: int = 4096) -> pandas.DataFrame:
        """A frame of n rows drawn from the model, or of one for every row of a table with the context columns.

        Arguments:
          n: the number of rows; or, and only where there are context columns, a table that has them.
          seed: an integer: the same gives the same sample. None draws one.
        """
        seed = draw_seed(seed)
        if not self.schema.context:
            check_positive_integers(n=n)
            sizes = [min(batch_size, n - k) for k in range(0, n, batch_size)]
            parts = [self.flow_model.sample(size, seed=(seed, k)) for k, size in enumerate(sizes)]
            return self.schema.decode(tf.concat(parts, 0))
        frame = frames.read(n)
        context = self._cast(self.schema.encode_context(frame))
        starts = range(0, len(context), batch_size)
        parts = [
            self.flow_model.sample(1, context[k : k + batch_size], seed=(seed, number))[0]
            for number, k in enumerate(starts)
        ]
        return self.schema.decode(tf.concat(parts, 0), frame)

    def evaluate(self, frame: Table, **kwargs: Any) -> Metrics:
        """The mean negative log-likelihood of a table, in nats, and the metrics of `compile`: see `FlowModel`."""
        rows, context, _ = self.schema.encode(frame, training=True)
        return self.flow_model.evaluate(self._cast(rows), context=self._cast(context), **{"verbose": 0, **kwargs})

    @property
    def columns(self) -> pandas.DataFrame:
        """What each column is, as a frame: its kind, its values, and what was done to them."""
        return self.schema.table()

    def save(self, path: str | os.PathLike, **kwargs: Any) -> None:
        """Writes a `.keras` file, columns and all; `TableModel.load` reads it. See `FlowModel.save`."""
        self.flow_model.save(path, **kwargs)

    def export(self, path: str | os.PathLike) -> None:
        """Writes a SavedModel with an input for every column; see `tfp_flows.tables.export`."""
        export.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> TableModel:
        """The model that `save` wrote.

        Raises: ValueError for a file that is none, and for one of a later version.
        """
        try:
            model = keras.saving.load_model(path)
        except (OSError, KeyError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()
            raise ValueError(
                f"Expected a file that `TableModel.save` wrote: {reason[0] if reason else 'it is none'}. "
                f"Received: {path}"
            ) from error
        return cls(model)

    def _cast(self, array, order=None):
        """Rows or contexts as the flow takes them, in an order."""
        if array is None:
            return None
        array = np.asarray(array, self.flow_model.precision)
        return array if order is None else array[order]


def _rows(schema, flow, hidden_units, dtype, seed, options):
    """The distribution of rows, new: of the parts that the columns need, each with what comes before as its context."""
    layout = schema.layout
    if not any(layout):
        names = [column.name for column in schema.modelled_columns]
        raise ValueError(f"Expected a column that varies, to be modelled. Received: {names}, none of which does")
    widest = max(len(layout.discrete), len(layout.numbers), len(layout.partial))
    hidden_units = hidden_units or (max(64, 2 * widest),) * 2
    seeds = split_seed(seed, 4)
    size, parts = schema.context_size, {}
    shared = {"hidden_units": hidden_units, "dtype": dtype}
    if layout.discrete:
        parts["categories"] = Categories(
            [column.num_outcomes for column in layout.discrete],
            size,
            [column.frequencies for column in layout.discrete],
            seed=seeds[0],
            **shared,
        )
        size += Rows.outcome_features_size(layout)
    if layout.angles:
        parts["angles"] = flows.torus(
            len(layout.angles), num_layers=2, context_size=size, standardize=False, seed=seeds[1], **shared
        )
        size += 2 * len(layout.angles)
    make = getattr(flows, flow, None) if isinstance(flow, str) else flow
    if not callable(make):
        raise ValueError(f"Expected `flow` to be the name of a function of `tff.flows`. Received: flow={flow!r}")
    if layout.numbers:
        # Columns have longer tails than the events that the default of the splines serves best.
        wide = {"bound": 5.0} if flow in ("neural_spline_coupling", "neural_spline_autoregressive") else {}
        options = {**shared, **wide, **options, "standardize": False}
        parts["flow"] = make(len(layout.numbers), context_size=size, seed=seeds[2], **options)
        size += len(layout.numbers)
    if layout.partial:
        parts["partial"] = Partial(len(layout.partial), size, seed=seeds[3], **shared)
    return Rows(schema, **parts, dtype=dtype)
