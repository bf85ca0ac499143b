"""Training conditional flows: the regression ladder, simulators, gates, and the pictures of what comes out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff

COVARIANCE = np.array([[1.0, 0.8], [0.8, 2.0]])


def correlated(rng, batch_size):
    """x = 2 c + noise of a known covariance."""
    context = rng.uniform(-1, 1, size=[batch_size, 1])
    return context, 2 * context + rng.multivariate_normal([0, 0], COVARIANCE, size=batch_size)


def test_each_rung_of_the_ladder_reaches_its_own_maximum_of_the_likelihood():
    """The mean of -log p of a normal with the best parameters of each kind, in closed form."""
    log_2pi, variances = np.log(2 * np.pi), np.diag(COVARIANCE)
    expected = {
        "unit": log_2pi + variances.sum() / 2,
        "diag": log_2pi + 1 + np.log(variances).sum() / 2,
        "full": log_2pi + 1 + np.log(np.linalg.det(COVARIANCE)) / 2,
    }
    assert expected["unit"] > expected["diag"] > expected["full"]
    context, x = correlated(np.random.default_rng(1), 20_000)
    for covariance, nll in expected.items():
        flow = tff.flows.gaussian(2, covariance, context_size=1, hidden_units=(8,), activation="tanh", seed=0)
        model = tff.FlowModel(flow)
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, 300)))
        model.fit(tff.datasets.simulator(correlated, 256, seed=0), steps_per_epoch=300, verbose=0)
        assert abs(model.evaluate(np.float32(context), np.float32(x), verbose=0) - nll) < 0.04, covariance
        mean, found = tff.inference.moments(model, 20_000, context=[0.5], seed=0)
        np.testing.assert_allclose(mean, [1.0, 1.0], atol=0.15)
        if covariance == "full":
            np.testing.assert_allclose(found, COVARIANCE, atol=0.2)


def test_the_rungs_of_the_ladder():
    assert tff.flows.gaussian(3, "unit").trainable_variables[0].shape == (1, 3)
    with pytest.raises(ValueError, match="Received: act_norm=True"):
        tff.flows.gaussian(3, "unit", act_norm=True)
    with pytest.raises(ValueError, match=r"Expected `covariance` to be one of.*Received: covariance='banded'"):
        tff.flows.gaussian(3, "banded")
    moved = tff.flows.gaussian(2, "full", standardize=True, dtype=tf.float64)
    model = tff.FlowModel(moved)
    model.adapt(np.random.default_rng(0).normal(5, 2, size=[1000, 2]))
    np.testing.assert_allclose(np.mean(model.sample(5000, seed=0), 0), [5, 5], atol=0.2)


def tensors(seed, batch_size):
    context, noise = tf.unstack(tf.random.stateless_normal([2, batch_size, 2], seed))
    return {"a": context, "b": context[:, :1]}, context + noise, tf.ones([batch_size])


@pytest.mark.parametrize("fn", [correlated, tensors])
def test_simulators_repeat_by_seed_and_never_within(fn):
    def first(seed, n=3):
        return [np.array(tf.nest.flatten(batch)[-2]) for batch in tff.datasets.simulator(fn, 8, seed=seed).take(n)]

    one, again, other = first(0), first(0), first(1)
    np.testing.assert_array_equal(one, again)
    assert not np.any(np.equal(one, other)) and len(np.unique(one)) == np.size(one)
    data = tff.datasets.simulator(fn, 8, seed=0)
    assert all(spec.shape[0] == 8 and spec.dtype == tf.float32 for spec in tf.nest.flatten(data.element_spec))
    for batch, expected in zip(data.take(2), one, strict=False):  # the same pipeline starts again where it started
        np.testing.assert_array_equal(tf.nest.flatten(batch)[-2], expected)


def test_simulators_with_a_dictionary_and_weights_train():
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    network = keras.Model({"a": a, "b": b}, keras.layers.Concatenate()([a, b]))
    model = tff.FlowModel(tff.flows.gaussian(2, "diag", embedding=network, seed=0))
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(tff.datasets.simulator(tensors, 128, seed=0), steps_per_epoch=50, epochs=4, verbose=0)
    optimum = np.log(2 * np.pi) + 1
    assert optimum - 0.05 < history.history["loss"][-1] < min(optimum + 0.1, history.history["loss"][0])


def test_bad_simulators():
    for fn, words in [
        (lambda n: n, r"function of \(seed, batch_size\) or \(rng, batch_size\). Received: \['n'\]"),
        (lambda rng, n: rng.normal(size=[3, 2]), r"draws 8 rows when asked to. Received: shapes \[\(3, 2\)\]"),
        (lambda seed, n: tf.zeros([n + 1, 2]), r"draws 8 rows"),
    ]:
        with pytest.raises(ValueError, match=words):
            tff.datasets.simulator(fn, 8)
    with pytest.raises(ValueError, match=r"Received: batch_size=0"):
        tff.datasets.simulator(correlated, 0)


@pytest.mark.parametrize("kind", [tff.conditioners.MLP, tff.conditioners.ResidualMLP])
def test_gates_let_the_context_scale_what_passes(kind):
    layer = kind(3, 4, (8, 8), context_size=2, context_mode="gated", activation="tanh", seed=0)
    generator = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(weight + 0.3 * generator.normal(size=weight.shape))
    assert len(layer.gate_layers) == 2 and layer.context_layer is None
    x, context = generator.normal(size=[5, 3]).astype("float32"), generator.normal(size=[5, 2]).astype("float32")

    def sigmoid(k):
        return 1 / (1 + np.exp(-(context @ layer.gate_layers[k].kernel + layer.gate_layers[k].bias)))

    hidden = x @ layer.input_layer.kernel + layer.input_layer.bias
    if kind is tff.conditioners.MLP:
        second = layer.hidden_layers[0]
        hidden = (np.tanh(hidden * sigmoid(0)) @ second.kernel + second.bias) * sigmoid(1)
    else:
        for k, (inner, outer) in enumerate(layer.blocks):
            block = np.tanh(np.tanh(hidden) @ inner.kernel + inner.bias) @ outer.kernel + outer.bias
            hidden = hidden + block * sigmoid(k)
    expected = np.tanh(hidden) @ layer.output_layer.kernel + layer.output_layer.bias
    np.testing.assert_allclose(layer(x, context), expected, rtol=1e-4, atol=1e-5)
    again = kind.from_config(layer.get_config())
    assert again.context_mode == "gated" and len(again.weights) == len(layer.weights)
    with pytest.raises(ValueError, match=r'"add" or "gated". Received: context_mode=\'film\''):
        kind(3, 4, (8, 8), context_size=2, context_mode="film")


def test_pictures():
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("corner")
    pytest.importorskip("scipy")  # corner smooths its contours by it
    matplotlib.use("agg")
    from matplotlib import pyplot

    x = np.random.default_rng(0).normal(size=[500, 2])
    flow = tff.flows.gaussian(2, "unit")
    found = tff.inference.importance_sample(flow, lambda x: -tf.reduce_sum(x**2, -1), 500, seed=0)
    figure = tff.plotting.posterior(found.samples, [0.0, 0.0], ["a", "b"], found.weights)
    figures = [
        tff.plotting.density(tff.flows.gaussian(1, "unit"), (-3, 3), truth=[0.5], labels=["mass"]),
        tff.plotting.density(flow, ((-3, 3), (-2, 2)), truth=[0.5, 1.0], labels=["a", "b"], num_points=20),
        tff.plotting.posterior(x, figure=figure, color="black"),
        tff.plotting.coverage(tff.inference.coverage(flow, x)),
        tff.plotting.ranks(tff.inference.rank_statistics(flow, x, seed=0), ["a", "b"]),
    ]
    assert all(isinstance(figure, matplotlib.figure.Figure) for figure in figures)
    line = figures[0].axes[0].lines[0]
    np.testing.assert_allclose(np.mean(line.get_ydata()) * 6, 0.9973, atol=0.01)
    assert figures[3].axes[0].get_xlabel() == "nominal coverage" and len(figures[4].axes) == 2
    many = np.random.default_rng(1).normal(size=[5000, 2])
    many[0] = [1e3, 0.0]  # a stray sample
    stray = tff.plotting.posterior(many, truth=[9.0, 0.0])
    assert 9.0 <= stray.axes[0].get_xlim()[1] < 10.0
    with pytest.raises(ValueError, match=r"Received: bounds=\[1.0, 2.0, 3.0\]"):
        tff.plotting.density(flow, (1, 2, 3))
    pyplot.close("all")
