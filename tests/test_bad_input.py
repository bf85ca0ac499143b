"""What bad input gets: an error that says what was expected and what came, before anything changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

MOONS = tff.datasets.two_moons(64, seed=0)


@pytest.fixture(scope="module")
def model():
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0, standardize=True))
    model.compile(jit_compile=False)
    return model


@pytest.fixture(scope="module")
def conditional():
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0, context_size=3))
    model.compile(jit_compile=False)
    return model


def with_holes():
    x = np.concatenate([MOONS, MOONS])
    x[[1, 5], 1] = np.nan
    x[3, 1] = np.inf
    return x


BAD_DATA = {
    "event size": (np.zeros([8, 3], "float32"), ValueError, r"shape \('n', 2\).*Received: shape \(8, 3\)"),
    "one row without batch": (np.zeros([2], "float32"), ValueError, r"Received: shape \(2,\)"),
    "integers": (np.zeros([8, 2], "int64"), TypeError, "uniform noise.*Received: dtype int64"),
    "booleans": (np.zeros([8, 2], bool), TypeError, "Received: dtype bool"),
    "NaN": (with_holes(), ValueError, "Received: column 1: 2 NaN, 1 infinite"),
    "no rows": (np.zeros([0, 2], "float32"), ValueError, r"at least one row. Received: shape \(0, 2\)"),
}


@pytest.mark.parametrize("method", ["fit", "evaluate", "adapt"])
@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(model, name, method):
    x, error, words = BAD_DATA[name]
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(error, match=words):
        getattr(model, method)(x)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("method", ["log_prob", "inverse", "forward"])
def test_bad_events(model, method):
    with pytest.raises(ValueError, match=r"`\w+` expected events of size 2.*Received: shape \(8, 3\)"):
        getattr(model, method)(np.zeros([8, 3], "float32"))
    with pytest.raises(TypeError, match="Received: dtype int64"):
        getattr(model, method)(np.zeros([8, 2], "int64"))


def test_bad_contexts(conditional):
    context, x = np.zeros([8, 3], "float32"), np.zeros([8, 2], "float32")
    with pytest.raises(ValueError, match="takes a context. Received: x alone"):
        conditional.fit(x)
    with pytest.raises(ValueError, match=r"expected a context of shape \(3,\). Received: context=None"):
        conditional.log_prob(x)
    with pytest.raises(ValueError, match=r"context of shape \(3,\).*Received: shape \(8, 4\)"):
        conditional.log_prob(x, np.zeros([8, 4]))
    with pytest.raises(ValueError, match=r"contexts of shape \('n', 3\).*Received: shape \(8, 1\)"):
        conditional.fit(context[:, :1], x)
    with pytest.raises(ValueError, match="finite contexts. Received: column 0: 8 NaN"):
        conditional.fit(context + np.float32([np.nan, 0, 0]), x)
    with pytest.raises(ValueError, match="Received: context=None"):
        conditional.sample(3)
    with pytest.raises(TypeError, match="contexts that are numbers. Received"):
        conditional.fit(np.full([8, 3], "red"), x)


def test_unexpected_contexts(model):
    with pytest.raises(ValueError, match="takes no context. Received: a second argument"):
        model.fit(MOONS, MOONS)
    with pytest.raises(ValueError, match=r"Expected no context. Received: context of shape \(64, 2\)"):
        model.log_prob(MOONS, MOONS)
    pairs = tf.data.Dataset.from_tensor_slices((MOONS, MOONS)).batch(8)
    with pytest.raises(ValueError, match=r"Expected x or \(x, sample_weight\).*Received"):
        model.fit(pairs, verbose=0)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3"])
def test_bad_numbers_of_draws(model, n):
    with pytest.raises(ValueError, match="Expected `n` to be a positive integer. Received: n="):
        model.sample(n)


BAD_BIJECTORS = {
    "size 0": (lambda: tff.bijectors.RealNVP(0), "`event_size` to be a positive integer. Received: event_size=0"),
    "size 1": (lambda: tff.bijectors.RealNVP(1), "take MAF, .* Received: event_size=1"),
    "size 2.5": (lambda: tff.bijectors.ActNorm(2.5), "Received: event_size=2.5"),
    "mask name": (lambda: tff.bijectors.RealNVP(4, mask="checker"), "Received: mask='checker'"),
    "mask size": (lambda: tff.bijectors.RealNVP(4, mask=[True, False]), "4 booleans. Received"),
    "mask of numbers": (lambda: tff.bijectors.RealNVP(2, mask=[1.0, 0.0]), "2 booleans. Received"),
    "mask of all": (lambda: tff.bijectors.RealNVP(2, mask=[True, True]), "Received: event_size=2, mask="),
    "context size": (lambda: tff.bijectors.RealNVP(2, context_size=-1), "Received: context_size=-1"),
    "hidden units": (lambda: tff.bijectors.RealNVP(2, hidden_units=(8, 0)), r"Received: hidden_units\[1\]=0"),
    "no hidden units": (lambda: tff.bijectors.RealNVP(2, hidden_units=()), r"Received: hidden_units=\(\)"),
    "uneven blocks": (lambda: tff.conditioners.ResidualMLP(2, 2, (8, 4)), r"Received: hidden_units=\(8, 4\)"),
    "bound": (lambda: tff.bijectors.RealNVP(2, log_scale_bound=0.0), "Received: log_scale_bound=0.0"),
    "layers": (lambda: tff.flows.realnvp(2, num_layers=0), "Received: num_layers=0"),
    "conditioner size": (
        lambda: tff.bijectors.RealNVP(2, conditioner=keras.layers.Dense(3)),
        r"\(1, 2 \* 1\).*Received: output shape \(1, 3\)",
    ),
    "conditioner dtype": (
        lambda: tff.bijectors.RealNVP(2, conditioner=keras.layers.Dense(2), dtype="float64"),
        "dtype float64.*Received: output dtype float32",
    ),
}


@pytest.mark.parametrize("name", BAD_BIJECTORS)
def test_bad_bijectors(name):
    make, words = BAD_BIJECTORS[name]
    with pytest.raises(ValueError, match=words):
        make()


def test_unknown_options():
    with pytest.raises(TypeError, match="hidden_sizes"):
        tff.flows.realnvp(2, hidden_sizes=(8,))
    with pytest.raises(TypeError, match="number"):
        tff.bijectors.NICE(2, number=3)
    with pytest.raises((TypeError, ValueError), match="optimiser"):
        tff.FlowModel(tff.flows.nice(2)).compile(optimiser="adam")


def test_not_a_distribution():
    with pytest.raises(TypeError, match="Expected a `tfd.Distribution`.*Received"):
        tff.FlowModel(tff.bijectors.NICE(2))


def test_adapt_of_a_distribution_without_bijector():
    with pytest.raises(TypeError, match="Expected a distribution with a bijector.*Received"):
        tff.FlowModel(tfd.Normal(tf.Variable(0.0), 1.0)).adapt(np.ones(3, "float32"))


def test_validate_args_checks_values():
    flow = tff.flows.realnvp(2, num_layers=2, validate_args=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected finite events"):
        flow.log_prob([[np.nan, 0.0]])


def test_contexts_and_events_in_the_wrong_order_are_told_the_order():
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=1, context_size=3, seed=0))
    c, x = np.zeros([10, 3], "float32"), np.ones([10, 2], "float32")
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"data in the pair \(context, x\) of shape \('n', 2\). Received: .*10, 3"):
            method(x, c, verbose=0)
