"""The command line: a table in, a model, samples, scores, a report and a server out; errors of one line."""

import errno
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import tfp_flows as tff
from tfp_flows.command_line import main
from tfp_flows.command_line.files import split, write_table
from tfp_flows.model import training
from tfp_flows.tables import frames

FIT = ["--flow", "realnvp", "--layers", "1", "--epochs", "2"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments):
    """The standard output of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*arguments):
    """What a command says that a user must mend: one line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr and len(result.stderr) < 800
    return result.stderr


def table(n=400, seed=0):
    random = np.random.default_rng(seed)
    kind = random.choice(["a", "b"], n)
    return pd.DataFrame({"size": random.lognormal(size=n) + (kind == "b"), "kind": kind, "x": random.normal(size=n)})


@pytest.fixture(scope="module", autouse=True)
def no_xla():
    """XLA takes seconds to compile what is trained here for two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "prefers_jit", lambda distribution: False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, and a model fitted to it."""
    folder = tmp_path_factory.mktemp("command_line")
    table().to_csv(folder / "table.csv", index=False)
    result = run("fit", folder / "table.csv", "--out", folder / "model.keras", "--test", 0.25, "--seed", 3, *FIT)
    assert result.exit_code == 0, result.stderr
    assert "300 rows, 2 epochs" in result.stdout
    assert "100 held-out rows: log-likelihood" in result.stdout
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["epoch 1 of 2", "epoch 2 of 2"]
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# What the commands do


def test_a_fit_leaves_a_model_and_its_curve(folder):
    assert {"model.keras", "model.history.json", "table.csv"} <= set(names(folder))
    assert not [name for name in names(folder) if name.startswith(".") or "backup" in name]
    assert len(json.loads((folder / "model.history.json").read_text())["loss"]) == 2
    words = done("info", folder / "model.keras")
    assert "TableModel" in words
    for name in table().columns:
        assert name in words


def test_samples(folder):
    one = done("sample", folder / "model.keras", "-n", 20, "--seed", 1)
    done("sample", folder / "model.keras", "-n", 20, "--seed", 1, "--out", folder / "drawn.csv")
    assert (folder / "drawn.csv").read_text() == one
    done("sample", folder / "model.keras", "-n", 20, "--seed", 2, "--out", folder / "drawn.parquet")
    drawn = pd.read_parquet(folder / "drawn.parquet")
    assert list(drawn.columns) == ["size", "kind", "x"] and len(drawn) == 20 and set(drawn["kind"]) <= {"a", "b"}
    assert not set(drawn["x"]) & set(pd.read_csv(folder / "drawn.csv")["x"])


def test_scores_are_the_models(folder):
    done("score", folder / "model.keras", folder / "table.csv", "--out", folder / "scores.csv")
    scores = pd.read_csv(folder / "scores.csv")
    expected = tff.TableModel.load(folder / "model.keras").log_prob(pd.read_csv(folder / "table.csv"))
    np.testing.assert_allclose(scores["log_prob"], expected, rtol=1e-4)
    pd.testing.assert_frame_equal(scores.drop(columns="log_prob"), pd.read_csv(folder / "table.csv"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_parquet_files_are_scored_in_pieces(folder, tmp_path, monkeypatch, suffix):
    frame = pd.concat([table()] * 3, ignore_index=True)
    frame.to_parquet(tmp_path / "large.parquet", row_group_size=250)
    monkeypatch.setattr(frames, "PIECE_ROWS", 500)
    sizes, log_prob = [], tff.TableModel.log_prob
    monkeypatch.setattr(tff.TableModel, "log_prob", lambda self, part: sizes.append(len(part)) or log_prob(self, part))
    done("score", folder / "model.keras", tmp_path / "large.parquet", "--out", tmp_path / f"scores.{suffix}")
    assert sizes == [500, 500, 200]
    scores = frames.read(tmp_path / f"scores.{suffix}")
    pd.testing.assert_frame_equal(scores.drop(columns="log_prob"), frame)
    model = tff.TableModel.load(folder / "model.keras")
    np.testing.assert_allclose(scores["log_prob"], model.log_prob(frame), rtol=1e-4)
    np.testing.assert_allclose(scores["log_prob"], log_prob(model, tmp_path / "large.parquet"), rtol=1e-4)


def test_pieces_of_a_file_may_differ(tmp_path):
    """In missing values, and in the labels of a categorical column."""
    labels = [[f"label {k}" for k in range(count)] for count in (3, 300)]
    few, many = (pd.DataFrame({"kind": pd.Categorical(names), "count": range(len(names))}) for names in labels)
    many = many.astype({"count": float}).replace({"count": {7.0: None}})
    write_table([few, many], tmp_path / "written.parquet")
    written = pd.read_parquet(tmp_path / "written.parquet")
    assert written["kind"].astype(str).tolist() == [*labels[0], *labels[1]]
    assert np.flatnonzero(written["count"].isna()).tolist() == [10]


def test_rows_of_later_pieces_are_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "PIECE_ROWS", 150)
    for name, frame in {"below": table().replace({"size": {table()["size"][320]: -1.0}}), "empty": table()[:0]}.items():
        frame.to_parquet(tmp_path / f"{name}.parquet")
    out = tmp_path / "scores.csv"
    assert "-1.0 in row 320" in refused("score", folder / "model.keras", tmp_path / "below.parquet", "--out", out)
    assert "0 rows" in refused("score", folder / "model.keras", tmp_path / "empty.parquet", "--out", out)
    assert names(tmp_path) == ["below.parquet", "empty.parquet"]


def test_the_report_is_of_the_rows_that_were_held_out(folder):
    out = folder / "report.html"
    words = done("report", folder / "model.keras", folder / "table.csv", "--test", 0.25, "--seed", 3, "--out", out)
    numbers = json.loads(out.with_suffix(".json").read_text())
    assert words.splitlines()[:3] == [part["sentence"] for part in numbers["verdict"]]
    assert (
        numbers["held_out"]["rows"] == 100 and numbers["nearest"] is not None and len(numbers["history"]["loss"]) == 2
    )
    _, held_out = split(pd.read_csv(folder / "table.csv"), 0.25, 3)
    expected = tff.TableModel.load(folder / "model.keras").log_prob(held_out).mean()
    np.testing.assert_allclose(numbers["log_likelihood"]["mean"], expected, rtol=1e-3)
    assert "What was done to each column" in out.read_text()


def test_an_exported_model_is_served(folder, monkeypatch):
    import uvicorn

    done("export", folder / "model.keras", "--out", folder / "exported")
    done("export", folder / "model.keras", "--out", folder / "exported", "--force")
    started = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **settings: started.append((app, settings)))
    done("serve", folder / "exported", "--port", 1234, "--max-rows", 7)
    [(app, settings)] = started
    assert settings["port"] == 1234 and settings["host"] == "127.0.0.1"
    assert "/log_prob" in [route.path for route in app.routes]


def test_context_columns(tmp_path):
    table().to_csv(tmp_path / "table.csv", index=False)
    model = tmp_path / "model.keras"
    done("fit", tmp_path / "table.csv", "--out", model, "--context", "kind", "--bounds", "size=0:", *FIT)
    pd.DataFrame({"kind": ["a", "b", "b"]}).to_csv(tmp_path / "given.csv", index=False)
    done("sample", model, "--context", tmp_path / "given.csv", "--out", tmp_path / "drawn.csv")
    drawn = pd.read_csv(tmp_path / "drawn.csv")
    assert drawn["kind"].tolist() == ["a", "b", "b"] and (drawn["size"] > 0).all()
    assert "kind" in refused("sample", model, "-n", 3)


def test_rows_are_split_alike_by_a_seed():
    one, two = (split(table(), 0.1, 5) for _ in range(2))
    for left, right in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(left, right)
    train, test = one
    assert len(test) == 40 and not set(train["x"]) & set(test["x"])
    assert set(split(table(), 0.1, 6)[1]["x"]) != set(test["x"])


@pytest.mark.parametrize("command", [None, *main.commands])
def test_help_teaches(command):
    words = done(*([] if command is None else [command]), "--help")
    assert f"  tfp-flows {command or 'fit'} " in words
    for option in main.commands[command].params if command else []:
        assert option.param_type_name == "argument" or option.help or option.name == "port"


# What is refused


BAD = {
    "empty.csv": "",
    "header.csv": "a,b\n",
    "one_row.csv": "a,b\n1.5,2.5\n",
    "ragged.csv": "a,b\n1,2\n1,2,3,4\n",
    "twice.csv": "size,kind,x\n1.0,a,oops\n2.0,b,0.5\n",
    "unseen.csv": "size,kind,x\n1.0,c,0.5\n2.0,b,0.5\n",
    "other.csv": "size,sort,x\n1.0,a,0.5\n2.0,b,0.5\n",
    "more.csv": "size,kind,x,y\n1.0,a,0.5,1\n2.0,b,0.5,2\n",
    "infinite.csv": "size,kind,x\n1.0,a,inf\n2.0,b,0.5\n",
    "below.csv": "size,kind,x\n-1.0,a,0.1\n2.0,b,0.5\n",
    "junk.keras": "no model",
    "wide.csv": ",".join(f"c{k}" for k in range(10_000)) + "\n" + ",".join(["1"] * 10_000) + "\n",
}
MODEL, TABLE = "{folder}/model.keras", "{folder}/table.csv"


@pytest.mark.parametrize(
    "words, message",
    [
        (f"nonsense {TABLE}", "nonsense"),
        (f"fit {TABLE}", "--out"),
        ("fit none.csv --out new.keras", "none.csv"),
        ("fit . --out new.keras", "folder"),
        ("fit empty.csv --out new.keras", "empty"),
        ("fit header.csv --out new.keras", "rows"),
        ("fit one_row.csv --out new.keras", "two rows"),
        ("fit ragged.csv --out new.keras", "line 3"),
        ("fit wide.csv --out new.keras", "10000"),
        ("fit infinite.csv --out new.keras", "'x'"),
        (f"fit {TABLE} --out new.h5", ".keras"),
        (f"fit {TABLE} --out nowhere/new.keras", "nowhere"),
        (f"fit {TABLE} --out /proc/new.keras", "/proc"),
        (f"fit {TABLE} --out {MODEL}", "--force"),
        (f"fit {TABLE} --out folder.keras --force", "folder"),
        (f"fit {TABLE} --out new.keras --flow nope", "nope"),
        (f"fit {TABLE} --out new.keras --context nope", "nope"),
        (f"fit {TABLE} --out new.keras --kind x", "COLUMN"),
        (f"fit {TABLE} --out new.keras --kind x=nope", "nope"),
        (f"fit {TABLE} --out new.keras --bounds x=low", "LOW:HIGH"),
        (f"fit {TABLE} --out new.keras --bounds x=5:6", "'x'"),
        (f"fit {TABLE} --out new.keras --epochs 0", "--epochs"),
        (f"fit {TABLE} --out new.keras --test 1", "--test"),
        (f"fit {TABLE} --out new.keras --resume", "no fit"),
        ("info junk.keras", "junk.keras"),
        ("info none.keras", "none.keras"),
        ("info other.keras", "other.keras"),
        ("sample junk.keras", "junk.keras"),
        ("sample plain.keras", "FlowModel"),
        (f"sample {MODEL} -n 0", "-n"),
        (f"sample {MODEL} --context {TABLE}", "--context"),
        (f"sample {MODEL} --out drawn.txt", ".csv"),
        (f"sample {MODEL} --out {TABLE}", "--force"),
        (f"score {MODEL} twice.csv", "'x'"),
        (f"score {MODEL} unseen.csv", "'kind'"),
        (f"score {MODEL} other.csv", "'kind'"),
        (f"score {MODEL} more.csv", "'y'"),
        (f"score {MODEL} infinite.csv", "'x'"),
        (f"score {MODEL} below.csv", "'size'"),
        (f"score {MODEL} empty.csv", "empty"),
        (f"report {MODEL} other.csv --out new.html", "'kind'"),
        (f"report {MODEL} below.csv --out new.html", "20"),
        (f"report {MODEL} {TABLE} --out new.txt", ".html"),
        (f"report {MODEL} {TABLE} --test 0.1 --training {TABLE} --out new.html", "both"),
        (f"export {MODEL} --out folder.keras", "folder.keras"),
        (f"export {MODEL} --out {TABLE} --force", "table.csv"),
        ("serve none", "none"),
        ("serve plain.keras", "export"),
        ("serve {folder}", "saved_model.pb"),
    ],
)
def test_refused_in_one_line(folder, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    for name, text in BAD.items():
        pathlib.Path(name).write_text(text)
    pathlib.Path("folder.keras").mkdir()
    with zipfile.ZipFile("other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    if "plain.keras" in words:
        tff.FlowModel(tff.flows.gaussian(2)).save("plain.keras")
    before, fitted = names(tmp_path), {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert message in refused(*words.format(folder=folder).split())
    assert names(tmp_path) == before
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == fitted


def test_a_fault_of_the_program_says_so(folder, monkeypatch):
    def fault(*arguments, **keywords):
        raise AssertionError("a fault")

    monkeypatch.setattr(tff.TableModel, "sample", fault)
    result = run("sample", folder / "model.keras")
    assert result.exit_code == 1 and "--traceback" in result.stderr and result.stderr.count("\n") == 1
    assert isinstance(run("--traceback", "sample", folder / "model.keras").exception, AssertionError)


# Disks and deaths


@pytest.mark.parametrize("command", ["fit", "sample", "export"])
def test_a_full_disk_leaves_what_was_there(folder, tmp_path, monkeypatch, command):
    """Each write fails after its first half."""

    def full(path, *arguments, **keywords):
        path = pathlib.Path(path)
        if command == "export":
            path.mkdir()
            path = path / "saved_model.pb"
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    out = tmp_path / {"fit": "out.keras", "sample": "out.csv", "export": "out"}[command]
    if command == "export":
        out.mkdir()
        (out / "saved_model.pb").write_text("before")
    else:
        out.write_text("before")
    before = names(tmp_path)
    targets = {
        "fit": (tff.TableModel, "save"),
        "sample": (pd.DataFrame, "to_csv"),
        "export": (tff.TableModel, "export"),
    }
    monkeypatch.setattr(*targets[command], lambda self, path, *rest, **more: full(path))
    arguments = {
        "fit": ["fit", folder / "table.csv", *FIT],
        "sample": ["sample", folder / "model.keras"],
        "export": ["export", folder / "model.keras"],
    }[command]
    words = refused(*arguments, "--out", out, "--force") if command != "fit" else None
    if command == "fit":  # its progress stands before the error
        result = run(*arguments, "--out", out, "--force")
        assert result.exit_code == 2
        words = result.stderr.splitlines()[-1]
        assert out.read_text() == "before"
        # What was trained is not lost: without the fault it goes on, with nothing left to do.
        assert (tmp_path / "out.keras.backup").is_dir()
        monkeypatch.undo()
        assert "2 epochs" in done(*arguments, "--out", tmp_path / "out.keras", "--resume")
        before.append("out.history.json")
    else:
        assert "before" in (out / "saved_model.pb" if command == "export" else out).read_text()
    assert "No space left" in words
    assert names(tmp_path) == sorted(before)


def test_a_fit_that_is_refused_leaves_no_backup(folder, tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise ValueError("Expected better data.")

    monkeypatch.setattr(tff.TableModel, "fit", refuse)
    assert "better data" in refused("fit", folder / "table.csv", "--out", tmp_path / "model.keras", *FIT)
    assert not names(tmp_path)


def test_a_killed_fit_leaves_no_model_and_goes_on(tmp_path):
    table(2000).to_csv(tmp_path / "table.csv", index=False)
    out, backup = tmp_path / "model.keras", tmp_path / "model.keras.backup"
    arguments = ["fit", tmp_path / "table.csv", "--out", out, "--flow", "realnvp", "--layers", "1", "--epochs", "30"]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent), "TF_NUM_INTRAOP_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tfp_flows", *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True
    )

    def epochs():
        path = backup / "history.json"
        return json.loads(path.read_text())["loss"] if path.is_file() else []

    try:
        end = time.monotonic() + 120
        while len(epochs()) < 3 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert process.poll() is None, process.stderr.read()
    finally:
        process.kill()  # SIGKILL, which no process can catch
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = epochs()
    assert 3 <= len(before) < 30 and not out.exists()

    assert "--resume" in refused(*arguments)  # nothing is lost without being asked for
    assert "--epochs" in refused(*arguments, "--resume", "--epochs", "31")
    result = run(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    first = int(result.stderr.split("epoch ")[1].split()[0])
    assert len(before) <= first <= len(before) + 1  # the backup may be one epoch behind
    history = json.loads((tmp_path / "model.history.json").read_text())["loss"]
    assert history[: first - 1] == before[: first - 1]
    assert history[-1] < before[0]
    assert names(tmp_path) == ["model.history.json", "model.keras", "table.csv"]
    assert len(tff.TableModel.load(out).sample(5)) == 5


def test_a_process_that_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    result = subprocess.run(
        [sys.executable, "-m", "tfp_flows", "fit", "empty.csv", "--out", "model.keras"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ") and "empty.csv" in result.stderr
    assert names(tmp_path) == ["empty.csv"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the script asks the server by curl")
def test_the_script_of_all_commands(tmp_path):
    table(300).to_csv(tmp_path / "table.csv", index=False)
    root, scripts = pathlib.Path(__file__).parent.parent, pathlib.Path(sys.executable).parent
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {"PYTHONPATH": str(root), "PATH": f"{scripts}:{os.environ['PATH']}", "PORT": str(port)}
    result = subprocess.run(
        ["sh", str(root / "examples" / "commands.sh"), "table.csv", "out", *FIT],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(command in (root / "examples" / "commands.sh").read_text() for command in main.commands)
    assert "unsaved custom gradients" not in result.stderr
    answer = json.loads(result.stdout.splitlines()[-1].removeprefix('{"status":"ok"}'))
    assert {name: len(values) for name, values in answer.items()} == {"size": 3, "kind": 3, "x": 3}
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 1000
