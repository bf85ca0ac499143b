"""What is special about autoregressive flows: the direction that goes one by one, its gradient, and what is counted."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.bijectors import IAF, MAF, MaskedAutoregressive
from tfp_flows.conditioners import MADE, made_sequential
from tfp_flows.transformers import Additive, Affine

CASES = {
    "plain": {"activation": "tanh"},
    "inverse of IAF, gated residual": {
        "one_pass": "forward",
        "residual": True,
        "context_size": 2,
        "context_mode": "gated",
        "hidden_units": (9,),
        "activation": "tanh",
    },
    "drawn masks": {
        "input_order": "random",
        "hidden_degrees": "random",
        "num_masks": 2,
        "context_size": 2,
        "hidden_units": (13, 8),
        "activation": "tanh",
    },
}


def shaken(bijector, size=0.5, seed=0):
    """The bijector with every trainable weight away from its start."""
    generator = np.random.default_rng(seed)
    for variable in bijector.trainable_variables:
        variable.assign_add(size * generator.normal(size=variable.shape))
    return bijector


def example(bijector, n=4, seed=1):
    generator = np.random.default_rng(seed)
    event = tf.constant(generator.normal(size=(n, bijector.event_size)), bijector.dtype)
    if not bijector.context_size:
        return event, None
    return event, tf.constant(generator.normal(size=(n, bijector.context_size)), bijector.dtype)


def directions(bijector):
    """The methods that go one by one and in one pass, each with its log-determinant."""
    methods = [bijector._forward_and_log_det, bijector._inverse_and_log_det]
    return methods if bijector.one_pass == "inverse" else methods[::-1]


def by_passes(bijector, w, context):
    """The direction that goes one by one as the papers have it: D passes of the network."""
    made = bijector.conditioner
    transform = getattr(bijector.transformer, "forward" if bijector.one_pass == "inverse" else "inverse")
    v = tf.zeros_like(w)
    for _ in range(bijector.event_size):
        parameters = tf.reshape(made(v, context=context), [-1, made.params, made.event_size])
        v, log_slopes = transform(w, parameters)
    return v, tf.reduce_sum(log_slopes, -1)


@pytest.mark.parametrize("event_size", [1, 2, 7, 33])
@pytest.mark.parametrize("case", CASES)
def test_one_by_one_equals_as_many_passes(case, event_size):
    options = {
        **CASES[case],
        "hidden_units": tuple(units + event_size for units in CASES[case].get("hidden_units", (9, 8))),
    }
    bijector = shaken(MaskedAutoregressive(event_size, Affine(1.0), dtype=tf.float64, seed=2, **options), 0.3)
    w, context = example(bijector)
    got, log_det = directions(bijector)[0](w, context)
    expected, expected_log_det = by_passes(bijector, w, context)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_as_many_passes(case, jit_compile):
    bijector = shaken(MaskedAutoregressive(8, Affine(1.0), dtype=tf.float64, seed=2, **CASES[case]), 0.3)
    w, context = example(bijector)
    weights = np.random.default_rng(3).normal(size=(2, 4, 8))

    def gradients(direction):
        inputs = [w, *([] if context is None else [context]), *bijector.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            v, log_det = direction(w, context)
            loss = tf.reduce_sum(weights[0] * v) + tf.reduce_sum(weights[1, :, 0] * log_det)
        return tape.gradient(loss, inputs)

    got = tf.function(lambda: gradients(directions(bijector)[0]), jit_compile=jit_compile)()
    for one, other in zip(got, gradients(lambda w, context: by_passes(bijector, w, context)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_gradient_by_a_context_for_all_points():
    bijector = shaken(MAF(3, context_size=2, dtype=tf.float64, activation="tanh", seed=2))
    z, _ = example(bijector)
    context = tf.constant([0.3, -0.2], tf.float64)
    gradients = []
    for direction in (directions(bijector)[0], lambda z, context: by_passes(bijector, z, context)):
        with tf.GradientTape() as tape:
            tape.watch(context)
            loss = tf.reduce_sum(direction(z, context)[0] ** 2)
        gradients.append(tape.gradient(loss, context))
    np.testing.assert_allclose(*gradients, rtol=1e-10)


@pytest.mark.parametrize("batch_shape", [(), (5, 2), (0,)])
def test_any_batch_shape_and_a_context_that_broadcasts(batch_shape):
    bijector = shaken(MAF(3, context_size=2, dtype=tf.float64, seed=0))
    x = tf.constant(np.random.default_rng(0).normal(size=(*batch_shape, 3)))
    context = tf.constant([[0.1, 0.2]], tf.float64) if batch_shape == (5, 2) else tf.constant([0.1, 0.2], tf.float64)
    back = bijector.forward(tf.identity(bijector.inverse(x, context=context)), context=context)
    np.testing.assert_allclose(back, x, atol=1e-10)
    assert back.shape == (*batch_shape, 3)


def test_many_points_are_taken_in_turns(monkeypatch):
    bijector = shaken(MAF(3, context_size=2, dtype=tf.float64, seed=0))
    z, context = example(bijector, n=10)
    at_once = bijector._forward_and_log_det(z, context)
    monkeypatch.setattr(made_sequential, "ROWS", 4)
    most = []
    solve = made_sequential._solve

    def counted(made, networks, step, w, context):
        most.append(int(tf.shape(w)[0]))
        return solve(made, networks, step, w, context)

    monkeypatch.setattr(made_sequential, "_solve", counted)
    for got, expected in zip(bijector._forward_and_log_det(z, context), at_once, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert most == [4, 4, 4]


@pytest.fixture
def counts(monkeypatch):
    """How often the networks of all layers were evaluated, in one pass and one by one."""
    found = {"one pass": 0, "one by one": 0}

    def counting(name, function):
        def counted(*args, **kwargs):
            found[name] += 1
            return function(*args, **kwargs)

        return counted

    monkeypatch.setattr(MADE, "evaluate", counting("one pass", MADE.evaluate))
    monkeypatch.setattr(made_sequential, "_solve", counting("one by one", made_sequential._solve))
    return found


@pytest.mark.parametrize("flow, fast, slow", [("maf", "log_prob", "sample"), ("iaf", "sample", "log_prob")])
def test_one_evaluation_a_layer(counts, flow, fast, slow):
    distribution = getattr(tff.flows, flow)(3, num_layers=4, seed=0)
    call = {
        "log_prob": lambda: distribution.log_prob(tf.ones([2, 3])),
        "sample": lambda: distribution.sample(2, seed=0),
    }
    counts.update({"one pass": 0, "one by one": 0})
    call[fast]()
    assert counts == {"one pass": 4, "one by one": 0}
    call[slow]()
    assert counts == {"one pass": 4, "one by one": 4}
    distribution.experimental_sample_and_log_prob(2, seed=1)
    assert counts == ({"one pass": 4, "one by one": 8} if flow == "maf" else {"one pass": 8, "one by one": 4})


@pytest.mark.parametrize("flow", ["maf", "iaf", "neural_spline_autoregressive"])
def test_flows_have_orders_in_turn_and_a_density(flow):
    make = functools.partial(getattr(tff.flows, flow), stack=False)
    layers = make(3, num_layers=3, seed=0, standardize=False).bijector.bijectors
    assert [layer.conditioner.order.tolist() for layer in layers] == [[0, 1, 2], [2, 1, 0], [0, 1, 2]]
    layers = make(3, num_layers=2, input_order=[1, 0, 2], seed=0, standardize=False).bijector.bijectors
    assert [layer.conditioner.order.tolist() for layer in layers] == [[1, 0, 2], [2, 0, 1]]
    layers = make(9, num_layers=2, input_order="random", act_norm=True, seed=0, standardize=False).bijector.bijectors
    assert layers[1].conditioner.order.tolist() != layers[3].conditioner.order.tolist()

    # The density of a flow of one coordinate integrates to one.
    distribution = make(1, num_layers=2, seed=0)
    shaken(distribution.bijector, 0.1)
    x = np.linspace(-40, 40, 20_001, dtype=np.float32)
    assert np.trapezoid(np.exp(distribution.log_prob(x[:, None])), x) == pytest.approx(1, abs=1e-3)


def test_new_is_a_standard_normal():
    for flow in (tff.flows.maf, tff.flows.iaf):
        x = tf.random.stateless_normal([5, 4], [0, 1])
        expected = tfd.Independent(tfd.Normal(tf.zeros(4), 1.0), 1).log_prob(x)
        np.testing.assert_allclose(flow(4, seed=0).log_prob(x), expected, rtol=1e-5)


def test_bad_arguments_are_refused():
    for make, message in [
        (lambda: MaskedAutoregressive(3, Additive(), one_pass="both"), "one_pass='both'"),
        (lambda: IAF(100), r"hidden_units=\(64, 64\)"),
        (lambda: MAF(3, input_order=[0, 1]), r"input_order=\[0, 1\]"),
        (lambda: tff.flows.maf(0), "event_size=0"),
        (lambda: tff.flows.maf(2, num_layers=0), "num_layers=0"),
    ]:
        with pytest.raises(ValueError, match=f"Received: .*{message}"):
            make()
