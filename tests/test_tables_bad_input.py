"""What bad tables get: one line that names the column or the file, and what came."""

import json
import re
import zipfile

import numpy as np
import pytest

import tfp_flows as tff

pd = pytest.importorskip("pandas")
N = 60


def table():
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": random.lognormal(size=N),
            "kind": random.choice(["a", "b"], N),
            "count": random.poisson(2.0, N),
            "share": random.random(N),
        }
    )


def from_data(frame, **options):
    return tff.TableModel.from_data(frame, **{"num_layers": 1, "hidden_units": (8,), "seed": 0, **options})


@pytest.fixture(scope="module")
def model():
    return from_data(table(), bounds={"share": (0, 1)})


def one_line(call, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message and "Received: " in message, message


def duplicated():
    frame = table()
    return frame.set_axis(["size", "kind", "size", "share"], axis=1)


BAD_TABLES = {
    "one row": (lambda: table()[:1], "at least two rows. Received: 1"),
    "no row": (lambda: table()[:0], "Received: 0 rows of 4 columns"),
    "no column": (lambda: table()[[]], "of 0 columns"),
    "duplicate names": (duplicated, "Received: 'size' 2 times"),
    "names that are numbers": (lambda: pd.DataFrame(np.zeros([3, 2])), "names are strings. Received: the name 0"),
    "10,000 columns": (
        lambda: pd.DataFrame(np.zeros([3, 10_000])).add_prefix("c"),
        "at most 1000 columns.*Received: 10000 columns",
    ),
    "infinities": (lambda: table().assign(size=np.inf), "'size'. Received: 60 infinite, the first in row 0"),
    "missing values": (lambda: table().assign(size=np.r_[[np.nan] * 3, np.ones(N - 3)]), "'size'.*Received: 3 missing"),
    "only missing values": (lambda: table().assign(size=np.nan), "'size'"),
    "text": (
        lambda: table().assign(kind=[f"row {k}" for k in range(N)]),
        "'kind', which .* text .*: 60 different",
    ),
    "row numbers": (lambda: table().assign(count=range(N)), "'count', which looks like a row number..*60 integers"),
    "nothing that varies": (lambda: pd.DataFrame({"x": [1.0] * 9}), "Expected a column that varies.*'x'"),
    "objects": (lambda: table().assign(kind=[(1, 2)] * N), "'kind'. Received: .1, 2."),
    "durations": (lambda: table().assign(size=pd.to_timedelta(range(N), "s")), "'size'; of durations.*timedelta64"),
    "no table": (lambda: 3.0, "Expected a table.*Received: float"),
    "another file": (lambda: "table.xlsx", "of the kind .csv or .parquet. Received: table.xlsx"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name):
    make, words = BAD_TABLES[name]
    one_line(lambda: from_data(make()), words)


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    one_line(lambda: from_data(tmp_path / "empty.csv"), "empty.csv, which is empty")


BAD_OPTIONS = {
    "kind": ({"kinds": {"size": "round"}}, "kind of the column 'size' to be one of .*Received: 'round'"),
    "kind of no column": ({"kinds": {"weight": "positive"}}, "`kinds` to name columns of .* Received: 'weight'"),
    "context of no column": (
        {"context_columns": ["weight"]},
        "`context_columns` to name .* Received: 'weight'",
    ),
    "bounds of labels": ({"bounds": {"kind": (0, 1)}}, "Received: bounds of 'kind'"),
    "bounds of one number": ({"bounds": {"share": (1, 0)}}, r"'share'. Received: \(1, 0\)"),
    "bounds of others": ({"bounds": {"share": (0, 0.5)}}, r"'share' within \(0.0, 0.5\). Received: 0.\d+ in row"),
    "no period": ({"kinds": {"share": "periodic"}}, "the ends of a period of the column 'share'.*bounds=None"),
    "labels as numbers": (
        {"kinds": {"kind": "positive"}},
        "numbers in the column 'kind'. Received: '[ab]' in",
    ),
    "no integers": ({"kinds": {"size": "integer"}}, "Expected integers in the column 'size'"),
    "no constant": ({"kinds": {"count": "constant"}}, "one value in the column 'count'"),
    "no times": ({"kinds": {"size": "date-time"}}, "date-times in the column 'size'. Received: dtype float64"),
    "missing": ({"missing": "guess"}, "`missing` to be one of .*Received: missing='guess'"),
    "flow": ({"flow": "normal"}, "a function of `tff.flows`. Received: flow='normal'"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(name):
    options, words = BAD_OPTIONS[name]
    one_line(lambda: from_data(table(), **options), words)


BAD_ROWS = {
    "no such column": (lambda t: t.drop(columns="size"), "Received: no column 'size'"),
    "another column": (lambda t: t.assign(weight=1.0), "Received: a column 'weight'"),
    "strings for numbers": (
        lambda t: t.assign(size="big"),
        "in the column 'size'. Received: 'big' in row 0, and",
    ),
    "an unseen label": (
        lambda t: t.assign(kind="c"),
        r"'kind' to be among \['a', 'b'\]. Received: 'c' in row 0",
    ),
    "an unseen count": (lambda t: t.assign(count=99), "'count' to be among .*Received: 99"),
    "beyond a bound": (
        lambda t: t.assign(share=1.5),
        "at least 0 and at most 1 in the column 'share'.*: 1.5",
    ),
    "below zero": (lambda t: t.assign(size=-1.0), "at least 0 in the column 'size'. Received: .*-1.0"),
    "infinite": (lambda t: t.assign(size=np.inf), "in the column 'size'. Received: .*inf"),
    "missing": (lambda t: t.assign(size=np.nan), "'size'.*Received: 60 missing"),
    "no row": (lambda t: t[:0], "Received: 0 rows"),
}


@pytest.mark.parametrize("method", ["log_prob", "fit", "evaluate"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows(model, name, method):
    change, words = BAD_ROWS[name]
    one_line(lambda: getattr(model, method)(change(table())), words)


def test_bad_draws(model):
    one_line(lambda: model.sample(0), "Received: n=0")
    conditional = from_data(table(), context_columns=["kind"])
    one_line(lambda: conditional.sample(table()[["size"]]), "no column 'kind'")
    one_line(lambda: conditional.sample(pd.DataFrame({"kind": ["c"]})), "'kind' to be among")


def test_files_that_are_no_model(model, tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    one_line(lambda: tff.TableModel.load(tmp_path / "text.keras"), "Received: .*text.keras")
    one_line(lambda: tff.TableModel.load(tmp_path / "none.keras"), "Received: .*none.keras")
    tff.FlowModel(tff.flows.realnvp(2, num_layers=2)).save(tmp_path / "flow.keras")
    one_line(lambda: tff.TableModel.load(tmp_path / "flow.keras"), "a model of a table")
    model.save(tmp_path / "table.keras")
    with zipfile.ZipFile(tmp_path / "table.keras") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["distribution"]["version"] = 99
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "later.keras", "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    one_line(lambda: tff.TableModel.load(tmp_path / "later.keras"), "version 99.*Received: .*later.keras")
