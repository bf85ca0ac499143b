"""Continuous flows: the solver against equations with known solutions, the divergence, flow matching, penalties."""

import keras
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows import saving
from tfp_flows._math.ode import Solver
from tfp_flows.bijectors import Continuous
from tfp_flows.conditioners import Velocity
from tfp_flows.model.flow_matching import FlowMatching, PenalizedLikelihood, exchanged

A = np.array([[0.0, 1.0], [-4.0, 0.3]])
Y = np.random.default_rng(0).normal(size=(5, 2))


def linear(t, y, constants):
    """dy/dt = y A, of which y e^A is the solution at time 1."""
    return tf.matmul(y, constants[0])


def moved(bijector, size=0.3):
    """The bijector with its weights away from their start."""
    generator = np.random.default_rng(0)
    for variable in bijector.trainable_variables:
        variable.assign_add(size * generator.normal(size=variable.shape).astype(variable.dtype.name))
    return bijector


def linear_velocity(size=2, dtype="float64"):
    """v = z A, as a layer of plain Keras; time does not matter."""
    layer = keras.layers.Dense(size, use_bias=False, dtype=dtype)
    layer.build((None, size + 1))
    layer.set_weights([np.vstack([A[:size, :size], np.zeros([1, size])])])
    return layer


# The solver


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("begin, end", [(0.0, 1.0), (1.0, 0.0)])
def test_the_error_is_that_of_the_tolerance(begin, end, per_row):
    exact = Y @ scipy.linalg.expm(A * (end - begin))
    for tolerance in (1e-5, 1e-9):
        solver = Solver(linear, begin, end, rtol=tolerance, atol=tolerance, per_row=per_row)
        error = np.abs(solver(tf.constant(Y), [tf.constant(A)]) - exact).max()
        assert tolerance / 1000 < error < 5 * tolerance


@pytest.mark.parametrize("method, order", [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_error_of_fixed_steps_falls_with_their_order(method, order):
    exact = Y @ scipy.linalg.expm(A)
    errors = [
        np.abs(Solver(linear, 0.0, 1.0, method, max_steps=steps)(tf.constant(Y), [tf.constant(A)]) - exact).max()
        for steps in (40, 80)
    ]
    assert abs(np.log2(errors[0] / errors[1]) - order) < 0.2


def test_the_first_step_needs_no_second_try_and_wastes_none():
    calls = []

    def counted(t, y, constants):
        tf.py_function(lambda: calls.append(1), [], [])
        return linear(t, y, constants)

    Solver(counted, 0.0, 1.0)(tf.constant(Y), [tf.constant(A)])
    # Two for the first step size, six for each step; at a constant step 1e-5 takes about seven steps here.
    assert len(calls) <= 2 + 6 * 9


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("method", ["dormand_prince", "midpoint"])
def test_gradients_are_those_of_the_steps(method, jit_compile):
    solver = Solver(linear, 0.0, 1.0, method, rtol=1e-9, atol=1e-9, max_steps=100)
    weight = tf.constant(np.random.default_rng(1).normal(size=Y.shape))

    def value(y, a):
        return tf.reduce_sum(weight * tf.sin(solver(y, [a])))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def gradient(y, a):
        with tf.GradientTape() as tape:
            tape.watch([y, a])
            loss = value(y, a)
        return tape.gradient(loss, [y, a])

    got = gradient(tf.constant(Y), tf.constant(A))
    for index, part in enumerate(got):
        expected = differences(value, [Y, A], index)
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


def differences(function, arguments, index, epsilon=1e-5):
    """The gradient by one argument, from differences of the function's values."""
    gradient = np.zeros_like(arguments[index])
    for place in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved_arguments = [np.array(argument) for argument in arguments]
            moved_arguments[index][place] += sign * epsilon
            values.append(float(function(*map(tf.constant, moved_arguments))))
        gradient[place] = (values[0] - values[1]) / (2 * epsilon)
    return gradient


def test_too_few_steps_are_an_error_with_time_and_step_size_and_nan_under_xla():
    solver = Solver(linear, 0.0, 1.0, rtol=1e-10, atol=1e-10, max_steps=5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?s)max_steps.*Received: a step of size.*at time"):
        solver(tf.constant(Y), [tf.constant(A)])
    assert np.isnan(tf.function(solver, jit_compile=True)(tf.constant(Y), [tf.constant(A)])).all()


def test_a_row_that_is_not_finite_has_no_say():
    solver = Solver(linear, 0.0, 1.0)
    alone = solver(tf.constant(Y), [tf.constant(A)])
    beside = solver(tf.constant(np.vstack([Y, [[np.nan, 1.0]], [[np.inf, 0.0]]])), [tf.constant(A)])
    np.testing.assert_allclose(beside[:5], alone, rtol=1e-12)
    assert not np.isfinite(beside[5:]).all(-1).any()


def test_with_a_step_size_for_each_row_neighbours_do_not_matter():
    def stiff(t, y, constants):  # a row's rate is its second entry
        return tf.concat([y[:, 1:] * tf.cos(y[:, 1:] * t), tf.zeros_like(y[:, 1:])], -1)

    rows = tf.constant([[0.0, 1.0], [0.0, 30.0]], tf.float64)
    for per_row in (True, False):
        solver = Solver(stiff, 0.0, 1.0, per_row=per_row)
        both, first, second = (solver(part, [])[:, 0].numpy() for part in (rows, rows[:1], rows[1:]))
        np.testing.assert_allclose(both, np.sin([1.0, 30.0]), atol=1e-4)
        assert np.isclose(both[0], first[0], rtol=1e-13, atol=0.0) == per_row
        np.testing.assert_allclose(both, np.concatenate([first, second]), atol=1e-4)


# The bijector


def test_a_linear_velocity_gives_the_matrix_exponential():
    flow = Continuous(2, linear_velocity(), rtol=1e-9, atol=1e-9, dtype=tf.float64)
    x = flow.forward(tf.constant(Y))
    np.testing.assert_allclose(x, Y @ scipy.linalg.expm(A), atol=1e-8)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(tf.constant(Y)), np.trace(A), atol=1e-8)
    np.testing.assert_allclose(flow.inverse(tf.identity(x)), Y, atol=1e-8)
    np.testing.assert_allclose(flow.inverse_log_det_jacobian(tf.identity(x)), -np.trace(A), atol=1e-8)


@pytest.mark.parametrize("hidden_units", [(6,), (6, 5), (6, 5, 4)])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_the_divergence_is_the_trace_of_the_jacobian(hidden_units, activation):
    velocity = Velocity(3, hidden_units, activation, context_size=2, seed=0, dtype="float64")
    for weight in velocity.trainable_variables:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    z, time = tf.constant(np.random.default_rng(1).normal(size=(4, 3))), tf.constant([[0.3]], tf.float64)
    context = tf.constant([[1.0, -1.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(z)
        v = velocity(z, time, context)
    expected = tf.linalg.trace(tape.batch_jacobian(v, z))
    got_v, divergence = velocity.value_and_divergence(z, time, velocity.constants(context))
    np.testing.assert_allclose(got_v, v, rtol=1e-12)
    np.testing.assert_allclose(divergence, expected, rtol=1e-10)


def test_log_prob_and_gradient_at_1e_6_are_those_of_a_float64_reference():
    def made(dtype, tolerance):
        accuracy = {"rtol": tolerance, "atol": tolerance, "max_steps": 2000}
        return tff.flows.continuous(2, hidden_units=(16, 16), dtype=dtype, seed=0, **accuracy)

    flow, reference = moved(made(tf.float32, 1e-6)), made(tf.float64, 1e-10)
    for variable, value in zip(reference.variables, flow.variables, strict=True):
        variable.assign(tf.cast(value, tf.float64))
    x = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
    results = []
    for distribution in (flow, reference):
        with tf.GradientTape() as tape:
            log_prob = distribution.log_prob(tf.constant(x, distribution.dtype))
            loss = tf.reduce_mean(log_prob)
        gradient = tape.gradient(loss, distribution.trainable_variables)
        results.append((log_prob.numpy(), np.concatenate([np.ravel(part) for part in gradient])))
    (log_prob, gradient), (exact, exact_gradient) = results
    assert np.std(exact) > 0.5
    np.testing.assert_allclose(log_prob, exact, atol=1e-4)
    assert np.linalg.norm(gradient - exact_gradient) < 1e-4 * np.linalg.norm(exact_gradient)


def test_log_prob_has_second_derivatives():
    flow = moved(tff.flows.continuous(2, hidden_units=(4, 4), rtol=1e-9, atol=1e-9, dtype=tf.float64, seed=0))
    kernel = flow.trainable_variables[0]

    @tf.function(autograph=False)
    def force_loss(x):
        """The squared force, and its gradient by x and by a weight."""
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                log_prob = tf.reduce_sum(flow.log_prob(x))
            loss = tf.reduce_sum(inner.gradient(log_prob, x) ** 2)
        return loss, *outer.gradient(loss, [x, kernel])

    x = Y[:1]
    _, by_x, by_kernel = force_loss(tf.constant(x))
    np.testing.assert_allclose(by_x, differences(lambda x: force_loss(x)[0], [x], 0), rtol=1e-5, atol=1e-6)
    start = kernel.numpy()

    def at(kernel_value):
        kernel.assign(kernel_value)
        return force_loss(tf.constant(x))[0]

    np.testing.assert_allclose(by_kernel, differences(at, [start], 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("noise", ["rademacher", "normal"])
def test_the_estimated_trace_is_new_in_training_without_bias_and_the_same_otherwise(noise):
    flow = Continuous(2, linear_velocity(dtype="float32"), "hutchinson", noise=noise, seed=3)
    z = tf.zeros([4000, 2])
    assert len(np.unique(flow.forward_log_det_jacobian(z))) == 1
    np.testing.assert_array_equal(flow.forward_log_det_jacobian(z), flow.forward_log_det_jacobian(tf.identity(z)))
    e = flow.noise(z).numpy()[0]
    np.testing.assert_allclose(flow.forward_log_det_jacobian(z)[0], e @ A @ e, rtol=1e-4)

    class Trained(keras.layers.Layer):
        def call(self, z, training=None):
            return flow.forward_log_det_jacobian(tf.identity(z))

    log_det = Trained()(z, training=True).numpy()
    assert abs(log_det.mean() - np.trace(A)) < 5 * log_det.std() / np.sqrt(len(z))
    assert np.any(log_det != Trained()(z, training=True).numpy())


def test_auto_is_exact_where_that_is_cheap():
    assert Continuous(40).noise is None and Continuous(2, linear_velocity(), dtype=tf.float64).noise is None
    wide = keras.layers.Dense(17)
    assert Continuous(17, wide).noise is not None
    assert Continuous(17, wide, "exact").noise is None


def test_another_solver_shares_the_weights_and_few_steps_are_near():
    flow = moved(Continuous(2, hidden_units=(8, 8), seed=0))
    z = tf.constant(Y, tf.float32)
    for solver, steps, tolerance in (("euler", 100, 0.05), ("midpoint", 10, 0.05), ("rk4", 40, 1e-3)):
        fast = flow.with_solver(solver=solver, num_steps=steps)
        assert [id(a) for a in fast.variables] == [id(b) for b in flow.variables]
        np.testing.assert_allclose(fast.forward(tf.identity(z)), flow.forward(z), atol=tolerance)
        assert np.any(fast.forward(tf.identity(z)) != flow.forward(z))


def test_another_solver_for_a_whole_flow_shares_what_was_adapted():
    embedding = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for options in ({"context_size": 2}, {"embedding": embedding}):
        flow = tff.flows.continuous(2, hidden_units=(4, 4), seed=0, **options)
        context = np.random.default_rng(1).normal(size=(64, 2)) * [1.0, 30.0]
        tff.FlowModel(flow).adapt(np.random.default_rng(0).normal(size=(64, 2)) * 5 + 3, context=context)
        moved(flow)
        fast = tff.flows.with_solver(flow, solver="midpoint", num_steps=10)
        assert {id(variable) for variable in fast.variables} == {id(variable) for variable in flow.variables}
        near, exact = (tff.condition(f, context[:5]).sample(4, seed=(0, 1)) for f in (fast, flow))
        np.testing.assert_allclose(near, exact, atol=0.05 * np.std(exact))
        assert np.any(near != exact)
    with pytest.raises(ValueError, match="continuous part"):
        tff.flows.with_solver(tff.flows.nice(2), solver="euler")


def test_sampling_takes_no_log_determinant(monkeypatch):
    flow = tff.flows.continuous(2, hidden_units=(4, 4), seed=0)
    monkeypatch.setattr(Velocity, "value_and_divergence", None)
    assert flow.sample(3, seed=(0, 1)).shape == (3, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"trace": "approximate"},
        {"solver": "heun"},
        {"step_size": "each"},
        {"noise": "uniform"},
        {"rtol": 0.0},
        {"atol": -1.0},
        {"num_steps": 0},
        {"max_steps": 1.5},
        {"hidden_units": ()},
        {"velocity": keras.layers.Dense(3)},
        {"velocity": keras.layers.Dense(2, dtype="float64")},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_bad_options_are_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        Continuous(2, **arguments)


def test_fit_evaluates_and_exports(tmp_path):
    x = tff.datasets.two_moons(300, seed=0)
    model = tff.FlowModel(tff.flows.continuous(2, hidden_units=(8, 8), seed=0))
    model.adapt(x)
    model.compile(keras.optimizers.Adam(1e-2))
    before = model.evaluate(x, verbose=0)
    model.fit(x, batch_size=128, epochs=4, verbose=0)  # the last batch is smaller
    assert model.evaluate(x, verbose=0) < before - 0.05
    model.export(str(tmp_path / "flow"))
    served = tf.saved_model.load(str(tmp_path / "flow"))
    np.testing.assert_allclose(served.log_prob(x[:7]), model.log_prob(x[:7]), atol=1e-3)
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_allclose(again.log_prob(x[:7]), model.log_prob(x[:7]), atol=1e-3)


# Objectives


def trained(flow, objective, x, context=None, steps=400, batch_size=256, learning_rate=5e-3):
    """Trains in a loop of its own, as a user without `fit` would."""
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))
    weights = [weight for layer in tff.FlowModel(flow).layers for weight in layer.trainable_weights]
    optimizer.build(weights)

    @tf.function(jit_compile=True, autograph=False)
    def step(k):
        seed = tf.stack([k, 7])
        rows = tf.random.stateless_uniform([batch_size], seed, 0, len(x), tf.int32)
        given = None if context is None else tf.gather(context, rows)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective.loss_per_row(flow, tf.gather(x, rows), given, seed))
        optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]), weights)
        return loss

    return [float(step(tf.constant(k))) for k in range(steps)]


def correlated(n, seed=0):
    scale = np.array([[2.0, 0.0], [1.2, 0.5]])
    exact = tfd.MultivariateNormalTriL([5.0, -3.0], scale.astype("float32"))
    return exact.sample(n, seed=(0, seed)).numpy(), exact


def test_a_velocity_of_zero_costs_the_length_of_the_paths():
    flow = tff.flows.continuous(2, standardize=False, seed=0)
    x = tf.constant([[3.0, 4.0]] * 20_000)
    loss = FlowMatching().loss_per_row(flow, x, None, (0, 1)).numpy()
    assert loss.shape == (20_000,)
    # |x₁ - x₀|² = 25 + 2 on average, for a standard normal x₀.
    assert abs(loss.mean() - 27.0) < 5 * loss.std() / np.sqrt(len(loss))
    assert np.any(loss != FlowMatching().loss_per_row(flow, x, None, (0, 2)).numpy())
    np.testing.assert_array_equal(loss, FlowMatching().loss_per_row(flow, x, None, (0, 1)).numpy())


@pytest.mark.parametrize("coupling", ["independent", "optimal_transport"])
def test_flow_matching_learns_a_gaussian(coupling):
    x, exact = correlated(20_000)
    flow = tff.flows.continuous(2, hidden_units=(32, 32), seed=0)
    tff.FlowModel(flow).adapt(x)
    losses = trained(flow, FlowMatching(coupling), x)
    fresh, _ = correlated(2000, seed=1)
    assert np.mean(losses[-50:]) < 0.9 * losses[0]
    assert np.mean(exact.log_prob(fresh) - tff.FlowModel(flow).log_prob(fresh)) < 0.03


def test_flow_matching_learns_a_posterior_through_an_embedding():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20_000, 1)).astype("float32")
    context = np.repeat(x, 4, axis=1) + generator.normal(size=(20_000, 4)).astype("float32")
    embedding = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    flow = tff.flows.continuous(1, hidden_units=(32, 32), embedding=embedding, seed=0)
    tff.FlowModel(flow).adapt(x, context=context)
    before = embedding.get_weights()[0]
    trained(flow, FlowMatching(), x, context)
    assert np.any(before != embedding.get_weights()[0])
    log_prob = tff.FlowModel(flow).log_prob(x[:2000], context[:2000])
    # The posterior is normal with mean Σ c / 5 and variance 1/5.
    exact = tfd.Normal(context[:2000].sum(1) / 5, np.float32(np.sqrt(0.2))).log_prob(x[:2000, 0])
    assert np.mean(exact - log_prob) < 0.03


def test_under_invert_the_ends_change_places():
    layer = moved(Continuous(2, hidden_units=(4, 4), seed=0))
    base = tfd.Independent(tfd.Normal(tf.zeros([2]), 1.0), 1)
    x, objective = tf.constant(Y, tf.float32), FlowMatching(time="late")
    usual = objective.loss_per_row(tfd.TransformedDistribution(base, layer), x, None, (0, 1))
    turned = objective.loss_per_row(tfd.TransformedDistribution(base, tfb.Invert(layer)), x, None, (0, 1))
    assert np.any(np.abs(usual - turned) > 1e-3)
    # The same by hand: the base's draws are at time 1 there.
    time_seed, base_seed = tf.unstack(tf.random.split((0, 1), 2))
    z, t = base.sample(5, seed=base_seed), 1 - objective._times(5, time_seed, tf.float32)
    expected = tf.reduce_sum((layer.velocity_at((1 - t) * x + t * z, t) - (z - x)) ** 2, -1)
    np.testing.assert_allclose(turned, expected, rtol=1e-5)


def test_parts_on_both_sides_are_applied_first():
    layer = moved(Continuous(2, hidden_units=(4, 4), seed=0))
    chain = tfb.Chain([tfb.Shift([10.0, 0.0]), tfb.Chain([layer, tfb.Permute([1, 0])]), tfb.Scale([3.0, 1.0])])
    base = tfd.Independent(tfd.Normal(tf.zeros([2]), 1.0), 1)
    x, objective = tf.constant(Y, tf.float32), FlowMatching()
    got = objective.loss_per_row(tfd.TransformedDistribution(base, chain), x, None, (0, 1))
    time_seed, base_seed = tf.unstack(tf.random.split((0, 1), 2))
    z, t = (base.sample(5, seed=base_seed) * [3.0, 1.0])[:, ::-1], objective._times(5, time_seed, tf.float32)
    x = x - [10.0, 0.0]
    expected = tf.reduce_sum((layer.velocity_at((1 - t) * z + t * x, t) - (x - z)) ** 2, -1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_compositions_that_flow_matching_cannot_train_are_refused():
    base = tfd.Independent(tfd.Normal(tf.zeros([2]), 1.0), 1)
    one, other = Continuous(2, name="one"), Continuous(2, name="other")
    x = tf.zeros([3, 2])
    for bijector, words in (
        (tfb.Chain([one, other]), "2 such parts"),
        (tff.bijectors.RealNVP(2), "0 such parts"),
        (tfb.Chain([one, tff.bijectors.ActNorm(2)]), "no trainable weights outside"),
    ):
        with pytest.raises(ValueError, match=f"{words}"):
            FlowMatching().loss_per_row(tfd.TransformedDistribution(base, bijector), x, None, (0, 1))
    conditional = tff.flows.continuous(2, context_size=1)
    with pytest.raises(ValueError, match="no context"):
        FlowMatching("optimal_transport").loss_per_row(conditional, x, tf.zeros([3, 1]), (0, 1))
    for arguments in ({"coupling": "sinkhorn"}, {"time": "normal"}):
        with pytest.raises(ValueError, match="Received: "):
            FlowMatching(**arguments)


def test_exchanges_come_near_the_best_assignment():
    generator = np.random.default_rng(0)
    x_0 = generator.normal(size=(256, 2)).astype("float32")
    x_1 = tff.datasets.two_moons(256, seed=0)

    def cost(x_0):
        return np.sum((x_1 - x_0) ** 2)

    got = tf.function(exchanged, jit_compile=True)(tf.constant(x_0), tf.constant(x_1)).numpy()
    np.testing.assert_array_equal(np.sort(got.view("f4,f4").ravel()), np.sort(x_0.view("f4,f4").ravel()))
    rows, columns = scipy.optimize.linear_sum_assignment(((x_1[:, None] - x_0) ** 2).sum(-1))
    best, before = cost(x_0[columns]), cost(x_0)
    assert rows[-1] == 255 and cost(got) - best < 0.1 * (before - best)


def test_times_are_late_or_uniform_and_even_or_those_of_a_distribution():
    times = FlowMatching()._times(1000, (0, 1), tf.float32).numpy().ravel()
    np.testing.assert_array_equal(np.floor(1000 * times), np.arange(1000))
    late = FlowMatching(time="late")._times(1000, (0, 1), tf.float32).numpy().ravel()
    np.testing.assert_array_equal(np.floor(1000 * late**2), np.arange(1000))  # of density 2t
    late = FlowMatching(time=tfd.Beta(8.0, 2.0))._times(1000, (0, 1), tf.float32).numpy()
    assert abs(late.mean() - 0.8) < 0.03


def test_penalties_are_the_integrals_over_the_way():
    flow = Continuous(2, linear_velocity(), rtol=1e-8, atol=1e-8, dtype=tf.float64)
    base = tfd.Independent(tfd.Normal(tf.zeros([2], tf.float64), tf.ones([], tf.float64)), 1)
    distribution = tfd.TransformedDistribution(base, flow)
    x = tf.constant(np.repeat(Y[:1], 2000, 0))
    plain = PenalizedLikelihood().loss_per_row(distribution, x, None, (0, 1))
    np.testing.assert_allclose(plain, -distribution.log_prob(tf.identity(x)), rtol=1e-6)
    kinetic = PenalizedLikelihood(kinetic=1.0).loss_per_row(distribution, x, None, (0, 1)) - plain
    times = np.linspace(0, 1, 2001)
    speeds = [np.sum((Y[0] @ scipy.linalg.expm(-A * t) @ A) ** 2) for t in times]
    np.testing.assert_allclose(kinetic, np.trapezoid(speeds, times), rtol=1e-4)
    jacobian = PenalizedLikelihood(jacobian=2.0).loss_per_row(distribution, x, None, (0, 1)).numpy() - plain.numpy()
    assert abs(jacobian.mean() - 2 * np.sum(A**2)) < 5 * jacobian.std() / np.sqrt(len(x))


def test_penalties_want_a_continuous_part_and_sizes_that_are_not_negative():
    flow = tff.flows.realnvp(2, num_layers=2)
    with pytest.raises(ValueError, match="continuous part"):
        PenalizedLikelihood(kinetic=0.1).loss_per_row(flow, tf.zeros([3, 2]), None, (0, 1))
    np.testing.assert_allclose(
        PenalizedLikelihood().loss_per_row(flow, tf.zeros([3, 2]), None, (0, 1)), -flow.log_prob(tf.zeros([3, 2]))
    )
    with pytest.raises(ValueError, match="Received: jacobian=-1"):
        PenalizedLikelihood(jacobian=-1.0)


def test_penalties_make_the_velocity_smaller():
    x, _ = correlated(2000)
    kinetic = []
    for objective in (PenalizedLikelihood(), PenalizedLikelihood(kinetic=1.0)):
        flow = tff.flows.continuous(2, hidden_units=(8, 8), solver="midpoint", num_steps=4, standardize=False, seed=0)
        trained(flow, objective, x, steps=60, learning_rate=1e-2)
        part = flow.bijector.bijectors[0]
        with part.recorded_costs((0, 1)) as costs:
            flow.log_prob(tf.constant(x[:100]))
        kinetic.append(float(tf.reduce_mean(costs[0][0])))
    assert kinetic[1] < 0.9 * kinetic[0]


def test_fit_takes_flow_matching_by_name_and_evaluates_the_likelihood():
    x, _ = correlated(4096)
    model = tff.FlowModel(tff.flows.continuous(2, hidden_units=(16, 16), seed=0))
    model.compile(keras.optimizers.Adam(1e-2), objective="flow_matching")
    model.adapt(x)
    before = model.evaluate(x[:256], verbose=0)
    losses = model.fit(x, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(model.evaluate(x[:256], verbose=0), -np.mean(model.log_prob(x[:256])), rtol=1e-4)
    assert model.evaluate(x[:256], verbose=0) < before - 0.1


@pytest.mark.parametrize(
    "objective",
    [FlowMatching("optimal_transport"), FlowMatching(time=tfd.Beta(2.0, 1.0)), PenalizedLikelihood(0.1, 0.2)],
    ids=["coupling", "time", "penalties"],
)
def test_objectives_come_back_from_their_configuration(objective):
    config = keras.saving.serialize_keras_object(objective)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(objective) and again.get_config() == objective.get_config()


def test_velocity_comes_back_from_its_configuration():
    velocity = Velocity(2, (4, 3), "silu", context_size=1, num_frequencies=2, seed=5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(velocity))
    for a, b in zip(again.weights, velocity.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    flow = Continuous(2, velocity, context_size=1)
    copy = saving.from_config(saving.to_config(flow))
    assert [v.shape for v in copy.variables] == [v.shape for v in flow.variables]
