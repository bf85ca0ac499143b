"""SavedModels of a TableModel: an input and an output for every column, for processes that have only TensorFlow."""

import json
import math
import pathlib
import re

import tensorflow as tf

from tfp_flows.model.export import drawn
from tfp_flows.tracking import weights_of

MISSING = "<missing>"  # what stands for a missing label


def write(model, path):
    """Writes `log_prob` and `sample` of a TableModel as functions and, under the same names, as signatures.

    `log_prob` takes every column `[n]` by its name, with "_" for what a name in TensorFlow cannot have: numbers as
    float64, labels as strings (or as float64 or bool, where they are such), date-times as int64 ticks since 1970 in the
    unit of the table. It gives {"log_prob": `[n]`}. A row that the model says is impossible, for an unseen label or a
    value beyond its bounds, gets -inf.
    `sample` takes `n` and `seed`, or the context columns and `seed`, and gives every modelled column.

    Missing values that are modelled are NaN, "<missing>", and the smallest integer of 64 bits. What the columns are,
    with the names of their inputs, stands in `assets.extra/columns.json`.
    """
    schema, flow_model = model.schema, model.flow_model
    names = input_names(schema)
    module = tf.Module()
    module.model_variables = [weight for part in flow_model.parts for weight in weights_of(part)]

    def encoded(columns, values):
        pairs = {column.name: column.encode(_as_values(column, values[column.name])) for column in columns}
        possible = tf.reduce_all([outcome >= 0 for outcome, _ in pairs.values()], 0)
        return {name: (tf.maximum(outcome, 0), y) for name, (outcome, y) in pairs.items()}, possible

    def features(pairs):
        return tf.cast(schema.features(pairs), flow_model.precision) if schema.context else None

    @tf.function(input_signature=_specs(schema.columns, names), autograph=False)
    def log_prob(*values):
        pairs, possible = encoded(schema.columns, _by_name(schema.columns, values))
        rows = tf.cast(schema.rows(pairs), flow_model.precision)
        result = flow_model.log_prob(rows, features(pairs))
        return {"log_prob": tf.where(possible, result, tf.constant(-math.inf, result.dtype))}

    count = [] if schema.context else [tf.TensorSpec([], tf.int32, name="n")]
    seed_spec = tf.TensorSpec([], tf.int32, name="seed")

    @tf.function(input_signature=[*count, *_specs(schema.context_columns, names), seed_spec], autograph=False)
    def sample(*arguments):
        *given, seed = arguments
        if schema.context:
            pairs, _ = encoded(schema.context_columns, _by_name(schema.context_columns, given))
            rows = flow_model.sample(1, features(pairs), seed=drawn(seed))[0]
        else:
            rows = flow_model.sample(given[0], seed=drawn(seed))
        values = schema.values(tf.cast(rows, tf.float64))
        return {names[column.name]: _as_served(column, values[column.name]) for column in schema.modelled_columns}

    module.log_prob, module.sample = log_prob, sample
    # Gradients, which take as long to write as all the rest, have no use where rows are scored and drawn.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, path, signatures={"log_prob": log_prob, "sample": sample}, options=options)
    folder = pathlib.Path(path) / "assets.extra"
    folder.mkdir(exist_ok=True)
    described = {**schema.get_config(), "inputs": names}
    (folder / "columns.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def input_names(schema):
    """The name of every column's input in a SavedModel: its own, as far as TensorFlow allows, and each once."""
    names, taken = {}, {"n", "seed", "log_prob"}
    for column in schema.columns:
        name = re.sub(r"\W", "_", column.name, flags=re.ASCII).lstrip("_") or "column"
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        names[column.name] = name
    return names


def _label_dtype(column):
    return {str: tf.string, bool: tf.bool}.get(type(column.labels[0]), tf.float64)


def _specs(columns, names):
    return [tf.TensorSpec([None], _served_dtype(column), name=names[column.name]) for column in columns]


def _served_dtype(column):
    if column.labels is not None:
        return tf.string if len({type(label) for label in column.labels}) > 1 else _label_dtype(column)
    return tf.int64 if column.ticks else tf.float64


def _by_name(columns, values):
    return {column.name: value for column, value in zip(columns, values, strict=True)}


def _as_values(column, served):
    """Values as `Column.encode` takes them: for labels their positions."""
    if column.labels is None:
        return served
    is_label = served[:, tf.newaxis] == _labels(column)
    place = tf.cast(tf.argmax(is_label, 1), tf.float64)
    place = tf.where(tf.reduce_any(is_label, 1), place, -tf.ones_like(place))
    if served.dtype == tf.string:
        return tf.where(served == MISSING, tf.constant(math.nan, tf.float64), place)
    if served.dtype == tf.float64:
        return tf.where(tf.math.is_nan(served), served, place)
    return place


def _as_served(column, values):
    if column.labels is None:
        return values
    labels = _labels(column)
    missing = {tf.string: MISSING, tf.bool: False}.get(labels.dtype, math.nan)
    place = tf.where(tf.math.is_nan(values), tf.cast(len(column.labels), tf.float64), values)
    return tf.gather(tf.concat([labels, tf.constant([missing], labels.dtype)], 0), tf.cast(place, tf.int32))


def _labels(column):
    dtype = _served_dtype(column)
    return tf.constant([str(label) if dtype == tf.string else label for label in column.labels], dtype)
