"""The report: its numbers where they are known, its words, and a page that needs nothing else."""

import html.parser
import json
import re

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows._files import written_whole
from tfp_flows.report import baselines, checks, verdict

UNIT = np.log(2 * np.pi * np.e) / 2  # the entropy of a standard normal coordinate


def normal(n, size, seed, correlation=0.0):
    covariance = np.full([size, size], correlation) + (1 - correlation) * np.eye(size)
    return np.random.default_rng(seed).multivariate_normal(np.zeros(size), covariance, size=n)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """The report on the distribution that the data comes from, with training rows and a table that has drifted."""
    x = normal(3000, 2, 0)
    new = normal(500, 2, 1) + np.array([1.0, 0.0])
    path = tmp_path_factory.mktemp("report") / "right.html"
    model = tff.FlowModel(tff.flows.gaussian(2, "unit"))
    history = {"loss": list(np.linspace(5, 3, 20)), "val_loss": list(np.linspace(5, 3.1, 20))}
    return tff.report(model, x[:1500], training=x[1500:], new=new, history=history, path=path, title="Right <&>")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """The report on an uncorrelated normal, where data is correlated, and one column 0 or 1."""
    x = normal(1500, 3, 0, correlation=0.8)
    frame = pd.DataFrame({"<script>alert(1)</script>": x[:, 0], "$b$": x[:, 1], "flag": (x[:, 2] > 0).astype(float)})
    path = tmp_path_factory.mktemp("report") / "wrong.html"
    return tff.report(tff.FlowModel(tff.flows.gaussian(3, "unit")), frame, path=path)


# Numbers


def test_numbers_of_the_right_density(right):
    numbers = right.numbers
    own = numbers["log_likelihood"]
    np.testing.assert_allclose(own["mean"], -2 * UNIT, atol=4 * own["standard_error"])
    np.testing.assert_allclose(own["standard_error"], 1 / np.sqrt(1500), rtol=0.1)  # |z|²/2 has the variance D/2 = 1
    for baseline in numbers["baselines"]:  # all of them hold the right one
        np.testing.assert_allclose(baseline["log_likelihood"], -2 * UNIT, atol=0.15)
        assert -0.02 < baseline["lead"] < 0.1
    assert numbers["coverage"]["inside"]
    np.testing.assert_allclose(numbers["classifier"]["auc"], 0.5, atol=4 * numbers["classifier"]["standard_error"])
    assert all(column["distance"] < numbers["noise"] for column in numbers["columns"])
    assert abs(numbers["correlations"]["largest"][0]["data"]) < 0.1
    assert abs(numbers["dependence"][0]["drawn"]) < 0.02
    np.testing.assert_allclose(numbers["nearest"]["nearer"], 0.5, atol=4 * numbers["nearest"]["standard_error"])
    assert numbers["nearest"]["copies"] == 0


def test_drift_is_seen(right):
    found = right.numbers["drift"]
    first, second = found["columns"]
    # Of two normals one deviation apart the distribution functions differ by 2 Φ(½) - 1.
    assert first["name"] == "x0" and second["distance"] < found["noise"]
    np.testing.assert_allclose(first["distance"], 0.383, atol=0.06)
    np.testing.assert_allclose(found["log_likelihood"], -2 * UNIT - 0.5, atol=0.2)
    # The best of all classifiers has Φ(1 / √2).
    np.testing.assert_allclose(found["classifier"]["auc"], 0.76, atol=0.06)


def test_numbers_of_a_wrong_density(wrong):
    numbers = wrong.numbers
    gaussian = next(row for row in numbers["baselines"] if row["name"] == "Gaussian")
    assert gaussian["lead"] < -5 * gaussian["standard_error"]
    flag = next(column for column in numbers["columns"] if column["name"] == "flag")
    assert flag["impossible"] == 1.0 and "few values" in flag["why"]
    pair = numbers["correlations"]["largest"][0]
    np.testing.assert_allclose([pair["data"], pair["drawn"]], [0.79, 0.0], atol=0.05)
    assert numbers["classifier"]["auc"] > 0.9
    assert numbers["nearest"] is None and numbers["drift"] is None
    worst = numbers["worst"]
    assert [row["log_prob"] for row in worst] == sorted(row["log_prob"] for row in worst)
    assert len(worst) == 10 and all(set(row["values"]) == {*worst[0]["values"]} for row in worst)


def test_the_gaussian_is_the_conditional_one_with_contexts(tmp_path):
    rng = np.random.default_rng(0)
    c = rng.normal(size=[1500, 1])
    x = np.concatenate([2 * c, -c], 1) + 0.5 * rng.normal(size=[1500, 2])
    model = tff.FlowModel(tff.flows.gaussian(2, "diag", context_size=1))
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(c[:500], x[:500], epochs=3, verbose=0)
    found = tff.report(model, x[500:], c[500:], path=tmp_path / "a.html").numbers
    expected = -2 * (UNIT + np.log(0.5))
    means = {row["name"]: row["log_likelihood"] for row in found["baselines"]}
    np.testing.assert_allclose(means["Gaussian"], expected, atol=0.1)
    np.testing.assert_allclose(means["tree of pairs (Chow-Liu)"], expected, atol=0.6)
    assert means["independent columns"] < expected - 1
    assert {"context 0"} <= {column["name"] for column in found["classifier"]["columns"]}
    assert found["verdict"][0]["grade"] != "good"  # three epochs are not enough


def test_copies_of_training_rows_are_seen(tmp_path):
    x = normal(450, 2, 0).astype("float32")
    memory = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.zeros([300])),
        tfd.MultivariateNormalDiag(tf.Variable(x[:300]), tf.fill([300, 2], 1e-3)),
    )
    found = tff.report(tff.FlowModel(memory), x[300:], training=x[:300], path=tmp_path / "a.html")
    assert found.numbers["nearest"]["nearer"] > 0.95
    assert "privacy" in found.verdict[2]
    assert found.numbers["coverage"]["regions"] == "regions of highest density"  # there is no bijector


def test_a_table_in_its_units(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 1000, 1200), "D"),
            "x": 10 * random.normal(size=1200),
            "rain": np.where(random.random(1200) < 0.5, 0, random.exponential(size=1200)),
            "kind": random.choice(["a", "b"], 1200),
            "given": random.choice(["c", "d"], 1200),
        }
    )
    model = tff.TableModel.from_data(frame, flow="realnvp", num_layers=1, context_columns=["given"], seed=0)
    held_out = frame[1000:].reset_index(drop=True)
    held_out.loc[3, "kind"] = "unseen"
    found = tff.report(model, held_out, training=frame[:1000], path=tmp_path / "a.html")
    numbers = found.numbers
    # Probabilities of a day among 1000, of no rain, and of a kind; densities of x, and of rain, which has 1 nat.
    expected = -np.log(1000) - (UNIT + np.log(10)) - (np.log(2) + 0.5) - np.log(2)
    means = {row["name"]: row["log_likelihood"] for row in numbers["baselines"]}
    np.testing.assert_allclose(means["independent columns"], expected, atol=0.4)
    np.testing.assert_allclose(means["tree of pairs (Chow-Liu)"], expected, atol=0.6)
    np.testing.assert_allclose(means["Gaussian"], expected, atol=0.6)
    assert numbers["log_likelihood"]["rows_without_density"] == 1 and numbers["worst"][0]["row"] == 3
    assert "impossible (1 of 200" in found.verdict[2]
    assert [column["name"] for column in numbers["columns"]] == ["day", "x", "rain", "kind"]
    assert [row["column"] for row in numbers["description"]] == list(frame.columns)
    assert "given" in {name for pair in numbers["dependence"] for name in pair["columns"]} | {
        column["name"] for column in numbers["classifier"]["columns"]
    }
    assert "2021-" in found.path.read_text()  # the mean of the days
    with pytest.raises(ValueError, match="'given'"):
        tff.report(model, held_out.drop(columns="given"), path=tmp_path / "b.html")
    with pytest.raises(ValueError, match="columns of it"):
        tff.report(model, held_out, held_out["given"], path=tmp_path / "b.html")


def test_rows_without_a_density_are_counted(tmp_path):
    x = np.abs(normal(400, 1, 0)) - 0.1
    found = tff.report(tff.FlowModel(tfd.Independent(tfd.HalfNormal(tf.ones([1])), 1)), x, path=tmp_path / "a.html")
    assert found.numbers["log_likelihood"]["rows_without_density"] == np.sum(x < 0)
    assert found.numbers["worst"][0]["log_prob"] is None
    assert found.numbers["verdict"][0]["grade"] == "bad"


def test_events_of_other_shapes_and_many_rows(tmp_path):
    x = normal(300, 4, 0).reshape(-1, 2, 2)
    flow = tfd.Sample(tfd.Normal(tf.zeros([]), 1.0), [2, 2])
    found = tff.report(tff.FlowModel(flow), x, path=tmp_path / "a.html", max_rows=100, columns=list("abcd")).numbers
    assert found["held_out"] == {"rows": 300, "used": 100}
    assert found["coverage"]["inside"] and found["coverage"]["regions"] == "regions of highest density"
    assert [column["name"] for column in found["columns"]] == list("abcd")
    for row in found["worst"]:  # numbered as they were given
        np.testing.assert_allclose(list(row["values"].values()), x[row["row"]].reshape(-1), rtol=1e-5)


@pytest.mark.parametrize("name", ["normal", "lognormal", "atoms", "missing", "constant", "few"])
def test_marginals_integrate_to_one(name):
    z = np.random.default_rng(0).normal(size=2000)
    values = {
        "normal": z,
        "lognormal": np.exp(2 * z),
        "atoms": np.where(z > 0, z, 0),
        "missing": np.where(z > 1, np.nan, z),
        "constant": np.full(50, 3.0),
        "few": np.array([1.0, 2.0]),
    }[name]
    marginal = baselines.Marginal(values, atoms=[0.0] if name == "atoms" else [])
    inner = np.linspace(marginal.edges[0], marginal.edges[-1], 400_001)
    step = inner[1] - inner[0]
    mass = np.exp(marginal.log_prob(inner[:-1] + step / 2)).sum() * step
    for start, tail, sign in zip(marginal.edges[[0, -1]], marginal.tails, (-1, 1), strict=True):
        points = start + sign * tail * (np.arange(200_000) + 0.5) / 1e4
        mass += np.exp(marginal.log_prob(points)).sum() * tail / 1e4
    mass += np.exp(marginal.log_prob(np.array([*marginal.atoms, np.nan]))).sum()
    np.testing.assert_allclose(mass, 1, atol=0.01 if len(values) > 100 else 0.2)  # the rest is for what was never seen
    np.testing.assert_allclose(np.exp(marginal.log_groups()).sum(), mass, atol=0.01)


def test_a_tree_knows_pairs_and_integrates_to_one():
    x = normal(4000, 2, 0, correlation=0.9)
    tree = baselines.Tree(np.zeros([4000, 0]), x, lambda values, k: baselines.Marginal(values))
    line = np.linspace(-8, 8, 801)
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    mass = np.exp(tree.log_prob(np.zeros([len(points), 0]), points)).sum() * 0.02**2
    np.testing.assert_allclose(mass, 1, atol=0.02)
    fresh = normal(4000, 2, 1, correlation=0.9)
    exact = -2 * UNIT - np.log(1 - 0.9**2) / 2
    found = tree.log_prob(np.zeros([4000, 0]), fresh).mean()
    assert exact - 0.25 < found < exact
    # Mutual information of groups: a little less than that of the values.
    groups = [baselines.Marginal(column).groups(column) for column in x.T]
    assert 0.6 < baselines.mutual_information(*groups) < -np.log(1 - 0.9**2) / 2
    shuffled = np.random.default_rng(0).permutation(groups[1])
    assert abs(baselines.mutual_information(groups[0], shuffled)) < 0.01


def test_distances():
    one, other = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    assert checks.distance(one, other, True) == checks.distance(one, other, False) == 0.25
    assert checks.distance(one, np.array([np.nan, 0.0, 0.0, 1.0]), True) == 0.25
    shares = [
        checks.distance(*np.random.default_rng(k).normal(size=[2, 200]), False) > checks.expected_distance(200, 200)
        for k in range(300)
    ]
    assert np.mean(shares) < 0.02


# Words


def test_verdicts(right, wrong):
    assert [part["grade"] for part in right.numbers["verdict"]] == ["fair", "good", "fair"]
    assert "no better than simple ones" in right.verdict[0]
    assert "new table" in right.verdict[2] and "`x0`" in right.verdict[2]
    assert [part["grade"] for part in wrong.numbers["verdict"]] == ["bad", "bad", "bad"]
    assert "cannot be trusted" in wrong.verdict[0] and "tree" in wrong.verdict[0]
    assert "`flag`" in wrong.verdict[1] and "`flag` (100 % of draws" in wrong.verdict[2]
    assert str(wrong) == "\n".join(wrong.verdict) and len(wrong.verdict) == 3


def changed(numbers, *keys, value):
    """A copy of the numbers with one of them changed."""
    numbers = json.loads(json.dumps(numbers))
    place = numbers
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return [part["grade"] for part in verdict.verdict(numbers)]


def test_each_rule_of_the_verdict(right):
    numbers = {**json.loads(json.dumps(right.numbers)), "drift": None}
    for baseline in numbers["baselines"]:
        baseline["lead"] = 0.5
    assert [part["grade"] for part in verdict.verdict(numbers)] == ["good", "good", "good"]
    assert changed(numbers, "log_likelihood", "rows_without_density", value=100)[0] == "bad"
    assert changed(numbers, "log_likelihood", "rows_without_density", value=1) == ["good", "good", "fair"]
    worse = [{**baseline, "lead": -1.0} for baseline in numbers["baselines"]]
    assert changed(numbers, "baselines", value=worse)[0] == "bad"
    narrow = {**numbers["coverage"], "inside": False, "largest_excess": -0.2}
    assert changed(numbers, "coverage", value=narrow)[0] == "bad"
    assert changed(numbers, "coverage", value={**narrow, "largest_excess": 0.05})[0] == "fair"
    assert changed(numbers, "classifier", "auc", value=0.7)[1] == "fair"
    assert changed(numbers, "classifier", "auc", value=0.9)[1] == "bad"
    assert changed(numbers, "columns", 0, "impossible", value=0.05)[2] == "fair"
    assert changed(numbers, "columns", 0, "impossible", value=0.5)[2] == "bad"
    assert changed(numbers, "columns", 1, "distance", value=0.3)[2] == "fair"
    assert changed(numbers, "correlations", "largest", 0, "drawn", value=0.9)[2] == "fair"
    assert changed(numbers, "nearest", "nearer", value=0.8)[2] == "fair"
    assert changed(numbers, "held_out", "used", value=50)[2] == "fair"


# The page


class Reader(html.parser.HTMLParser):
    """Notes tags that are not closed, and what a page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["right", "wrong"])
def test_the_page_needs_nothing_else(name, request):
    found = request.getfixturevalue(name)
    text = found.path.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert reader.loads and all(uri.startswith("data:image/png;base64,") for uri in reader.loads)
    assert "script" not in reader.tags and "link" not in reader.tags
    assert not re.search("https?:|url\\(|@import", text)
    assert 'name="viewport"' in text and "prefers-color-scheme" in text
    assert "<script>" not in text and "Right <&>" not in text
    for sentence in found.verdict:
        assert html.escape(sentence.split("`")[0]) in text
    for path in (found.path, found.path.with_suffix(".json")):
        assert path.is_file()
    numbers = json.loads(found.path.with_suffix(".json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert numbers == found.numbers
    assert sorted(part.name for part in found.path.parent.iterdir()) == [f"{name}.html", f"{name}.json"]
    assert len(text) < 1_000_000


def test_one_seed_gives_one_report(tmp_path):
    model = tff.FlowModel(tff.flows.gaussian(2, "unit"))
    one, two = (tff.report(model, normal(200, 2, 0), path=tmp_path / f"{k}.html", seed=3).numbers for k in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"held_out": np.zeros([10, 2])}, "at least 20"),
        ({"held_out": np.zeros([50, 3])}, "shape"),
        ({"held_out": np.full([50, 2], np.nan)}, "held-out rows"),
        ({"held_out": np.zeros([50, 2]), "context": np.zeros([50, 1])}, "no context"),
        ({"held_out": np.zeros([50, 2]), "columns": ["a"]}, "names"),
        ({"held_out": np.zeros([50, 2]), "training": np.zeros([50, 4])}, "training rows"),
        ({"held_out": np.zeros([50, 2]), "max_rows": 0}, "max_rows"),
    ],
)
def test_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        tff.report(tff.FlowModel(tff.flows.gaussian(2, "unit")), path=tmp_path / "a.html", **arguments)
    assert not list(tmp_path.iterdir())


# Files


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_written_whole_or_not_at_all(tmp_path, kind):
    def write(path, text):
        if kind == "folder":
            path.mkdir()
            path = path / "inner.txt"
        path.write_text(text)

    def read(path):
        return (path / "inner.txt" if kind == "folder" else path).read_text()

    path = tmp_path / "a.txt"
    with written_whole(path) as new:
        write(new, "one")
        assert not path.exists()
    assert read(path) == "one"
    with pytest.raises(OSError, match="full"), written_whole(path) as new:
        write(new, "half")
        raise OSError("full")
    assert read(path) == "one"
    with written_whole(path) as new:
        write(new, "two")
    assert read(path) == "two"
    assert [part.name for part in tmp_path.iterdir()] == ["a.txt"]
