""".keras files and SavedModels, reloaded where they have to work: in other processes."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

ROOT = pathlib.Path(__file__).parent.parent
MOONS = tff.datasets.two_moons(512, seed=0)


def run(program, path, folder):
    """What a Python program prints as JSON, run in a new process in `folder`; `path` is its one argument."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def mixed_flow():
    """Ours and TFP's, nested, with a shared variable, a permutation and a base of its own."""
    shared = tf.Variable([0.1, -0.2], name="shared")
    return tfd.TransformedDistribution(
        tfd.Sample(tfd.StudentT(tf.Variable(5.0, name="df"), 0.0, 1.0), [2]),
        tfb.Chain(
            [
                tfb.Shift(shared, name="near"),
                tff.bijectors.Standardize(2),
                tff.bijectors.RealNVP(2, seed=0, hidden_units=(8,), name="one"),
                tfb.Permute([1, 0]),
                tfb.Invert(tff.bijectors.NICE(2, hidden_units=(8,), activation="tanh", name="two")),
                tfb.Shift(shared, name="far"),
                tff.bijectors.ActNorm(2),
            ]
        ),
    )


def trained(flow):
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.01), metrics=["bits_per_dim"], jit_compile=False, steps_per_execution=2)
    model.adapt(MOONS)
    model.fit(MOONS, batch_size=64, shuffle=False, verbose=0)
    return model


def test_keras_file_rebuilds_in_another_process_and_trains_on(tmp_path):
    model = trained(mixed_flow())
    model.save(tmp_path / "flow.keras")
    np.save(tmp_path / "moons.npy", MOONS)
    before = np.array(model.log_prob(MOONS)).tolist()
    history = model.fit(MOONS, batch_size=64, shuffle=False, verbose=0).history

    program = """
import json, sys, keras, numpy as np
import tfp_flows as tff
model = keras.models.load_model(sys.argv[1])
x = np.load("moons.npy")
before = np.array(model.log_prob(x)).tolist()
counts = [len(model.weights), len(model.trainable_weights), len(model.distribution.trainable_variables)]
history = model.fit(x, batch_size=64, shuffle=False, verbose=0).history
print(json.dumps([before, history, counts, model.optimizer.iterations.numpy().item(), model.steps_per_execution]))
"""
    again_before, again_history, counts, iterations, steps = run(program, tmp_path / "flow.keras", tmp_path)
    np.testing.assert_allclose(again_before, before, rtol=1e-5, atol=1e-5)
    assert set(history) == set(again_history) == {"loss", "bits_per_dim"}
    for name, values in history.items():
        np.testing.assert_allclose(again_history[name], values, rtol=1e-5)
    assert counts == [len(model.weights), len(model.trainable_weights), len(model.distribution.trainable_variables)]
    assert (iterations, steps) == (16, 2)


def test_saved_model_works_in_a_process_that_has_tensorflow_only(tmp_path):
    model = trained(mixed_flow())
    model.export(str(tmp_path / "served"))
    np.save(tmp_path / "moons.npy", MOONS)
    program = """
import json, sys, numpy as np, tensorflow as tf
flow = tf.saved_model.load(sys.argv[1])
x = np.load("moons.npy")
draws, log_prob = flow.sample_and_log_prob(7, 3)
out = dict(
    log_prob=flow.log_prob(x), three=flow.log_prob(x[:3]), none=flow.log_prob(x[:0]), sample=flow.sample(7, 3),
    draws=draws, density=log_prob, z=flow.inverse(x), x=flow.forward(flow.inverse(x)),
    signature=flow.signatures["sample"](n=tf.constant(7), seed=tf.constant(3))["sample"],
)
out = {name: value.numpy().tolist() for name, value in out.items()}
out["variables"] = len(flow.model_variables)
out["imported"] = [name for name in sys.modules if name.startswith(("tfp_flows", "tensorflow_probability"))]
print(json.dumps(out))
"""
    out = run(program, tmp_path / "served", tmp_path)
    log_prob = model.log_prob(MOONS)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(out["log_prob"], log_prob, **close)
    np.testing.assert_allclose(out["three"], log_prob[:3], **close)
    assert out["none"] == []
    for name in ("sample", "draws", "signature"):
        np.testing.assert_allclose(out[name], model.sample(7, seed=3), **close)
    np.testing.assert_allclose(out["density"], model.log_prob(model.sample(7, seed=3)), **close)
    np.testing.assert_allclose(out["z"], model.inverse(MOONS), **close)
    np.testing.assert_allclose(out["x"], MOONS, rtol=1e-4, atol=1e-4)
    assert out["variables"] == len(model.weights)
    assert out["imported"] == []


def test_saved_model_with_a_context(tmp_path):
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, context_size=3, seed=0, dtype="float64"))
    model.export(str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served"))
    x, context = np.zeros((4, 2)), np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(served.log_prob(x, context), model.log_prob(x, context))
    draws = served.signatures["sample"](n=tf.constant(5), seed=tf.constant(1), context=tf.constant(context))["sample"]
    assert draws.shape == (5, 4, 2) and draws.dtype == tf.float64


@pytest.mark.parametrize("preset", [tff.flows.maf, tff.flows.iaf])
def test_saved_models_have_gradients(tmp_path, preset):
    model = tff.FlowModel(preset(2, num_layers=2, hidden_units=(8,), seed=0))
    for weight in model.trainable_weights:
        weight.assign(weight + 0.3 * np.random.default_rng(0).normal(size=weight.shape))
    model.export(str(tmp_path / "served"))

    def gradient(flow):
        x = tf.constant(MOONS[:5])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = flow.forward(x) + flow.inverse(x)
        return tape.gradient(y, x)

    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(gradient(served), gradient(model), rtol=1e-5, atol=1e-5)


def test_structures_of_tensors_are_served_too(tmp_path):
    joint = tfd.JointDistributionNamed(
        {"a": tfd.Normal(tf.Variable(1.0), 1.0), "b": tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), [2])}
    )
    model = tff.FlowModel(joint)
    model.export(str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served"))
    draws = served.sample(3, 1)
    np.testing.assert_allclose(served.log_prob(draws), model.log_prob(draws), rtol=1e-5)


def test_weights_files_and_checkpoints(tmp_path):
    model, other = trained(mixed_flow()), tff.FlowModel(mixed_flow())
    model.save_weights(tmp_path / "flow.weights.h5")
    other.load_weights(tmp_path / "flow.weights.h5")
    np.testing.assert_allclose(other.log_prob(MOONS), model.log_prob(MOONS), rtol=1e-5, atol=1e-5)
    path = tf.train.Checkpoint(flow=model.distribution).save(str(tmp_path / "checkpoint"))
    third = mixed_flow()
    tf.train.Checkpoint(flow=third).restore(path).expect_partial()
    np.testing.assert_allclose(third.log_prob(MOONS), model.log_prob(MOONS), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_written_is_refused_by_name_when_saving(tmp_path):
    chain = tfb.Chain(
        [tff.bijectors.NICE(2), tfb.Inline(lambda x: x, lambda y: y, lambda y: 0.0, forward_min_event_ndims=0)]
    )
    model = tff.FlowModel(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), chain))
    with pytest.raises((TypeError, ValueError), match=r"bijectors\[1\].*forward_fn"):
        model.save(tmp_path / "flow.keras")
    assert not (tmp_path / "flow.keras").exists()


def test_a_file_that_is_no_model_of_ours_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Received"):
        tff.FlowModel.from_config({"distribution": {"class": "os.system"}})
    path = tmp_path / "other.keras"
    path.write_text("not a model")
    with pytest.raises(ValueError):
        keras.models.load_model(path)


def rewritten(path, change):
    """Changes the configuration in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["distribution"])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


CHANGES = {
    "a later version": (lambda config: config.update(version=99), "comes from another version .* version 99"),
    "another format": (lambda config: config.update(format="other"), "Expected a configuration that `to_config` wrote"),
    "half of it": (lambda config: config.pop("value"), "Expected a configuration that `to_config` wrote"),
    "an unknown class": (
        lambda config: config["value"].update(class_path="tfp_flows.bijectors.Newer"),
        "Expected the name of a bijector.*tfp_flows.bijectors.Newer",
    ),
    "an unknown argument": (
        lambda config: config["value"]["arguments"].update(newer=1),
        "constructing it failed: .*unexpected keyword argument 'newer'",
    ),
    "a missing argument": (lambda config: config["value"]["arguments"].pop("distribution"), "constructing it failed"),
    "no distribution": (lambda config: config.update(value=3), "Expected a `tfd.Distribution`. Received: 3"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "flow.keras"
    tff.FlowModel(tff.flows.realnvp(2, num_layers=1, hidden_units=(4,))).save(path)
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_says_what_is_wrong(name, file, tmp_path):
    change, words = CHANGES[name]
    path = tmp_path / "changed.keras"
    path.write_bytes(file.read_bytes())
    rewritten(path, change)
    with pytest.raises((TypeError, ValueError), match=f"(?s){words}"):
        keras.models.load_model(path)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(file, tmp_path, part):
    content = file.read_bytes()
    path = tmp_path / "truncated.keras"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="truncated.keras"):
        keras.models.load_model(path)


@keras.saving.register_keras_serializable("tests")
class Doubling(tff.bijectors.Bijector):
    """A bijector of a user's own, on our base class."""

    def _forward_and_log_det(self, z, context):
        return 2 * z, tf.fill(tf.shape(z)[:-1], tf.cast(self.event_size * np.log(2.0), z.dtype))

    def _inverse_and_log_det(self, x, context):
        return x / 2, tf.fill(tf.shape(x)[:-1], tf.cast(-self.event_size * np.log(2.0), x.dtype))


def test_registered_bijectors_of_a_users_own(tmp_path):
    chain = tfb.Chain([Doubling(2), tff.bijectors.ActNorm(2)])
    model = tff.FlowModel(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), chain))
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    assert isinstance(again.distribution.bijector.bijectors[0], Doubling)
    np.testing.assert_allclose(again.log_prob(MOONS), model.log_prob(MOONS))


@pytest.mark.parametrize("context_size", [0, 2])
def test_a_saved_model_draws_without_a_seed(tmp_path, context_size):
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=1, context_size=context_size, hidden_units=(4,), seed=0))
    model.export(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    context = {"context": tf.zeros([3, 2])} if context_size else {}
    assert np.all(loaded.sample(4, **context) != loaded.sample(4, **context))
    np.testing.assert_array_equal(loaded.sample(4, seed=5, **context), model.sample(4, seed=5, **context))
    x, log_prob = loaded.sample_and_log_prob(4, **context)
    np.testing.assert_allclose(log_prob, model.log_prob(x, context.get("context")), rtol=1e-4)
