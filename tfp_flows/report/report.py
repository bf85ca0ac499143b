"""tff.report: everything that says whether a model can be trusted, on one page."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from tfp_flows import inference
from tfp_flows._arguments import check_positive_integers, draw_seed, split_seed
from tfp_flows._files import written_whole
from tfp_flows._types import Context, Structure, Table
from tfp_flows.model import FlowModel
from tfp_flows.report import baselines, checks, pictures
from tfp_flows.report.encoding import Encoder
from tfp_flows.report.page import page
from tfp_flows.report.verdict import verdict
from tfp_flows.report.view import view_of
from tfp_flows.tables import TableModel

MOST_MARGINALS, MOST_IN_CORNER = 24, 5


@dataclasses.dataclass(frozen=True)
class Report:
    """What a report has found.

    Attributes:
      path: of the HTML file; report.json lies beside it under the same name.
      numbers: what is in the JSON file.
    """

    path: pathlib.Path
    numbers: dict

    @property
    def verdict(self) -> list[str]:
        """Three sentences: of the densities, of the draws, and of where not to trust the model."""
        return [part["sentence"] for part in self.numbers["verdict"]]

    def __str__(self):
        return "\n".join(self.verdict)


def report(
    model: FlowModel | TableModel,
    held_out: Structure | Table,
    context: Context | None = None,
    *,
    path: str | os.PathLike = "report.html",
    training: Structure | Table | None = None,
    training_context: Context | None = None,
    new: Structure | Table | None = None,
    new_context: Context | None = None,
    history: keras.callbacks.History | None = None,
    columns: Sequence[str] | None = None,
    title: str | None = None,
    max_rows: int = 5000,
    seed: int | None = 0,
) -> Report:
    """Writes one HTML file, and a JSON file of its numbers, that say whether a model can be trusted and where not.

    It measures: the log-likelihood of held-out rows with its standard error, against a Gaussian, independent columns
    and a tree of pairs; coverage; a classifier's success in telling draws from data; every column, correlation and
    pairwise dependence of draws beside the data's; whether draws copy training rows; the rows scored worst; the drift
    of a new table. Three sentences at the top are the verdict; their rules stand in `tfp_flows.report.verdict`.

    Shapes: held_out `[n, D]`, context `[n, C]`; events of other shapes are taken flat.

    Arguments:
      model: a `FlowModel` whose events are one tensor, or a `TableModel`.
      held_out: rows that the model was not trained on.
      context: what `FlowModel.fit` takes as contexts, for each row; of a table the frames have them.
      path: of the HTML file; the JSON file gets the same name.
      training, training_context: the rows it was trained on: for the simple models, and to tell whether draws copy
        them. Without them the simple models are fitted to one half of the held-out rows and score the other.
      new, new_context: another table, whose drift is to be told.
      history: what `fit` has returned; None for the model's last one.
      columns: the names of the coordinates; None for those of a frame, or x0, x1, ...
      title: of the page.
      max_rows: of held-out rows to look at, drawn at random, and of as many draws.
      seed: of all that is random.

    Returns: a `Report`; print it for the verdict.

    Raises: TypeError or ValueError for data that the model does not take; ImportError where pandas, scikit-learn,
      matplotlib or corner is not installed; OSError where the file cannot be written.

    Example: a Gaussian too narrow.

    >>> import tempfile, numpy as np, tfp_flows as tff
    >>> x = 1.5 * np.random.default_rng(0).normal(size=[500, 2])
    >>> model = tff.FlowModel(tff.flows.gaussian(2, "unit"))
    >>> found = tff.report(model, x, path=tempfile.mkdtemp() + "/report.html")
    >>> found.numbers["coverage"]["inside"], found.numbers["verdict"][0]["grade"]
    (False, 'bad')
    """
    check_positive_integers(max_rows=max_rows)
    path = pathlib.Path(path)
    view = view_of(model, columns)
    given = view.rows(held_out, context)
    if len(given) < 20:
        raise ValueError(f"Expected at least 20 held-out rows. Received: {len(given)}")
    train = None if training is None else view.rows(training, training_context, "training rows")
    fresh = None if new is None else view.rows(new, new_context, "new rows")
    seeds = split_seed(draw_seed(seed), 6)
    chosen = np.sort(np.random.default_rng(seeds[0]).permutation(len(given))[:max_rows])
    numbers, images = _measured(view, given.take(chosen), train, fresh, seeds)
    for row in numbers["worst"]:
        row["row"] = int(chosen[row["row"]])
    numbers = {
        "title": title or f"Report on {getattr(model, 'name', 'a model')}",
        "seed": seed,
        "held_out": {"rows": len(given), "used": len(chosen)},
        **numbers,
        "description": view.description,
    }
    numbers["verdict"] = verdict(numbers)
    history = history if history is not None else getattr(model, "history", None)
    history = getattr(history, "history", history)
    if isinstance(history, dict) and history.get("loss"):
        images["curves"] = pictures.curves(history)
        numbers["history"] = {name: list(map(float, values)) for name, values in history.items()}
    numbers = _plain(numbers)
    text = page(numbers, images)
    with written_whole(path.with_suffix(".json")) as file:
        file.write_text(json.dumps(numbers, indent=1, allow_nan=False), encoding="utf-8")
    with written_whole(path) as file:
        file.write_text(text, encoding="utf-8")
    return Report(path, numbers)


def _measured(view, rows, train, fresh, seeds):
    """All numbers of held-out rows, and the pictures that go with them."""
    log_prob = view.log_prob(rows)
    drawn = view.sample(rows, seeds[1])
    tables = [part.joined() for part in (rows, train, fresh) if part is not None]
    encode = Encoder([*tables, rows.joined(drawn)], [name for name in view.columns if view.is_category(name)])
    real, fake = encode(rows.joined()), encode(rows.joined(drawn))
    num_contexts = rows.contexts.shape[1]
    names, is_category = encode.names, encode.is_category

    def parts(table):
        return table[:, :num_contexts], table[:, num_contexts:]

    def marginal(values, k):
        return view.marginal(view.columns[k], values, is_category[num_contexts + k])

    finite = np.isfinite(log_prob)
    training = None if train is None else encode(train.joined())
    fitted = None if training is None else parts(training)
    independent = baselines.Independent(*(fitted or parts(real)), marginal)
    found = _coverage(view, rows, log_prob, seeds[2])
    reference = real if training is None else training
    columns = checks.compare_columns(
        parts(real)[1], parts(fake)[1], names[num_contexts:], is_category[num_contexts:], parts(reference)[1]
    )
    numbers = {
        "log_likelihood": {
            "mean": _mean(log_prob[finite]),
            "standard_error": float(log_prob[finite].std() / math.sqrt(max(1, finite.sum()))),
            "rows_without_density": int((~finite).sum()),
        },
        "baselines": baselines.compare(log_prob, fitted, parts(real), marginal),
        "baselines_fitted_to": "one half of these rows, and score the other" if fitted is None else "the training rows",
        "coverage": found[1],
        "classifier": checks.classifier_test(real, fake, names, is_category, seeds[3]),
        "columns": columns,
        "noise": checks.expected_distance(len(real), len(fake)),
        "correlations": checks.correlations(real, fake, names, is_category),
        "dependence": checks.dependence(real, fake, names, is_category),
        "nearest": None if training is None else checks.nearest(training, real, fake, is_category),
        "worst": checks.worst_rows(log_prob, parts(real)[1], independent.per_column(parts(real)[1]), view.columns),
        "drift": None,
    }
    values = rows.joined()
    for column in numbers["columns"]:
        column["is_date"] = column["name"] in encode.dates
    for row in numbers["worst"]:
        row["values"] = {name: _cell(values[name].iloc[row["row"]]) for name in values.columns}
    if fresh is not None:
        numbers["drift"] = checks.drift(reference, encode(fresh.joined()), names, is_category, seeds[4])
        numbers["drift"]["log_likelihood"] = _mean(view.log_prob(fresh))
    return numbers, _pictures(numbers, found[0], parts(real)[1], parts(fake)[1], encode, num_contexts)


def _coverage(view, rows, log_prob, seed):
    """The `Coverage`, and its numbers."""
    found, regions = view.coverage(rows), "balls around 0 in the base's space, mapped by the flow"
    if found is None:
        found, regions = _density_coverage(view, rows, log_prob, seed), "regions of highest density"
    excess = found.observed - found.nominal
    return found, {
        "regions": regions,
        "inside": found.inside,
        "confidence": found.confidence,
        "nominal": found.nominal.tolist(),
        "observed": found.observed.tolist(),
        "lower": found.lower.tolist(),
        "upper": found.upper.tolist(),
        "largest_excess": float(excess[np.argmax(np.abs(excess))]),
    }


def _density_coverage(view, rows, log_prob, seed, num_rows=500, num_draws=49):
    """Coverage of regions of highest density: how many draws for a row's context are denser than the row itself."""
    num_rows = min(num_rows, len(rows))
    again = rows.take(np.repeat(np.arange(num_rows), num_draws))
    drawn = view.sample(again, seed)
    of_draws = view.log_prob(dataclasses.replace(again, events=drawn)).reshape(num_rows, num_draws)
    own = log_prob[:num_rows, np.newaxis]
    rng = np.random.default_rng(seed)
    ranks = np.sum(of_draws > own, 1) + rng.integers(0, np.sum(of_draws == own, 1), endpoint=True)
    return inference.Ranks(ranks[:, np.newaxis], num_draws).coverage(0)


def _pictures(numbers, coverage, real, fake, encode, num_contexts):
    names, is_category = encode.names[num_contexts:], encode.is_category[num_contexts:]
    order = np.argsort([-column["distance"] for column in numbers["columns"]])
    shown = sorted(order[:MOST_MARGINALS])
    images = {
        "coverage": pictures.coverage(coverage),
        "marginals": [
            (
                names[k],
                pictures.marginal(
                    real[:, k], fake[:, k], names[k], encode.categories.get(names[k]), names[k] in encode.dates
                ),
            )
            for k in shown
        ],
    }
    # Columns with a density of their own, those that differ most first.
    smooth = [
        k for k in order if not is_category[k] and len(np.unique(real[:, k])) > 12 and np.isfinite(fake[:, k]).all()
    ]
    smooth = sorted([k for k in smooth if np.isfinite(real[:, k]).all()][:MOST_IN_CORNER])
    if len(smooth) > 1:
        images["corner"] = pictures.corner(real[:, smooth], fake[:, smooth], [names[k] for k in smooth])
    correlations = numbers["correlations"]
    if len(correlations["names"]) > 1:
        images["matrices"] = pictures.matrices((correlations["data"], correlations["drawn"]), correlations["names"])
    return images


def _mean(values):
    values = np.asarray(values)[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _cell(value):
    """A frame's cell as JSON has it."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    return str(value)


def _plain(value):
    """Numbers as JSON has them: arrays as lists, None for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
