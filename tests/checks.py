"""The contract of every bijector, one function a sentence. Values that TFP's cache knows go through `tf.identity`."""

import itertools
import json
import re

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tests.cases import events
from tfp_flows import saving
from tfp_flows.context import context_arguments

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
METHODS = ("forward", "inverse", "forward_log_det_jacobian", "inverse_log_det_jacobian")


def call(bijector, method, x, context=None):
    """One of TFP's methods on a tensor the cache has not seen, with the context on TFP's own route."""
    return getattr(bijector, method)(tf.identity(x), **context_arguments(bijector, context))


def assert_close(case, got, expected, dtype, room=1.0):
    tolerance = TOLERANCE[dtype] * case.room * room
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def round_trip(case, bijector, dtype):
    x, context = events(case, dtype, (16,))
    for there, back in (("forward", "inverse"), ("inverse", "forward")):
        start = case.given(x, there)
        y = call(bijector, there, start, context)
        assert_close(case, call(bijector, back, y, context), start, dtype)


def log_det_is_that_of_the_jacobian(case, bijector, dtype):
    x, context = events(case, dtype)
    for method in ("forward", "inverse"):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = call(bijector, method, case.given(x, method), context)
        jacobian = np.asarray(tape.batch_jacobian(y, x, experimental_use_pfor=False))
        if case.unit_vectors:
            jacobian = np.einsum("nia,nij,njb->nab", tangents(y), jacobian, tangents(x))
        else:
            jacobian = jacobian.reshape(-1, case.num_coordinates, case.num_coordinates)
        expected = np.linalg.slogdet(jacobian)[1]
        got = call(bijector, f"{method}_log_det_jacobian", case.given(x, method), context)
        # A determinant of D x D is a sum of many products.
        assert_close(case, got, expected, dtype, room=10 * case.num_coordinates)


def tangents(x):
    """Two orthonormal vectors at right angles to every unit vector of `[n, 3]`, as columns: `[n, 3, 2]`."""
    return np.linalg.svd(np.asarray(x)[:, :, np.newaxis])[0][:, :, 1:]


def log_dets_are_opposite(case, bijector, dtype):
    x, context = events(case, dtype)
    z = case.given(x, "forward")
    y = call(bijector, "forward", z, context)
    assert_close(
        case,
        call(bijector, "forward_log_det_jacobian", z, context),
        -call(bijector, "inverse_log_det_jacobian", y, context),
        dtype,
        room=case.num_coordinates,
    )


def value_and_log_det_agree_in_the_cache(case, bijector, dtype):
    x, context = events(case, dtype)
    arguments = context_arguments(bijector, context)
    for method in ("forward", "inverse"):
        start = case.given(x, method)
        fresh = tf.identity(start)
        kept = getattr(bijector, method)(fresh, **arguments)
        cached = getattr(bijector, f"{method}_log_det_jacobian")(fresh, **arguments)
        assert_close(case, kept, call(bijector, method, start, context), dtype)
        assert_close(case, cached, call(bijector, f"{method}_log_det_jacobian", start, context), dtype)


def batch_equals_loop(case, bijector, dtype):
    x, context = events(case, dtype, (2, 3))
    for method in METHODS:
        start = case.given(x, method)
        whole = call(bijector, method, start, context)
        for index in np.ndindex(2, 3):
            one = call(bijector, method, start[index], None if context is None else context[index])
            assert_close(case, whole[index], one, dtype, room=10)


def context_broadcasts(case, bijector, dtype):
    x, context = events(case, dtype, (3, 2))
    for method in METHODS:
        start = case.given(x, method)
        wide = call(bijector, method, start, tf.broadcast_to(context[:1], context.shape))
        assert_close(case, call(bijector, method, start, context[0]), wide, dtype, room=10)
        one = call(bijector, method, start[0, 0], context)
        assert one.shape[:2] == (3, 2)


def gradient_reaches_every_variable(case, bijector, dtype):
    x, context = events(case, dtype, (8,))
    for method in ("forward", "inverse"):
        with tf.GradientTape() as tape:
            start = case.given(x, method)
            y = call(bijector, method, start, context)
            log_det = call(bijector, f"{method}_log_det_jacobian", start, context)
            loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
        for variable, gradient in zip(
            bijector.trainable_variables, tape.gradient(loss, bijector.trainable_variables), strict=True
        ):
            assert gradient is not None, f"{method}: {variable.name}"
            gradient = tf.convert_to_tensor(gradient)
            assert np.isfinite(gradient).all(), f"{method}: {variable.name}"
            # Keras numbers the names of layers through the process: made_3/kernel_0.
            layer_name = re.sub(r"_\d+/", "/", variable.name)
            excused = any(name in layer_name for name in case.no_gradient)
            assert excused or np.any(gradient), f"{method}: {variable.name} has gradient 0"


def dtype_is_kept(case, bijector, dtype):
    x, context = events(case, dtype)
    for method in METHODS:
        assert call(bijector, method, case.given(x, method), context).dtype == dtype
    assert {variable.dtype.name for variable in bijector.trainable_variables} <= {dtype}


def shapes_are_those_of_the_batch(case, bijector, dtype):
    for shape in [(), (4,), (2, 3), (0,), (2, 0)]:
        x, context = events(case, dtype, shape)
        for method in METHODS:
            back = "inverse" if method == "forward" else "forward"
            expected = shape if "log_det" in method else (*shape, *case.shape_for(back))
            got = call(bijector, method, case.given(x, method), context).shape
            assert got == expected, f"{method} of batch shape {shape}"


def saved_graph_equals_eager(case, bijector, dtype, tmp_path):
    """A graph of any batch size computes what eager mode does, and so it does once saved and loaded."""
    arguments = _arguments(case, dtype)
    module = tf.Module()
    module.bijector = bijector
    module.call = tf.function(
        lambda *arguments: list(itertools.chain(*_directions(case, bijector, arguments))),
        input_signature=_open_batch(case, dtype),
    )
    _assert_as_in_eager(case, bijector, dtype, module.call(*arguments))  # and it is traced, which saving would do again
    # Gradients of loaded functions are in tests/test_derivatives.py: to trace them takes longer than all else here.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(tmp_path), options=options)
    loaded = tf.saved_model.load(str(tmp_path))  # its functions do not keep its variables alive
    _assert_as_in_eager(case, bijector, dtype, loaded.call(*arguments))


def xla_equals_eager(case, bijector, dtype):
    """Values, and gradients by everything, of one program for any batch size that XLA compiles."""

    @tf.function(jit_compile=True, input_signature=_open_batch(case, dtype))
    def compiled(*arguments):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arguments)
            results = list(_directions(case, bijector, arguments))
            losses = [tf.reduce_sum(y**2) + tf.reduce_sum(log_det) for y, log_det in results]
        sources = [*arguments, *bijector.trainable_variables]
        gradients = [tape.gradient(loss, sources, unconnected_gradients="zero") for loss in losses]
        return list(itertools.chain(*results)), gradients

    results, gradients = compiled(*_arguments(case, dtype))
    _assert_as_in_eager(case, bijector, dtype, results)
    assert all(np.isfinite(gradient).all() for gradient in tf.nest.flatten(gradients))


def _directions(case, bijector, arguments):
    """Value and log-determinant of both directions; TFP's cache brings the second with the first."""
    x, *context = arguments
    keywords = context_arguments(bijector, *(context or [None]))
    for direction in ("forward", "inverse"):
        start = tf.identity(case.given(x, direction))
        yield (
            getattr(bijector, direction)(start, **keywords),
            getattr(bijector, f"{direction}_log_det_jacobian")(start, **keywords),
        )


def _assert_as_in_eager(case, bijector, dtype, got):
    # A compiler adds in another order.
    expected = itertools.chain(*_directions(case, bijector, _arguments(case, dtype)))
    for one, other in zip(got, expected, strict=True):
        assert_close(case, one, other, dtype, room=10)


def _arguments(case, dtype):
    x, context = events(case, dtype)
    return (x,) if context is None else (x, context)


def _open_batch(case, dtype):
    shapes = [case.event_shape, case.context_shape] if case.context_size else [case.event_shape]
    return [tf.TensorSpec([None, *shape], dtype) for shape in shapes]


def extreme_input_is_safe(case, bijector, dtype):
    """No NaN for any finite input, no infinity for any up to 1e15, in value and in gradient."""
    _, context = events(case, dtype)
    for size in (0.0, 1e-38, 1e-30, 1e4, 1e15, 1e30):
        signs = np.resize([1.0, -1.0, 1.0, 1.0, -1.0], (4, case.num_coordinates))
        signs[2] = 1.0
        signs[3, 0] = 0.0
        x = tf.constant((size * signs).reshape(4, *case.event_shape), dtype)
        for method in METHODS:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = call(bijector, method, case.given(x, method), context)
            excused = case.why_overflow and size > 1e15 and dtype == "float32"
            gradients = [] if excused else tape.gradient(y, [x, *bijector.trainable_variables])
            for value in [y, *(tf.convert_to_tensor(g) for g in gradients if g is not None)]:
                assert not np.isnan(value).any(), f"{method} of size {size}"
                # Squares and matrix products of 1e30 overflow float32.
                assert size > 1e15 or np.isfinite(value).all(), f"{method} of size {size}"


def starts_as_identity(case, bijector, dtype):
    x, context = events(case, dtype)
    new = case.make(dtype=dtype, seed=3)
    assert_close(case, call(new, "forward", x, context), x, dtype)


def seed_fixes_every_parameter(case, bijector, dtype):
    one, same = (case.make(dtype=dtype, seed=3).variables for _ in range(2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)


def config_round_trip(case, bijector, dtype):
    x, context = events(case, dtype)
    config = json.loads(json.dumps(saving.to_config(bijector)))
    again = saving.from_config(config)
    for variable, saved in zip(again.variables, bijector.variables, strict=True):
        assert variable.shape == saved.shape and variable.trainable == saved.trainable
        variable.assign(saved)
    for method in METHODS:
        start = case.given(x, method)
        assert_close(case, call(again, method, start, context), call(bijector, method, start, context), dtype)


def copy_is_another(case, bijector, dtype):
    x, context = events(case, dtype)
    assert call(bijector.copy(), "forward", case.given(x, "forward"), context).shape == x.shape


def variables_count_the_same(case, bijector, dtype):
    base = tfd.Sample(tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype)), case.shape_for("forward"))
    model = tff.FlowModel(tfd.TransformedDistribution(base, bijector))
    ours = {id(variable) for variable in bijector.variables}
    assert len(ours) == len(bijector.variables)
    assert {id(weight.value) for weight in model.weights} == ours
    assert len(model.weights) == len(ours)
    trainable = {id(variable) for variable in bijector.trainable_variables}
    assert {id(weight.value) for weight in model.trainable_weights} == trainable
    assert keras.src.utils.summary_utils.count_params(model.weights) == sum(
        v.shape.num_elements() for v in bijector.variables
    )


def bad_input_is_refused(case, bijector, dtype):
    if not isinstance(bijector, tff.bijectors.Bijector):
        return  # TFP's own compositions have their own words
    x, context = events(case, dtype)
    for method in METHODS:
        *sizes, size = case.shape_for(method)
        for wrong in (tf.zeros([4, *sizes, size + 1], dtype), tf.zeros([], dtype)):
            _raises(ValueError, bijector, method, wrong, context)
        _raises(TypeError, bijector, method, np.zeros([4, *sizes, size], "int32"), context)
        start = case.given(x, method)
        if case.context_size:
            *sizes, size = case.context_shape
            _raises(ValueError, bijector, method, start, None)
            _raises(ValueError, bijector, method, start, tf.zeros([4, *sizes, size + 1], dtype))
        else:
            _raises(ValueError, bijector, method, start, tf.zeros([4, 1], dtype))


def _raises(error, bijector, method, x, context):
    try:
        getattr(bijector, method)(x, **({} if context is None else {"context": context}))
    except error as raised:
        assert bijector.name in str(raised) and "Received:" in str(raised), str(raised)
    else:
        raise AssertionError(f"Expected {error.__name__} of {method} for {x.shape} {x.dtype}")
