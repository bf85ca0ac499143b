"""The same numbers again: from the same seed, and from a backup after a death in the middle of an epoch."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import worker


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One run that nothing disturbs; one that is killed in its third epoch; one that goes on with the latter's work."""
    folder = tmp_path_factory.mktemp("backups")
    again = {"arrays": {}, "simulated": {}}

    def run(name, kill=None, **more):
        runs = {"resumable": {"folder": str(folder / name), "kill": kill}, **more}
        return worker.start("none", runs, deterministic=True)

    undisturbed, killed = run("undisturbed", **again), run("disturbed", kill=2)
    try:
        killed.communicate(timeout=240)
        left = sorted(path.name for path in (folder / "disturbed").iterdir())
        resumed = worker.results(run("disturbed", **again))
        return {
            "undisturbed": worker.results(undisturbed),
            "code": killed.returncode,
            "left": left,
            "resumed": resumed,
            "left at the end": list(folder.iterdir()),
        }
    finally:
        undisturbed.kill(), killed.kill()


@pytest.mark.parametrize("run", ["arrays", "simulated"])
def test_two_processes_with_one_seed_give_the_same_losses(processes, run):
    first, second = processes["undisturbed"][run], processes["resumed"][run]
    assert len(first["loss"]) == 2
    assert first == second


def test_one_seed_gives_the_same_losses_under_xla():  # which Keras switches off where TensorFlow is deterministic
    first, second = (worker.arrays(tf.distribute.get_strategy(), jit_compile=True) for _ in range(2))
    assert first == second


def test_a_killed_run_goes_on_from_the_last_finished_epoch(processes):
    assert processes["code"] == -9
    assert "latest.weights.h5" in processes["left"]
    undisturbed, resumed = processes["undisturbed"]["resumable"], processes["resumed"]["resumable"]
    assert len(undisturbed["loss"]) == 4
    assert resumed["loss"] == undisturbed["loss"][2:]
    # A callback changed the rate before the kill: the backup has it.
    assert undisturbed["learning_rate"][0] > 2 * undisturbed["learning_rate"][2]
    assert resumed["learning_rate"] == undisturbed["learning_rate"][2:]


def test_a_killed_run_ends_with_every_bit_of_an_undisturbed_one(processes):
    assert processes["resumed"]["resumable"]["digest"] == processes["undisturbed"]["resumable"]["digest"]
    assert not processes["left at the end"]


def test_a_backup_holds_the_state_of_random_layers(tmp_path):
    context, x, _ = worker.numbers()
    model = worker.small_model(tf.distribute.get_strategy(), context_size=3, embedding=True)

    def untrained():
        return {v.path: v.numpy() for v in model.non_trainable_variables}

    start = untrained()
    model.fit(context, x, verbose=0)
    moved = untrained()
    assert all(np.any(moved[name] != start[name]) for name in start), "dropout or moving averages were not at work"
    model.save_weights(tmp_path / "a.weights.h5")
    model.fit(context, x, verbose=0)
    model.load_weights(tmp_path / "a.weights.h5")
    for name, value in untrained().items():
        np.testing.assert_array_equal(value, moved[name], err_msg=name)


def test_an_endless_stream_goes_on_where_a_backup_left_it(tmp_path):
    def lines(rng, batch_size):
        return rng.normal(size=[batch_size, 2])

    def fit(folder, epochs, delete):
        model = worker.small_model(tf.distribute.get_strategy())
        seen = model.optimizer.iterations
        stream = tff.datasets.simulator(lines, worker.BATCH_SIZE, seed=0)
        data = tf.data.Dataset.from_tensors(0).flat_map(lambda _: stream.skip(tf.cast(seen.value, tf.int64)))
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder, delete_checkpoint=delete)
        return model.fit(data, epochs=epochs, steps_per_epoch=4, callbacks=[backup], verbose=0).history["loss"]

    undisturbed = fit("one", epochs=3, delete=True)
    assert [*fit("two", epochs=2, delete=False), *fit("two", epochs=3, delete=True)] == undisturbed


def test_shuffled_is_a_function_of_the_epoch():
    step = tf.Variable(0, dtype=tf.int64)
    x = np.arange(10.0)
    data = tff.datasets.shuffled(({"a": x}, x), step, batch_size=4, seed=3)
    assert len(data) == 3

    def epoch(number, data=data):
        step.assign(3 * number)
        batches = list(data.as_numpy_iterator())
        assert [len(rows) for _, rows in batches] == [4, 4, 2]
        for context, rows in batches:
            np.testing.assert_array_equal(context["a"], rows)
        return np.concatenate([rows for _, rows in batches])

    orders = [epoch(number) for number in (0, 1, 2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), x)
    for one, other in itertools.combinations(orders, 2):
        assert np.any(one != other)
    keras.utils.set_random_seed(17)  # of no consequence
    np.testing.assert_array_equal(epoch(1), orders[1])
    other_seed = tff.datasets.shuffled(({"a": x}, x), step, batch_size=4, seed=4)
    assert np.any(epoch(1, other_seed) != orders[1])


def test_shuffled_can_leave_out_the_remainder():
    data = tff.datasets.shuffled(np.arange(10.0), tf.Variable(0), batch_size=4, drop_remainder=True)
    assert [len(batch) for batch in data] == [4, 4] and len(data) == 2


@pytest.mark.parametrize(
    "arrays, settings",
    [
        ((np.zeros(3), np.zeros(4)), {}),
        (np.zeros([0, 2]), {}),
        (np.zeros(3), {"batch_size": 4, "drop_remainder": True}),
        (np.zeros(3), {"batch_size": 0}),
    ],
)
def test_shuffled_refuses(arrays, settings):
    with pytest.raises(ValueError, match="Received"):
        tff.datasets.shuffled(arrays, tf.Variable(0), **settings)


def test_a_worker_that_only_reads_writes_no_backup(tmp_path):
    worker.resumable(tf.distribute.get_strategy(), str(tmp_path / "backup"), chief=False, embedding=False)
    assert not list(tmp_path.iterdir())
