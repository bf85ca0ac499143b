"""The smooth mixture of ramps: its derivatives, its ends, its inverse; and the flow and the forces made of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.model.force_matching import ForceMatching
from tfp_flows.transformers import Bump

KINDS = {"interval": Bump(bound=1.0), "circle": Bump(bound=1.0, circular=True), "two": Bump(2, 1.0)}
kinds = pytest.mark.parametrize("bump", KINDS.values(), ids=KINDS)


def parameters_of(bump, n=40, scale=1.0, dtype="float64"):
    generator = np.random.default_rng(0)
    noise = scale * generator.normal(size=(n, bump.num_parameters, 3))
    return tf.constant(bump.initial_parameters()[:, np.newaxis] + noise, dtype)


def points(n=40, dtype="float64"):
    return tf.constant(np.random.default_rng(1).uniform(-1, 1, size=(n, 3)), dtype)


def derivatives(function, x, order):
    """function(x) and its derivatives, elementwise, by autodiff."""
    if order == 0:
        return [function(x)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = derivatives(function, x, order - 1)
    return [*values, tape.gradient(values[-1], x)]


@kinds
def test_derivatives_are_those_of_differences(bump):
    parameters, x, h = parameters_of(bump, scale=0.5), points(), 1e-4
    _, first, second, third = derivatives(lambda x: bump.forward(x, parameters)[0], x, 3)
    np.testing.assert_allclose(tf.exp(bump.forward(x, parameters)[1]), first, rtol=1e-10)
    for higher, order in ((second, 1), (third, 2)):
        left, right = (derivatives(lambda x: bump.forward(x, parameters)[0], x + d, order)[-1] for d in (-h, h))
        scale = np.abs(higher).max()
        np.testing.assert_allclose(higher / scale, (right - left) / (2 * h * scale), atol=1e-4)


@kinds
def test_inverse_has_first_and_second_derivatives(bump):
    parameters, x = parameters_of(bump), points()
    _, f_1, f_2 = derivatives(lambda x: bump.forward(x, parameters)[0], x, 2)
    y = bump.forward(x, parameters)[0]
    inverse, g_1, g_2 = derivatives(lambda y: bump.inverse(y, parameters)[0], y, 2)
    np.testing.assert_allclose(inverse, x, atol=1e-12)
    np.testing.assert_allclose(g_1, 1 / f_1, rtol=1e-8)
    scale = np.abs(f_2 / f_1**3).max()
    np.testing.assert_allclose(g_2 / scale, -f_2 / f_1**3 / scale, atol=1e-6)
    _, slope_1 = derivatives(lambda y: bump.inverse(y, parameters)[1], y, 1)
    np.testing.assert_allclose(slope_1 / np.abs(slope_1).max(), g_2 / g_1 / np.abs(slope_1).max(), atol=1e-6)


@kinds
def test_second_derivatives_of_the_inverse_reach_the_parameters(bump):
    parameters, y, h = parameters_of(bump, scale=0.1), points(), 1e-6
    direction = tf.constant(np.random.default_rng(2).normal(size=parameters.shape))

    def force(parameters):
        return derivatives(lambda y: bump.inverse(y, parameters)[1], y, 1)[-1]

    with tf.GradientTape() as tape:
        tape.watch(parameters)
        total = tf.reduce_sum(force(parameters) ** 2)
    got = tf.reduce_sum(tape.gradient(total, parameters) * direction)
    left, right = (tf.reduce_sum(force(parameters + d * direction) ** 2) for d in (-h, h))
    np.testing.assert_allclose(got, (right - left) / (2 * h), rtol=1e-4)


def test_ends_are_those_of_the_identity_with_all_derivatives():
    bump = Bump(bound=1.0)
    parameters = parameters_of(bump, scale=3.0)
    x = tf.constant(np.resize([-1.0, 1.0, -1 + 1e-5, 1 - 1e-5, -2.0, 7.0], (40, 3)))
    y, first, second, third = derivatives(lambda x: bump.forward(x, parameters)[0], x, 3)
    np.testing.assert_allclose(y, x, atol=1e-14)
    np.testing.assert_allclose(first, np.ones_like(x), atol=1e-14)
    np.testing.assert_allclose([second, third], np.zeros([2, 40, 3]), atol=1e-9)


def test_circle_closes_with_all_derivatives_and_turns_go_through():
    bump = Bump(bound=1.0, circular=True)
    parameters = parameters_of(bump)
    ends = [
        derivatives(lambda x: bump.forward(x, parameters)[0], tf.fill([40, 3], tf.constant(end, tf.float64)), 3)
        for end in (-1.0, 1.0)
    ]
    np.testing.assert_allclose(ends[0][0], -np.ones([40, 3]), atol=1e-13)
    np.testing.assert_allclose(ends[1][0], np.ones([40, 3]), atol=1e-13)
    for left, right in zip(ends[0][1:], ends[1][1:], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-8)
        assert np.abs(left).max() > 0.1  # the end is a point like any other
    x = points()
    for method in (bump.forward, bump.inverse):
        y, log_slope = method(x, parameters)
        y_turned, log_slope_turned = method(x + 6, parameters)
        np.testing.assert_allclose(y_turned, y + 6, atol=1e-12)
        np.testing.assert_allclose(log_slope_turned, log_slope, atol=1e-8)


@kinds
def test_slope_stays_above_its_bound(bump):
    parameters = parameters_of(bump, n=400, scale=10.0)
    slope = tf.exp(bump.forward(points(400), parameters)[1])
    assert bump.min_slope * (1 - 1e-3) < np.min(slope) < 2 * bump.min_slope


@pytest.mark.parametrize("num_components", [2, 3, 4, 8, 20])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-14)])
def test_starts_as_the_identity(num_components, dtype, tolerance):
    bump, x = Bump(num_components, bound=1.0), points(dtype=dtype)
    y, log_slope = bump.forward(x, parameters_of(bump, scale=0.0, dtype=dtype))
    np.testing.assert_allclose(y, x, atol=tolerance)
    np.testing.assert_allclose(log_slope, np.zeros_like(x), atol=10 * tolerance)


@pytest.mark.parametrize("num_components, tolerance", [(2, 0.05), (4, 0.005), (5, 0.005), (6, 1.3e-4), (8, 1.3e-4)])
def test_starts_near_the_identity_on_a_circle(num_components, tolerance):
    bump, x = Bump(num_components, bound=1.0, circular=True), points()
    y, log_slope = bump.forward(x, parameters_of(bump, scale=0.0))
    np.testing.assert_allclose(y, x, atol=tolerance / num_components)
    np.testing.assert_allclose(log_slope, np.zeros_like(x), atol=tolerance)


@pytest.mark.parametrize("circular", [False, True])
def test_slope_has_no_ripples_where_the_ramps_have_left(circular):
    bump = Bump(bound=1.0, circular=circular)
    parameters = np.zeros([bump.num_parameters, 1])
    parameters[bump.num_components : 2 * bump.num_components] = 0.25 if circular else -2.0  # of [0, 1], and σ(-2)
    parameters[2 * bump.num_components :] = -6.0  # narrow
    _, log_slope = bump.forward(tf.linspace(-0.2, 0.2, 401)[:, tf.newaxis], tf.constant(parameters, tf.float32))
    assert np.max(log_slope) < np.log(2 * bump.min_slope)


@kinds
def test_any_finite_parameters_are_safe(bump):
    for size in (1e4, 1e15, 1e30):
        signs = np.resize([1.0, -1.0, 1.0, 1.0, -1.0], (bump.num_parameters, 1))
        parameters, x = tf.constant(size * signs, tf.float32), tf.constant([[-1.0], [-0.3], [0.0], [0.7], [1.0]])
        for method in (bump.forward, bump.inverse):
            with tf.GradientTape() as tape:
                tape.watch([x, parameters])
                outputs = method(x, parameters)
            for value in (*outputs, *tape.gradient(outputs, [x, parameters])):
                assert np.isfinite(value).all()


@pytest.mark.parametrize(
    "arguments", [{"num_components": 1}, {"num_components": 2.5}, {"bound": 0.0}, {"min_slope": 1.0}]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}.*Received"):
        Bump(**arguments)


def potential(x):
    """A double well along a parabola, in units of kT, and samples of it by a grid and a normal."""
    return 2.5 * (x[..., 0] ** 2 - 1) ** 2 + 3 * (x[..., 1] - 0.8 * x[..., 0] ** 2) ** 2


def samples(n, seed):
    generator = np.random.default_rng(seed)
    grid = np.linspace(-3, 3, 10_001)
    cumulative = np.cumsum(np.exp(-2.5 * (grid**2 - 1) ** 2))
    first = np.interp(generator.uniform(size=n) * cumulative[-1], cumulative, grid)
    second = 0.8 * first**2 + generator.normal(size=n) / np.sqrt(6)
    return np.stack([first, second], -1).astype("float32")


def forces_of(log_density, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = log_density(tf.identity(x))
    return tape.gradient(value, x)


def test_force_matching_is_the_likelihood_and_the_squared_error_of_forces():
    flow = tff.flows.smooth(2, num_layers=2, hidden_units=(8,), standardize=False, seed=0)
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign_add(0.3 * np.random.default_rng(k).normal(size=variable.shape).astype("float32"))
    x = samples(20, seed=0)
    forces = forces_of(lambda x: -potential(x), x)
    loss = ForceMatching(0.5).loss_per_row(flow, x, forces=forces)
    difference = forces_of(flow.log_prob, x) - forces
    expected = -flow.log_prob(tf.identity(x)) + 0.5 * tf.reduce_sum(difference**2, -1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_force_matching_comes_back_from_its_config():
    objective = ForceMatching(0.05)
    config = keras.saving.serialize_keras_object(objective)
    assert keras.saving.deserialize_keras_object(config).weight == 0.05
    with pytest.raises(ValueError, match="Received: weight=-1"):
        ForceMatching(-1)


def test_force_matching_trains():
    objective = ForceMatching(0.05)
    flow = tff.flows.smooth(2, num_layers=2, hidden_units=(32,), seed=0)
    x = samples(2000, seed=0)
    tff.FlowModel(flow).adapt(x)
    forces = forces_of(lambda x: -potential(x), x)
    optimizer = keras.optimizers.Adam(5e-3, global_clipnorm=5.0)
    variables = flow.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(x, forces):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective.loss_per_row(flow, x, forces=forces))
        optimizer.apply(tape.gradient(loss, variables), variables)

    def error():
        test = samples(1000, seed=1)
        difference = forces_of(flow.log_prob, test) - forces_of(lambda x: -potential(x), test)
        return float(tf.reduce_mean(tf.reduce_sum(difference**2, -1)))

    before = error()
    for batch in np.random.default_rng(0).permutation(2000).reshape(-1, 100).repeat(5, 0):
        step(tf.gather(x, batch), tf.gather(forces, batch))
    assert error() < 0.6 * before


def test_smooth_flow_has_closed_densities_and_no_kinks():
    flow = tff.flows.smooth(2, num_layers=2, num_components=4, hidden_units=(8,), dtype=tf.float64, seed=0)
    couplings = [part.bijector for part in flow.bijector.bijectors if hasattr(part, "bijector")]
    assert len(couplings) == 2 and all(isinstance(coupling.transformer, Bump) for coupling in couplings)
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign_add(0.3 * np.random.default_rng(k).normal(size=variable.shape))
    line = np.stack([np.linspace(-5, 5, 4001), np.full(4001, 0.3)], -1)
    forces = forces_of(flow.log_prob, line).numpy()[:, 0]
    steps = np.abs(np.diff(forces))
    # Twice as fine a line has steps half as large, where a jump would stay.
    coarse = np.abs(forces[2:] - forces[:-2])[::2]
    assert steps.max() < 0.6 * coarse.max()


def test_forces_go_with_the_events_through_fit():
    x = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    forces = -x  # of a standard normal
    flow = tff.flows.smooth(2, num_layers=2, hidden_units=(8,), num_components=2, seed=0)
    model = tff.FlowModel(flow)
    model.compile(objective=tff.objectives.ForceMatching(weight=1.0), jit_compile=False)
    history = model.fit({"x": x, "forces": forces}, epochs=2, batch_size=64, validation_split=0.1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    np.testing.assert_allclose(history["val_loss"][-1], -np.mean(model.log_prob(x[270:])), rtol=1e-4)
    pairs = tf.data.Dataset.from_tensor_slices({"x": x, "forces": forces}).batch(100)
    model.fit(pairs, verbose=0)
    for wrong in (x, {"x": x}, {"x": x, "forces": forces[:7]}, {"x": x, "forces": forces * np.nan}):
        with pytest.raises(ValueError, match="Received"):
            model.fit(wrong, verbose=0)
