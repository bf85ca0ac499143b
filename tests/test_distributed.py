"""Several replicas train as one: two logical devices, and two processes, of which one is killed."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import worker


@pytest.fixture(scope="module")
def alone():
    """The same runs in this process, without a strategy."""
    return {name: worker.RUNS[name](tf.distribute.get_strategy()) for name in ("plain", "weighted")}


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """Two logical devices; the last batch of the uneven run has one row for the two of them."""
    path = str(tmp_path_factory.mktemp("mirrored") / "model.keras")
    uneven = {"rows": 7 * worker.BATCH_SIZE + 1}
    runs = {"plain": {"path": path}, "weighted": {}, "doctored": {}, "plain uneven": uneven}
    return {**worker.results(worker.start("mirrored", runs)), "path": path}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two workers, of which the second is killed in its third epoch; then both again, with more to do."""
    folder = str(tmp_path_factory.mktemp("pair") / "backup")

    def both(kill, **more):
        addresses = worker.free_addresses(2)
        settings = [{"folder": folder, "embedding": False, "chief": k == 0, "kill": kill[k]} for k in range(2)]
        return [worker.start("workers", {"resumable": settings[k], **more}, task=(addresses, k)) for k in range(2)]

    chief, victim = both(kill=(None, 2))
    try:
        victim.communicate(timeout=240)
        before = time.monotonic()
        _, errors = chief.communicate(timeout=120)
        seconds = time.monotonic() - before
    finally:
        chief.kill(), victim.kill()
    again = both(kill=(None, None), plain={}, weighted={}, doctored={})
    try:
        return {
            "codes": (chief.returncode, victim.returncode),
            "errors": errors,
            "seconds": seconds,
            "workers": [worker.results(each) for each in again],
        }
    finally:
        for each in again:
            each.kill()


def assert_same(run, expected):
    assert set(run) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(run[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("run", ["plain", "weighted"])
def test_two_devices_train_as_one(mirrored, alone, run):
    assert alone[run]["loss"][-1] < alone[run]["loss"][0] - 0.02  # else all that never trains would agree
    assert_same(mirrored[run], alone[run])


def test_a_model_of_two_devices_loads_without_a_strategy(mirrored):
    model = keras.models.load_model(mirrored["path"])
    np.testing.assert_allclose(model.log_prob(worker.numbers()[1][:5]), mirrored["plain"]["log_prob"], rtol=1e-5)


def test_an_uneven_last_batch_weighs_replicas_not_rows(mirrored):
    rows = 7 * worker.BATCH_SIZE + 1
    uneven, even = mirrored["plain uneven"], worker.plain(tf.distribute.get_strategy(), rows=rows)
    # The loss that is told is the mean over rows; the step on the last batch is half the size, so later ones differ.
    np.testing.assert_allclose(uneven["loss"][0], even["loss"][0], rtol=1e-5)
    np.testing.assert_allclose(uneven["loss"], even["loss"], atol=2e-2)


def test_a_doctor_of_two_devices(mirrored):
    found = mirrored["doctored"]
    assert len(found["said"]) == 2 and all(
        "the data" in said and "(in the data: 200)" in said for said in found["said"]
    )
    assert np.isfinite(found["loss"]).all()


def test_doctors_of_two_workers_do_the_same(pair):
    first, second = (each["doctored"] for each in pair["workers"])
    # The row is in one worker's share of the batch; the other knows that something failed, and no more.
    assert len(first["said"]) == len(second["said"]) == 2
    assert any("(in the data: 200)" in each["said"][0] for each in (first, second))
    assert first["digest"] == second["digest"]
    assert np.isfinite(first["loss"]).all()


@pytest.mark.parametrize("run", ["plain", "weighted"])
def test_two_workers_train_as_one(pair, alone, run):
    for each in pair["workers"]:
        assert_same(each[run], alone[run])


def test_a_worker_whose_neighbour_is_killed_ends_with_an_error(pair):
    chief, victim = pair["codes"]
    assert victim == -9
    assert chief > 0, "the chief went on, or died of a signal"
    assert "UnavailableError" in pair["errors"]
    assert pair["seconds"] < 60


def test_a_pair_resumes_from_the_chiefs_backup(pair, tmp_path):
    undisturbed = worker.resumable(tf.distribute.get_strategy(), str(tmp_path / "backup"), embedding=False)
    first, second = (each["resumable"] for each in pair["workers"])
    np.testing.assert_allclose(first["loss"], undisturbed["loss"][2:], rtol=1e-5)
    np.testing.assert_allclose(first["learning_rate"], undisturbed["learning_rate"][2:], rtol=1e-6)
    assert first == second
