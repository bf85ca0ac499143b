"""What is special about the linear maps: their matrices, starts and safety."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows import bijectors


def moved(bijector, size=0.5):
    """The bijector with its weights away from their start."""
    generator = np.random.default_rng(0)
    for variable in bijector.trainable_variables:
        variable.assign_add(size * generator.normal(size=variable.shape).astype(variable.dtype.as_numpy_dtype))
    return bijector


def matrix_of(bijector):
    """The matrix of a linear map, from the images of the unit vectors."""
    size = bijector.event_size
    zero = bijector.forward(tf.zeros([size], bijector.dtype))
    return (bijector.forward(tf.eye(size, dtype=bijector.dtype)) - zero).numpy().T


@pytest.mark.parametrize("permute", [False, True])
def test_lu_is_p_times_l_times_u(permute):
    linear = moved(bijectors.LULinear(5, permute=permute, dtype="float64", seed=1))
    raw = linear.lower_upper.numpy()
    lower = np.tril(raw, -1) + np.eye(5)
    upper = np.triu(raw, 1) + np.diag(1e-3 + (1 - 1e-3) * np.log1p((np.e - 1) * np.exp(np.diag(raw))))
    np.testing.assert_allclose(matrix_of(linear), np.eye(5)[linear.permutation] @ lower @ upper, atol=1e-14)


def test_a_new_lu_is_its_permutation():
    linear = bijectors.LULinear(6, permute=True, seed=0)
    x = np.arange(6, dtype="float32")
    assert not np.array_equal(linear.permutation, np.arange(6))
    np.testing.assert_array_equal(linear.forward(x), x[linear.permutation])


@pytest.mark.parametrize("kind", [bijectors.LULinear, bijectors.TriangularAffine])
def test_scales_never_reach_zero(kind):
    linear = kind(3)
    for variable in linear.trainable_variables:
        variable.assign(-1e4 * tf.ones_like(variable))
    assert np.linalg.svd(matrix_of(linear), compute_uv=False).min() > 0
    assert np.isfinite(linear.inverse_log_det_jacobian(tf.ones([3])))


def test_triangular_affine_is_the_general_normal():
    affine = moved(bijectors.TriangularAffine(3, dtype="float64"))
    matrix = matrix_of(affine)
    np.testing.assert_array_equal(matrix, np.tril(matrix))
    z = np.random.default_rng(0).normal(size=[7, 3])
    np.testing.assert_allclose(affine.forward(z), z @ matrix.T + affine.shift.numpy(), atol=1e-14)
    np.testing.assert_allclose(affine.forward_log_det_jacobian(z), np.log(np.diag(matrix)).sum() * np.ones(7))


@pytest.mark.parametrize("num_reflections", [1, 2, 5, 8])
def test_householder_is_orthogonal(num_reflections):
    rotation = moved(bijectors.Householder(5, num_reflections, dtype="float64", seed=0))
    matrix = matrix_of(rotation)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(5), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(matrix), (-1) ** num_reflections)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [0.0, 1e-38, 1e-20, 1e-5, 1e30])
def test_householder_is_orthogonal_for_vectors_of_any_length(length, dtype):
    rotation = bijectors.Householder(3, 2, dtype=dtype, seed=0)
    rotation.vectors.assign(length * np.array([[1.0, -2.0, 3.0], [1.0, 1.0, 0.0]]))
    with tf.GradientTape() as tape:
        image = rotation.forward(tf.eye(3, dtype=dtype))
    np.testing.assert_allclose(image @ tf.transpose(image), np.eye(3), atol=1e-6 if dtype == "float32" else 1e-14)
    assert np.isfinite(tape.gradient(image, rotation.vectors)).all()


def test_a_context_gives_each_event_its_own_rotation():
    rotation = moved(bijectors.Householder(3, context_size=2, dtype="float64", seed=0))
    context = tf.constant(np.random.default_rng(1).normal(size=[4, 2]))
    z = tf.constant(np.random.default_rng(2).normal(size=[4, 3]))
    x = rotation.forward(z, context=context)
    np.testing.assert_allclose(tf.norm(x, axis=-1), tf.norm(z, axis=-1))
    for k in range(4):
        np.testing.assert_allclose(rotation.forward(z[k], context=context[k]), x[k], atol=1e-14)


def test_one_solve_serves_the_whole_batch():
    """The inverse makes no copy of the matrix for every event: 10⁶ events of 30 numbers would need 7 GB."""
    linear = moved(bijectors.LULinear(30), size=0.01)
    graph = tf.function(linear.inverse).get_concrete_function(tf.TensorSpec([10**6, 30])).graph
    shapes = [output.shape for operation in graph.get_operations() for output in operation.outputs]
    assert max(shape.num_elements() or 0 for shape in shapes) <= 30 * 10**6


@pytest.mark.parametrize(
    "make",
    [
        lambda: bijectors.Householder(3, num_reflections=0),
        lambda: bijectors.LULinear(0),
        lambda: bijectors.TriangularAffine(2, context_size=-1),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(ValueError, match="Received: "):
        make()


@pytest.mark.parametrize("make", [tff.bijectors.LULinear, tff.bijectors.TriangularAffine, tff.bijectors.DiagonalAffine])
def test_moments_and_entropy_of_affine_flows(make):
    layers = [tff.bijectors.ActNorm(3, dtype=tf.float64), make(3, dtype=tf.float64, seed=1)]
    layers.append(tff.bijectors.Householder(3, dtype=tf.float64, seed=2))
    base = tfd.MultivariateNormalDiag(tf.zeros(3, tf.float64), tf.ones(3, tf.float64))
    flow = tfd.TransformedDistribution(base, tfb.Chain(layers))
    for seed in range(2):  # twice: no value of the first weights may stay
        generator = np.random.default_rng(seed)
        for variable in flow.trainable_variables:
            variable.assign_add(generator.normal(size=variable.shape, scale=0.5))
        shift = flow.bijector.forward(np.zeros(3)).numpy()
        matrix = (flow.bijector.forward(np.eye(3)).numpy() - shift).T
        np.testing.assert_allclose(flow.mean(), shift, rtol=1e-10)
        np.testing.assert_allclose(flow.covariance(), matrix @ matrix.T, rtol=1e-10, atol=1e-12)
        entropy = 1.5 * np.log(2 * np.pi * np.e) + np.linalg.slogdet(matrix)[1]
        np.testing.assert_allclose(flow.entropy(), entropy, rtol=1e-10)
    assert not make(3, context_size=2, seed=1).is_constant_jacobian
    assert not tff.flows.nice(3).bijector.is_constant_jacobian


def linear_data(num_rows, num_features, noise=0.1, seed=0):
    """x [n, 3] linear in contexts [n, C], with correlated noise."""
    random = np.random.default_rng(seed)
    context = random.normal(size=[num_rows, num_features]) + 5
    x = 2 * context[:, :3] + noise * random.normal(size=[num_rows, 3]) @ [[1, 1, 0], [0, 1, 0], [0, 0, 3]]
    return x, context


def test_linear_regression_is_least_squares_where_data_are_many():
    x, context = linear_data(2000, 4)
    regression = bijectors.LinearRegression(3, context_size=4, dtype="float64")
    assert not regression.is_adapted
    regression.adapt(x, context)
    assert regression.is_adapted
    design = np.concatenate([context, np.ones([2000, 1])], 1)
    expected, *_ = np.linalg.lstsq(design, x, rcond=None)
    np.testing.assert_allclose(regression.coefficients, expected[:-1], atol=1e-4)
    mean = regression.forward(tf.zeros([2000, 3], "float64"), context=context)
    np.testing.assert_allclose(mean, design @ expected, atol=1e-4)
    z = regression.inverse(x, context=context).numpy()
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=0.02)


@pytest.mark.parametrize("num_features", [40, 55, 200])
def test_linear_regression_of_few_data_does_not_believe_its_own_residuals(num_features):
    x, context = linear_data(60, num_features)
    regression = bijectors.LinearRegression(3, context_size=num_features, dtype="float64")
    regression.adapt(x, context)
    x, context = linear_data(2000, num_features, seed=1)
    z = regression.inverse(x, context=context).numpy()
    assert np.all(z.std(0) < 2)  # residuals of least squares in the data themselves would give far more


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("num_rows, num_features", [(2, 1), (3, 50), (50, 3)])
def test_linear_regression_knows_no_units(num_rows, num_features):
    random = np.random.default_rng(0)
    x, context = random.normal(size=[num_rows, 2]), random.normal(size=[num_rows, num_features])
    results = []
    for unit in (1, 1e6):
        regression = bijectors.LinearRegression(2, context_size=num_features, dtype="float64")
        regression.adapt(x, unit * context)
        results.append(regression.inverse(tf.constant(x), context=tf.constant(unit * context)))
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_linear_regression_of_what_is_known_exactly_or_constant():
    _, context = linear_data(50, 3)
    for x in (np.ones([50, 3]), context):
        regression = bijectors.LinearRegression(3, context_size=3)
        regression.adapt(x, np.concatenate([context[:, :2], np.ones([50, 1])], 1))
        z = regression.inverse(tf.cast(x, tf.float32), context=tf.ones([50, 3]))
        assert (
            np.isfinite(z).all() and np.isfinite(regression.inverse_log_det_jacobian(z, context=tf.ones([50, 3]))).all()
        )


@pytest.mark.parametrize("rows", [1, 2])
def test_linear_regression_refuses_what_it_cannot_take(rows):
    with pytest.raises(ValueError, match="Received: context_size=0"):
        bijectors.LinearRegression(3)
    regression = bijectors.LinearRegression(1, context_size=1)
    with pytest.raises(ValueError, match="Received: .* rows"):
        regression.adapt(np.full([rows, 1], np.nan if rows > 1 else 0.0), np.ones([rows, 1]))
    assert not regression.is_adapted
