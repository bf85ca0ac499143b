"""Files written by earlier versions still load, to the same densities; `files/` keeps some."""

import pathlib

import keras
import numpy as np
import pytest

FILES = pathlib.Path(__file__).parent / "files"


@pytest.mark.parametrize("path", sorted(FILES.glob("*.keras")), ids=lambda path: path.stem)
def test_files_of_earlier_versions_load(path):
    name, version = path.stem.split("-")
    expected = dict(np.load(FILES / f"log_probs-{version}.npz"))
    model = keras.models.load_model(path)
    log_prob = model.log_prob(expected[f"{name}_x"], expected.get(f"{name}_context"))
    np.testing.assert_allclose(log_prob, expected[f"{name}_log_prob"], rtol=1e-5, atol=1e-5)


def test_there_are_files():
    assert sorted(FILES.glob("*.keras"))
