"""Products of spaces: parts conditioned on the parts before them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tests.cases import unit_vectors
from tests.test_sphere import perturbed
from tfp_flows.bijectors.conditional_blocks import spaces_of

SMALL = {"num_layers": 1, "hidden_units": (8,), "seed": 0}


@pytest.fixture(scope="module")
def flow():
    bounds = {"i1": (0.0, 2.0)}
    return perturbed(tff.flows.product("e2+s2+c+i+a2", context_size=3, bounds=bounds, **SMALL), 0.1)


@pytest.fixture(scope="module")
def context():
    return np.random.default_rng(0).normal(size=[5, 3]).astype(np.float32)


@pytest.fixture(scope="module")
def events(flow, context):
    return tff.condition(flow, context).sample(seed=(0, 1)).numpy()


def test_the_words_of_a_product():
    spaces = spaces_of("e3 + s2+s1+c2+e3")
    assert [space.name for space in spaces] == ["e3", "s2", "s1", "c2", "e3_2"]
    assert [space.event_size for space in spaces] == [3, 3, 1, 2, 3]
    assert [space.base_size for space in spaces_of("a2+s2")] == [2, 3]
    for wrong in ("", "x3", "s3", "e0", "e3+", "e3,s2"):
        with pytest.raises(ValueError, match="Received"):
            spaces_of(wrong)


def test_events_are_points_of_their_spaces(flow, events):
    parts = {name: part.numpy() for name, part in flow.split(events).items()}
    assert {name: part.shape for name, part in parts.items()} == {
        "e2": (5, 2), "s2": (5, 3), "c1": (5, 1), "i1": (5, 1), "a2": (5, 3)
    }  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(parts["s2"], axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(parts["a2"].sum(-1), 1, atol=1e-6)
    assert np.all(np.abs(parts["c1"]) <= np.float32(np.pi))


def test_the_density_is_the_product_of_its_parts(flow, events, context):
    parts = flow.log_prob_parts(events, context)
    model = tff.FlowModel(flow)
    np.testing.assert_allclose(sum(parts.values()), model.log_prob(events, context), atol=1e-4)
    draws, log_prob = model.sample_and_log_prob(2, context, seed=0)
    np.testing.assert_allclose(model.log_prob(draws, context), log_prob, atol=1e-3)


def test_later_parts_depend_on_earlier_ones_and_not_the_other_way_round(flow, events, context):
    before = flow.log_prob_parts(events, context)
    moved = events.copy()
    moved[:, 2:5] *= -1  # the direction
    after = flow.log_prob_parts(moved, context)
    np.testing.assert_array_equal(before["e2"], after["e2"])
    for name in ("s2", "c1", "i1", "a2"):
        assert np.median(np.abs(before[name] - after[name])) > 1e-6  # not where a spline is left
    assert np.abs(before["e2"] - flow.log_prob_parts(events, context + 1)["e2"]).min() > 1e-6


def test_the_density_integrates_to_one_on_interval_and_simplex():
    flow = perturbed(tff.flows.product("i1+a1", bounds={"i1": (0.0, 2.0)}, **SMALL))
    n = 1000
    first, second = ((np.arange(n) + 0.5) / n * 1.01 - 0.005 for _ in range(2))
    points = np.stack([*np.meshgrid(2 * first, second, indexing="ij")], -1).reshape(-1, 2)
    inside = np.all((points > [-0.002, -0.001]) & (points < [2.002, 1.001]), -1)
    points = np.concatenate([points, 1 - points[:, 1:]], 1)[inside].astype(np.float32)
    density = np.exp(tff.FlowModel(flow).log_prob(points).numpy().astype(np.float64))
    assert abs(density.sum() * 2 * (1.01 / n) ** 2 - 1) < 2e-2


def test_boundary_values_have_finite_densities_and_gradients():
    flow = perturbed(tff.flows.product("i2+a2", bounds={"i2": (-1.0, 1.0)}, **SMALL))
    x = tf.constant([[-1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.5, 0.5]])
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob(x)
    gradients = tape.gradient(log_prob, flow.trainable_variables)
    assert np.isfinite(log_prob).all() and all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)


def test_it_trains_adapts_conditions_saves_and_exports(tmp_path):
    rng = np.random.default_rng(0)
    context = rng.normal(size=[640, 3]).astype(np.float32)
    x = np.concatenate([100 + 10 * rng.normal(size=[640, 2]), unit_vectors(context + rng.normal(size=[640, 3]))], 1)
    x = x.astype(np.float32)
    model = tff.FlowModel(tff.flows.product("e2+s2", context_size=3, **SMALL))
    model.fit(context, x, batch_size=64, epochs=1, verbose=0)
    before = model.evaluate(context, x, verbose=0)
    model.fit(context, x, batch_size=64, epochs=3, verbose=0)
    assert model.evaluate(context, x, verbose=0) < before
    blocks = model.distribution.bijector.bijector
    assert abs(blocks.standardize["e2"].shift.numpy() - 100).max() < 2  # the features of the first part
    expected = model.log_prob(x[:5], context[:5]).numpy()
    model.save(tmp_path / "product.keras")
    again = keras.models.load_model(tmp_path / "product.keras")
    assert isinstance(again.distribution, tff.distributions.Product)
    np.testing.assert_allclose(again.log_prob(x[:5], context[:5]), expected, rtol=1e-5)
    model.export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(loaded.log_prob(x[:5], context[:5]), expected, rtol=1e-5)


def test_a_part_of_ones_own_and_an_embedding():
    network = keras.Sequential([keras.Input((4, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    flow = tff.flows.product(
        "e2+s2",
        embedding=network,
        parts={"e2": lambda **options: tff.flows.gaussian(2, **options), "s2": {"num_layers": 2, "stack": False}},
        **SMALL,
    )
    x = tff.condition(flow, np.ones([3, 4, 2], np.float32)).sample(2, seed=(0, 1))
    assert x.shape == (2, 3, 5)
    parts = flow.log_prob_parts(x, np.ones([4, 2], np.float32))
    assert parts["s2"].shape == (2, 3)
    assert sum(isinstance(part, tff.bijectors.SphereFlow) for part in flow.submodules) == 2


def test_what_has_no_sense_is_refused():
    with pytest.raises(ValueError, match="bounds.*Received"):
        tff.flows.product("e1+i1")
    with pytest.raises(ValueError, match="names.*Received"):
        tff.flows.product("e1+s2", parts={"s3": {}})
    with pytest.raises(ValueError, match="names among .'i1'.. Received: .'e1'"):
        tff.flows.product("e1+i1", bounds={"e1": (0, 1), "i1": (0, 1)})
    with pytest.raises(ValueError, match="base for each part.*Received"):
        tff.flows.product("e1+s2", base=tfd.SphericalUniform(3))
    for argument in ({"context_size": 2}, {"dtype": tf.float64}, {"seed": 1}):
        with pytest.raises(ValueError, match="follow from the product's. Received: parts"):
            tff.flows.product("e1+s2", parts={"s2": argument})
    with pytest.raises(ValueError, match="standardize='yes'"):
        tff.flows.product("e1+s2", standardize="yes")
    with pytest.raises(ValueError, match="context of size 2"):
        tff.bijectors.ConditionalBlocks([tff.bijectors.RealNVP(2), tff.bijectors.SphereFlow()], "e2+s2")
    with pytest.raises(ValueError, match="2 bijectors"):
        tff.bijectors.ConditionalBlocks([tff.bijectors.RealNVP(2)], "e2+s2")


def test_coverage_of_every_part_and_of_all():
    flow = perturbed(tff.flows.product("e2+s2+c", **SMALL), 0.1)
    x = flow.sample(1000, seed=(0, 1)).numpy()
    right = tff.inference.manifold_coverage(flow, x)
    assert set(right) == {"e2", "s2", "c1", "all"} and all(found.inside for found in right.values())
    x[:, 2:5] = unit_vectors(x[:, 2:5] + [0.0, 0.0, 0.5])  # directions that are not those of the flow
    wrong = tff.inference.manifold_coverage(flow, x.astype(np.float32))
    assert right["e2"].observed.tolist() == wrong["e2"].observed.tolist()
    assert not wrong["s2"].inside and not wrong["all"].inside


def test_coverage_of_a_flow_on_one_manifold():
    flow = tff.flows.sphere(num_layers=1, hidden_units=(8,), seed=0)
    x = flow.sample(500, seed=(0, 1)).numpy()
    assert tff.inference.manifold_coverage(flow, x)["all"].inside
    with pytest.raises(ValueError, match="base"):
        tff.inference.manifold_coverage(
            tff.flows.sphere(num_layers=1, base=tfd.VonMisesFisher([0.0, 0.0, 1.0], 3.0)), x
        )
