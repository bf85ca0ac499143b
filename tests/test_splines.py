"""The splines: their values against TFP's, their derivatives against finite differences, and their awkward cases."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.transformers import CubicSpline, LinearSpline, QuadraticSpline, RationalQuadratic
from tfp_flows.transformers.cubic_spline import _cubic, _inverse_cubic

BOUND = 3.0
SPLINES = {
    "rational-quadratic": RationalQuadratic(num_bins=5),
    "rational-quadratic, linear tails": RationalQuadratic(num_bins=5, tails="linear"),
    "rational-quadratic, circular": RationalQuadratic(num_bins=5, circular=True),
    "rational-quadratic, one bin": RationalQuadratic(num_bins=1),
    "rational-quadratic, one bin, linear tails": RationalQuadratic(num_bins=1, tails="linear"),
    "rational-quadratic, one bin, circular": RationalQuadratic(num_bins=1, circular=True),
    "linear": LinearSpline(num_bins=5),
    "linear, linear tails": LinearSpline(num_bins=5, tails="linear"),
    "linear, one bin": LinearSpline(num_bins=1),
    "quadratic": QuadraticSpline(num_bins=5),
    "quadratic, linear tails": QuadraticSpline(num_bins=5, tails="linear"),
    "quadratic, one bin": QuadraticSpline(num_bins=1),
    "quadratic, one bin, linear tails": QuadraticSpline(num_bins=1, tails="linear"),
    "cubic": CubicSpline(num_bins=5),
    "cubic, linear tails": CubicSpline(num_bins=5, tails="linear"),
    "cubic, one bin": CubicSpline(num_bins=1),
    "cubic, one bin, linear tails": CubicSpline(num_bins=1, tails="linear"),
}
# One of each kind, small, for what does not depend on the details and takes time to compile.
KINDS = {
    "rational-quadratic": RationalQuadratic(num_bins=3),
    "rational-quadratic, circular": RationalQuadratic(num_bins=2, circular=True),
    "linear": LinearSpline(num_bins=3),
    "quadratic": QuadraticSpline(num_bins=3),
    "cubic, linear tails": CubicSpline(num_bins=3, tails="linear"),
}

every_spline = pytest.mark.parametrize("spline", SPLINES.values(), ids=SPLINES.keys())
every_kind = pytest.mark.parametrize("spline", KINDS.values(), ids=KINDS.keys())
both_directions = pytest.mark.parametrize("direction", ["forward", "inverse"])
both_precisions = pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])


def points_and_parameters(spline, shape=(400, 3), dtype="float64", scale=1.0, seed=0):
    """Points inside and outside of the interval, and parameters for each of them."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1.5 * BOUND, 1.5 * BOUND, shape)
    parameters = scale * random.normal(size=(*shape[:-1], spline.num_parameters, shape[-1]))
    return tf.constant(x, dtype), tf.constant(parameters, dtype)


def value_and_gradients(function, *arguments):
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    return value, tape.gradient(value, arguments)


@every_spline
@both_precisions
def test_zeros_give_the_identity(spline, dtype, tolerance):
    x, parameters = points_and_parameters(spline, dtype=dtype, scale=0.0)
    for direction in (spline.forward, spline.inverse):
        y, log_derivative = direction(x, parameters)
        epsilon = np.finfo(dtype).eps
        np.testing.assert_allclose(y, x, rtol=0, atol=8 * BOUND * epsilon)
        np.testing.assert_allclose(log_derivative, np.zeros_like(x), rtol=0, atol=8 * epsilon)


@every_spline
@both_precisions
def test_the_inverse_of_the_forward_is_the_input(spline, dtype, tolerance):
    x, parameters = points_and_parameters(spline, dtype=dtype, scale=0.7)
    y, log_slope = spline.forward(x, parameters)
    x_again, log_inverse_slope = spline.inverse(y, parameters)
    np.testing.assert_allclose(x_again, x, rtol=tolerance, atol=BOUND * tolerance)
    np.testing.assert_allclose(log_inverse_slope, -log_slope, atol=20 * tolerance)


@every_spline
@both_directions
def test_log_derivative_is_that_of_autodiff(spline, direction):
    x, parameters = points_and_parameters(spline)
    y, log_derivative = getattr(spline, direction)(x, parameters)
    _, (slope, _) = value_and_gradients(lambda x, p: getattr(spline, direction)(x, p)[0], x, parameters)
    np.testing.assert_allclose(tf.math.log(slope), log_derivative, atol=1e-10)
    assert y.shape == log_derivative.shape == x.shape


@every_spline
@both_directions
def test_gradients_are_those_of_finite_differences(spline, direction):
    # Parameters shared by the batch, so that the gradient also has to be summed over it.
    x, _ = points_and_parameters(spline, (50, 2))
    parameters = points_and_parameters(spline, (1, 2), seed=1)[1][0]
    weights = tf.constant(np.random.default_rng(2).normal(size=(2, 50, 2)))

    def loss(x, parameters):
        y, log_derivative = getattr(spline, direction)(x, parameters)
        return tf.reduce_sum(weights[0] * y + weights[1] * log_derivative, axis=[-2, -1])

    _, (d_x, d_parameters) = value_and_gradients(loss, x, parameters)
    step = 1e-6
    one_each = step * tf.reshape(tf.eye(parameters.shape[0] * 2, dtype=x.dtype), [-1, 1, *parameters.shape])
    difference = (loss(x, parameters + one_each) - loss(x, parameters - one_each)) / (2 * step)
    np.testing.assert_allclose(tf.reshape(d_parameters, [-1]), difference, rtol=1e-5, atol=1e-5)
    difference = (loss(x + step * weights[0], parameters) - loss(x - step * weights[0], parameters)) / (2 * step)
    np.testing.assert_allclose(tf.reduce_sum(d_x * weights[0]), difference, rtol=1e-5, atol=1e-5)


@every_kind
@both_directions
def test_second_derivatives_are_those_of_finite_differences(spline, direction):
    x, parameters = points_and_parameters(spline, (20, 2))
    to_parameters = tf.constant(np.random.default_rng(3).normal(size=parameters.shape))

    def slope_along(parameters):
        def loss(parameters):
            y, log_derivative = getattr(spline, direction)(x, parameters)
            return tf.reduce_sum(y**2 + log_derivative)

        return tf.reduce_sum(value_and_gradients(loss, parameters)[1][0] * to_parameters)

    def curvature(parameters):
        return tf.reduce_sum(value_and_gradients(slope_along, parameters)[1][0] * to_parameters)

    step = 1e-5 * to_parameters
    difference = (slope_along(parameters + step) - slope_along(parameters - step)) / 2e-5
    np.testing.assert_allclose(curvature(parameters), difference, rtol=1e-5)
    if spline == KINDS["rational-quadratic"]:
        np.testing.assert_allclose(tf.function(curvature)(parameters), difference, rtol=1e-5)


@every_kind
@both_directions
def test_every_way_to_run(spline, direction):
    x, parameters = points_and_parameters(spline, (4, 3))
    function = getattr(spline, direction)
    signature = [
        tf.TensorSpec([None, 3], x.dtype),
        tf.TensorSpec([None, spline.num_parameters, 3], x.dtype),
    ]

    def values_and_gradient(x, parameters):
        (y, log_derivative), (_, d_parameters) = value_and_gradients(function, x, parameters)
        return y, log_derivative, d_parameters

    expected = values_and_gradient(x, parameters)
    for compiled in (
        tf.function(function, input_signature=signature),
        tf.function(values_and_gradient, input_signature=signature, jit_compile=True),
    ):
        for value, wanted in zip(compiled(x, parameters), expected, strict=False):
            np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)


@every_kind
def test_jacobian_by_vectorized_map(spline):
    x, parameters = points_and_parameters(spline, (4, 2))

    @tf.function
    def jacobian(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            y, _ = spline.inverse(x, parameters)
        return tape.batch_jacobian(y, parameters)

    for i in range(2):
        _, (row,) = value_and_gradients(lambda p, i=i: spline.inverse(x, p)[0][:, i], parameters)
        np.testing.assert_allclose(jacobian(parameters)[:, i], row, rtol=1e-9, atol=1e-12)


@every_kind
def test_shapes(spline):
    for x_shape, parameter_shape in (
        ([0, 3], [0, spline.num_parameters, 3]),
        ([3], [spline.num_parameters, 3]),
        ([2, 1, 4, 3], [5, 1, spline.num_parameters, 3]),
        ([3], [5, spline.num_parameters, 3]),
        ([5, 3], [spline.num_parameters, 1]),
    ):
        shape = tf.broadcast_static_shape(tf.TensorShape(x_shape), tf.TensorShape([*parameter_shape[:-2], 3]))
        for direction in (spline.forward, spline.inverse):
            for result in direction(tf.ones(x_shape), tf.zeros(parameter_shape)):
                assert result.shape == shape


@every_spline
@both_directions
def test_slope_at_knots_and_ends(spline, direction):
    parameters = points_and_parameters(spline, (1, 1), scale=0.5)[1][0]
    function = getattr(spline, direction)
    grid = np.linspace(-1.2 * BOUND, 1.2 * BOUND, 200_001)[:, None]
    y, log_derivative = (np.squeeze(result) for result in function(tf.constant(grid), parameters))
    step = grid[1, 0] - grid[0, 0]
    difference = np.diff(y) / step
    assert np.all(difference > 0)
    # The mean of the slopes at both ends of a step, wherever the slope does not jump.
    middle = (np.exp(log_derivative[1:]) + np.exp(log_derivative[:-1])) / 2
    jumps = np.abs(difference - middle) > 1e-4 * (1 + middle)
    if isinstance(spline, LinearSpline):
        assert jumps.sum() <= spline.num_bins + 1
    else:
        assert not jumps.any()
    # And the value never jumps.
    assert np.max(np.diff(y)) < 2 * step * np.exp(np.max(log_derivative))


@every_spline
@both_directions
def test_ends_and_tails(spline, direction):
    parameters = points_and_parameters(spline, (1, 1), dtype="float32")[1][0]
    far = np.array([3.0, 3.5, 1e3, 1e15, 1e30], "float32")
    x = tf.constant(np.concatenate([-far, far])[:, None])
    (y, log_derivative), (d_x, d_parameters) = value_and_gradients(getattr(spline, direction), x, parameters)
    for result in (y, log_derivative, d_x, d_parameters[:, :0]):
        assert np.all(np.isfinite(result))
    _, gradients = value_and_gradients(getattr(spline, direction), x[np.abs(x[:, 0]) < 1e16], parameters)
    assert np.all(np.isfinite(gradients[1]))
    np.testing.assert_allclose(y[::5], x[::5], rtol=1e-6)
    if spline.tails == "identity" and not getattr(spline, "circular", False):
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(log_derivative, tf.zeros_like(x))
        np.testing.assert_array_equal(d_parameters, tf.zeros_like(parameters))


@every_spline
@both_directions
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_bins_at_their_floor(spline, direction, size):
    for seed in range(3):
        x, parameters = points_and_parameters(spline, (2000, 1), "float32", seed=seed)
        # Each parameter at one of both extremes, and some among them all at the same.
        parameters = size * tf.sign(parameters)
        parameters = tf.where(tf.range(2000)[:, None, None] < 100, tf.abs(parameters), parameters)
        x = tf.concat([x[:-2], [[-BOUND], [BOUND]]], axis=0)
        (y, log_derivative), gradients = value_and_gradients(getattr(spline, direction), x, parameters)
        for result in (y, log_derivative, *gradients):
            assert np.all(np.isfinite(result))
        x, parameters = tf.sort(x, axis=0), parameters[seed]
        y, _ = getattr(spline, direction)(x, parameters)
        # Where the slope is near 0 the rounding of the knots is all that is left of a difference.
        assert np.all(np.diff(y, axis=0) >= -4e-6 * (1 + np.abs(y[1:])))


def test_rational_quadratic_equals_that_of_tfp():
    num_bins, floor = 8, 1e-3
    spline = RationalQuadratic(num_bins=num_bins, bound=BOUND)
    x, parameters = points_and_parameters(spline, (25_000, 4))
    widths, heights, slopes = tf.split(tf.transpose(parameters, [0, 2, 1]), [num_bins, num_bins, num_bins - 1], -1)

    def of_tfp(dtype):
        sizes = [2 * BOUND * (floor + (1 - num_bins * floor) * tf.nn.softmax(logits)) for logits in (widths, heights)]
        knot_slopes = floor + tf.nn.softplus(slopes + np.log(np.expm1(1 - floor)))
        return tfp.bijectors.RationalQuadraticSpline(
            *(tf.cast(tensor, dtype) for tensor in (*sizes, knot_slopes)), range_min=tf.constant(-BOUND, dtype)
        )

    def all_values(forward, inverse):
        return [np.asarray(result, "float64") for result in (*forward, *inverse)]

    def ours(dtype):
        x_, parameters_ = tf.cast(x, dtype), tf.cast(parameters, dtype)
        return all_values(spline.forward(x_, parameters_), spline.inverse(x_, parameters_))

    def theirs(dtype):
        tfp_spline, x_ = of_tfp(dtype), tf.cast(x, dtype)
        return all_values(
            (tfp_spline.forward(x_), tfp_spline.forward_log_det_jacobian(x_)),
            (tfp_spline.inverse(x_), tfp_spline.inverse_log_det_jacobian(x_)),
        )

    exact = theirs("float64")
    for result, wanted in zip(ours("float64"), exact, strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-11)
    # In float32 both round the knots, and a steep bin amplifies that: ours is not further from the truth than TFP's.
    for result, of_theirs, wanted in zip(ours("float32"), theirs("float32"), exact, strict=True):
        error, their_error = np.abs(result - wanted), np.abs(of_theirs - wanted)
        assert np.median(error) < 1e-6
        assert np.sqrt(np.mean(error**2)) < 1.5 * np.sqrt(np.mean(their_error**2))


def test_circle_closes():
    spline = SPLINES["rational-quadratic, circular"]
    x, parameters = points_and_parameters(spline, (1, 4))
    ends = tf.constant([[-BOUND], [BOUND], [-BOUND + 1e-9], [BOUND - 1e-9]], tf.float64)
    y, log_slope = spline.forward(ends, parameters[0])
    np.testing.assert_allclose(y, tf.broadcast_to(ends, y.shape), atol=1e-7)
    np.testing.assert_allclose(log_slope, tf.broadcast_to(log_slope[:1], log_slope.shape), atol=1e-6)
    assert np.all(np.abs(log_slope) > 1e-3)
    for direction in (spline.forward, spline.inverse):
        y, log_derivative = direction(x, parameters)
        y_later, log_derivative_later = direction(x + 4 * BOUND, parameters)
        np.testing.assert_allclose(y_later, y + 4 * BOUND, atol=1e-12)
        np.testing.assert_allclose(log_derivative_later, log_derivative, atol=1e-11)


@both_precisions
def test_roots_of_the_cubic(dtype, tolerance):
    # Slopes of all sizes with the line (1, 1), parabolas (α + β = 2) and near triple roots (3, 0) among them; values
    # from the very ends to the middle. Among these cubics all numbers of real roots occur.
    slopes = np.array([1e-6, 1e-3, 0.1, 0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 1.5, 1.9, 2.0])
    α, β = (grid.ravel() for grid in np.meshgrid(np.append(slopes, 3.0), slopes))
    α, β = np.concatenate([α, β]), np.concatenate([β, α])
    η = np.concatenate([[0, 1, 0.5], 10.0 ** np.arange(-9, 0), 1 - 10.0 ** np.arange(-9, 0), np.linspace(0, 1, 101)])
    cubics = np.array([[a + b - 2, 3 - 2 * a - b, a, -0.3] for a, b in np.stack([α, β], axis=1)])
    assert {1, 3} <= {np.count_nonzero(np.isreal(np.roots(cubic))) for cubic in cubics}
    α, β, η = (tf.constant(values, dtype) for values in (α[:, None], β[:, None], η))
    ξ, slope = _inverse_cubic(η, α, β)
    np.testing.assert_allclose(_cubic(ξ, α, β), tf.broadcast_to(η, ξ.shape), atol=tolerance / 10)
    assert np.all(slope > 0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RationalQuadratic(num_bins=0), "Received: num_bins=0"),
        (lambda: LinearSpline(num_bins=2.0), "Received: num_bins=2.0"),
        (lambda: QuadraticSpline(bound=-1.0), "Received: bound=-1.0"),
        (lambda: CubicSpline(bound=float("inf")), "Received: bound=inf"),
        (lambda: RationalQuadratic(min_bin_width=0.125), "Received: min_bin_width=0.125, num_bins=8"),
        (lambda: CubicSpline(min_bin_height=0.0), "Received: min_bin_height=0.0, num_bins=8"),
        (lambda: QuadraticSpline(min_slope=1.0), "Received: min_slope=1.0"),
        (lambda: RationalQuadratic(tails="open"), "Received: tails='open'"),
        (lambda: RationalQuadratic(tails="linear", circular=True), "Received: .*tails='linear', circular=True"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
