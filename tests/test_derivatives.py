"""First and second derivatives, in eager mode, in compiled functions and from outside of them."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests.cases import CASES, built, events
from tests.checks import call
from tests.test_autoregressive import by_passes, directions, example, shaken
from tfp_flows import transformers
from tfp_flows._math.normal_tail import log_mills, tail_quantile
from tfp_flows.bijectors import MaskedAutoregressive

SPLINES = [transformers.LinearSpline, transformers.QuadraticSpline, transformers.CubicSpline]
SPLINES += [transformers.RationalQuadratic]


def second(function, inputs):
    """The derivatives by the inputs of a scalar of the derivatives of a function of them."""
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            y = function(inputs)
        first = inner.gradient(y, inputs, unconnected_gradients="zero")
        total = tf.add_n([tf.reduce_sum(tf.sin(part)) for part in first])
    return outer.gradient(total, inputs, unconnected_gradients="zero")


def agree(got, expected, tolerance=1e-7):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def differences(function, inputs, seed=0, step=1e-5):
    """The derivative of a scalar of a function's first derivatives along a random direction, and that direction.

    By central differences of two step sizes, extrapolated to step 0.
    """
    generator = np.random.default_rng(seed)
    directions = [tf.constant(generator.normal(size=x.shape), x.dtype) for x in inputs]

    def total(sign):
        moved = [x + sign * step * direction for x, direction in zip(inputs, directions, strict=True)]
        with tf.GradientTape() as tape:
            tape.watch(moved)
            y = function(moved)
        first = tape.gradient(y, moved, unconnected_gradients="zero")
        return sum(np.sin(part).sum() for part in first)

    return (4 * (total(1) - total(-1)) - (total(2) - total(-2)) / 2) / (6 * step), directions


def scalar_of(transform):
    def scalar(inputs):
        y, log_derivative = transform(*inputs)
        return tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_derivative**2)

    return scalar


TRANSFORMERS = [transformers.Affine(), transformers.LogisticMixture(3), *[spline(4) for spline in SPLINES]]


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda transformer: type(transformer).__name__)
def test_second_derivatives_of_transformers(transformer, direction):
    generator = np.random.default_rng(0)
    inputs = [tf.constant(generator.normal(size=size)) for size in [(5, 2), (transformer.num_parameters, 2)]]
    scalar = scalar_of(getattr(transformer, direction))
    expected, along = differences(scalar, inputs)
    got = second(scalar, inputs)
    dot = sum(np.sum(one * other) for one, other in zip(got, along, strict=True))
    np.testing.assert_allclose(dot, expected, rtol=1e-6, atol=1e-6)
    # XLA in one direction: the other has the same parts.
    compiled = tf.function(scalar, jit_compile=direction == "inverse")
    agree(second(compiled, inputs), got)
    agree(tf.function(lambda: second(compiled, inputs))(), got)


def test_third_derivatives_of_the_normal_tail():
    t = tf.constant([0.0, 0.3, 2.0, 8.0, 29.0, 31.0, 1e3], tf.float64)
    for function, x in [
        (log_mills, t),
        (lambda p: tail_quantile(p)[0], -0.7 - t),
        (lambda p: tail_quantile(p)[1], -1 - t),
    ]:

        def derivative(x, order, function=function):
            if order == 0:
                return function(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = derivative(x, order - 1)
            return tape.gradient(y, x)

        for order in (1, 2, 3):
            step = 1e-4 * (1 + np.abs(x))
            expected = (derivative(x + step, order - 1) - derivative(x - step, order - 1)) / (2 * step)
            np.testing.assert_allclose(derivative(x, order), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["Gaussianization", "LogisticMixture, inverted", "Sylvester, context", "Planar"])
def test_second_derivatives_of_bijectors_by_everything(name):
    case, bijector = CASES[name], built(name, "float64")
    x, context = events(case, "float64")
    inputs = [x, *([] if context is None else [context]), *bijector.trainable_variables]

    def scalar(inputs):
        context = inputs[1] if case.context_size else None
        y = call(bijector, "inverse", inputs[0], context)
        return tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(
            call(bijector, "inverse_log_det_jacobian", inputs[0], context) ** 2
        )

    agree(second(tf.function(scalar), inputs), second(scalar, inputs))


@pytest.mark.parametrize("how", ["eager", "from outside", "inside", "inside, XLA"])
def test_second_derivatives_one_by_one(how):
    bijector = shaken(
        MaskedAutoregressive(
            3,
            transformers.Affine(1.0),
            hidden_units=(5,),
            activation="tanh",
            context_size=2,
            input_order="random",
            dtype=tf.float64,
            seed=2,
        ),
        0.3,
    )
    w, context = example(bijector, n=2)
    inputs = [w, context, *bijector.trainable_variables]
    scalar = scalar_of(lambda w, context, *_: directions(bijector)[0](w, context))
    expected = second(scalar_of(lambda w, context, *_: by_passes(bijector, w, context)), inputs)
    if how == "eager":
        got = second(scalar, inputs)
    elif how == "from outside":
        got = second(tf.function(scalar), inputs)
    else:
        got = tf.function(lambda: second(scalar, inputs), jit_compile=how == "inside, XLA")()
    agree(got, expected)


def test_a_forward_accumulator_one_by_one_is_refused():
    bijector = shaken(tff.bijectors.MAF(3, hidden_units=(5,), dtype=tf.float64, seed=2), 0.3)
    w, _ = example(bijector, n=2)
    refused = pytest.raises(NotImplementedError, match="Received: 3 coordinates")
    with refused, tf.autodiff.ForwardAccumulator(w, tf.ones_like(w)):
        directions(bijector)[0](w, None)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("transformer", TRANSFORMERS[1:], ids=lambda transformer: type(transformer).__name__)
def test_gradients_through_a_loaded_model(transformer, jit_compile, tmp_path):
    bijector = shaken(MaskedAutoregressive(2, transformer, hidden_units=(4,), seed=2), 0.3)
    module = tf.Module()
    module.bijector = bijector
    spec = tf.TensorSpec([None, 2], tf.float32)
    module.forward = tf.function(lambda z: bijector.forward(tf.identity(z)), input_signature=[spec])
    module.inverse = tf.function(lambda x: bijector.inverse(tf.identity(x)), input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    x, _ = example(bijector)

    for name in ("forward", "inverse"):

        def gradient(x, function):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x)

        compiled = tf.function(gradient, jit_compile=jit_compile)
        expected = gradient(x, lambda x, name=name: getattr(bijector, name)(tf.identity(x)))
        np.testing.assert_allclose(compiled(x, getattr(loaded, name)), expected, rtol=1e-4, atol=1e-5)
