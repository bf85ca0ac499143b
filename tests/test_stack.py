"""A stack is the chain of its layers: values, derivatives, contexts, files."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows import bijectors, saving
from tfp_flows.bijectors.stack import are_alike, stacked
from tfp_flows.context import context_arguments, walk

SMALL = {"hidden_units": (6,), "dtype": "float64"}
HALF = np.array([True, True, False, False])


def couplings(kind, num_turns=2, **options):
    """Turns of a permutation and two couplings, whose masks are each other's complement."""
    return [
        [
            bijectors.Permutation(4, seed=3 * k, dtype="float64"),
            kind(4, mask=HALF, seed=3 * k + 1, name=f"one_{k}", **SMALL, **options),
            kind(4, mask=~HALF, seed=3 * k + 2, name=f"two_{k}", **SMALL, **options),
        ]
        for k in range(num_turns)
    ]


def autoregressions(kind, num_turns=2, **options):
    orders = ["left-to-right", "right-to-left", [1, 3, 0, 2]]
    return [
        [kind(4, input_order=orders[k % 3], seed=k, name=f"layer_{k}", **SMALL, **options)] for k in range(num_turns)
    ]


def likes(kind, num_turns=3, **options):
    return [[kind(4, dtype="float64", seed=k, name=f"layer_{k}", **options)] for k in range(num_turns)]


TURNS = {
    "RealNVP": lambda: couplings(bijectors.RealNVP),
    "RealNVP, context": lambda: couplings(bijectors.RealNVP, context_size=2),
    "NeuralSplineCoupling": lambda: couplings(
        bijectors.NeuralSplineCoupling, num_bins=3, unconditional=True, context_size=2
    ),
    "MAF, three orders": lambda: autoregressions(bijectors.MAF, 3, context_size=2),
    "IAF": lambda: autoregressions(bijectors.IAF),
    "MaskedAutoregressive, drawn masks": lambda: [
        [
            bijectors.MaskedAutoregressive(
                4, tff.transformers.Affine(), input_order="random", hidden_degrees="random", seed=k, **SMALL
            )
        ]
        for k in range(2)
    ],
    "NeuralSplineAutoregressive": lambda: autoregressions(bijectors.NeuralSplineAutoregressive, num_bins=3),
    "Planar": lambda: likes(bijectors.Planar),
    "Planar, context": lambda: likes(bijectors.Planar, context_size=2, hidden_units=(6,)),
    "Radial": lambda: likes(bijectors.Radial),
    "Sylvester": lambda: likes(bijectors.Sylvester, 2, num_units=2),
    "Gaussianization": lambda: likes(bijectors.Gaussianization, 2, num_components=3),
    "LULinear and ActNorm": lambda: [
        [bijectors.ActNorm(4, dtype="float64"), bijectors.LULinear(4, dtype="float64", seed=k)] for k in range(2)
    ],
}


def moved(turns):
    """The turns, with weights away from their start."""
    generator = np.random.default_rng(0)
    for turn in turns:
        for layer in turn:
            for variable in layer.trainable_variables:
                variable.assign_add(0.3 * generator.normal(size=variable.shape))
    return turns


def stack_and_chain(name):
    turns = moved(TURNS[name]())
    return bijectors.Stack(turns), tfb.Chain([layer for turn in turns for layer in turn])


def points(bijector):
    generator = np.random.default_rng(1)
    context = tf.constant(generator.normal(size=[3, 2])) if bijector.context_size else None
    return tf.constant(generator.normal(size=[3, 4])), context


def value_and_log_det(bijector, method, x, context):
    arguments = context_arguments(bijector, context)
    x = tf.identity(x)
    y = getattr(bijector, method)(x, **arguments)
    return y, getattr(bijector, f"{method}_log_det_jacobian")(x, **arguments)


def derivatives(bijector, weights, method, x, context, order=1):
    """Value, log-determinant and the derivatives of a function of both, by the point, the context and the weights."""
    sources = [x, *([] if context is None else [context])]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        if order == 1:
            results = value_and_log_det(bijector, method, x, context)
        else:
            results = derivatives(bijector, weights, method, x, context)[2 : 2 + len(sources)]
        loss = tf.add_n([tf.reduce_sum(tf.sin(part)) for part in results])
    return [*results, *tape.gradient(loss, [*sources, *weights], unconnected_gradients="zero")]


def assert_same(stack, chain, method, order, compile_by=lambda function: function):
    x, context = points(stack)
    turns = [[getattr(weight, "value", weight) for weight in turn] for turn in plain(stack._weights_of_turns)]
    flat = [weight for turn in turns for weight in turn]
    expected = derivatives(chain, flat, method, x, context, order)
    ours = compile_by(lambda x, context: derivatives(stack, stack._stacked, method, x, context, order))(x, context)
    others = len(expected) - len(flat)
    by_weights = zip(*[expected[others + k * len(turns[0]) :][: len(turns[0])] for k in range(len(turns))], strict=True)
    for got, wanted in zip(ours, [*expected[:others], *map(tf.stack, by_weights)], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)
    assert np.any(expected[others - 1])


def plain(turns):
    return [[weight if isinstance(weight, keras.Variable) else Plain(weight) for weight in turn] for turn in turns]


class Plain:
    """A `tf.Variable` that says as a `keras.Variable` does what it is."""

    def __init__(self, variable):
        self.value = variable


def in_graph(function):
    return tf.function(function, autograph=False)


def in_xla(function):
    return tf.function(function, autograph=False, jit_compile=True)


@pytest.mark.parametrize("method", ["forward", "inverse"])
@pytest.mark.parametrize("name", TURNS)
def test_a_stack_is_its_chain(name, method):
    stack, chain = stack_and_chain(name)
    for compile_by in (lambda function: function, in_graph):
        assert_same(stack, chain, method, 1, compile_by)


@pytest.mark.parametrize("name", ["RealNVP, context", "MAF, three orders", "Planar"])
def test_a_stack_is_its_chain_in_xla(name):
    # The other kinds in XLA: the presets, in test_derivatives.py.
    assert_same(*stack_and_chain(name), "inverse", 1, in_xla)


@pytest.mark.parametrize("name", TURNS)
def test_second_derivatives_are_those_of_the_chain(name):
    # Going one by one has no second derivatives.
    method = "forward" if name == "IAF" else "inverse"
    stack, chain = stack_and_chain(name)
    assert_same(stack, chain, method, 2, in_graph)


def test_second_derivatives_in_xla():
    assert_same(*stack_and_chain("Planar"), "forward", 2, in_xla)


def test_one_turn_is_compiled_whatever_their_number():
    def size(num_turns):
        stack = bijectors.Stack([layer for (layer,) in likes(bijectors.Planar, num_turns)])
        step = in_graph(lambda x: derivatives(stack, stack._stacked, "forward", x, None))
        graph = step.get_concrete_function(tf.TensorSpec([None, 4], "float64")).graph
        return len(graph.get_operations()) + sum(len(f.node_def) for f in graph.as_graph_def().library.function)

    assert size(12) == size(3)


@pytest.mark.parametrize("name", ["RealNVP", "MAF, three orders"])
def test_the_gradient_evaluates_no_matrix_product_again(name):
    stack, _ = stack_and_chain(name)

    def products(function):
        spec = tf.TensorSpec([None, 4], "float64"), tf.TensorSpec([None, 2], "float64")
        graph = in_graph(function).get_concrete_function(*spec[: 2 if stack.context_size else 1]).graph
        nodes = [node for f in graph.as_graph_def().library.function for node in f.node_def]
        return sum(node.op == "MatMul" for node in nodes)

    def log_det(x, context=None):
        return stack.inverse_log_det_jacobian(x, **context_arguments(stack, context))

    def gradient(x, context=None):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(log_det(x, context))
        return tape.gradient(loss, stack._stacked, unconnected_gradients="zero")

    assert products(log_det) > 0
    assert products(gradient) <= 3 * products(log_det)  # forth; and back by what is multiplied, and by the matrix


def test_the_variables_are_stacked_and_counted_once():
    stack, chain = stack_and_chain("RealNVP")
    assert {variable.shape[0] for variable in stack.variables} == {2}
    assert sum(v.shape.num_elements() for v in stack.variables) == sum(v.shape.num_elements() for v in chain.variables)
    base = tfd.Sample(tfd.Normal(np.float64(0), 1), [4])
    model = tff.FlowModel(tfd.TransformedDistribution(base, tfb.Chain([stack])))
    assert {id(weight.value) for weight in model.weights} == {id(variable) for variable in stack.variables}
    assert stack.trainable_variables


def test_layers_are_those_of_the_chain_as_they_are_now():
    stack, _ = stack_and_chain("MAF, three orders")
    x, context = points(stack)
    for variable in stack.trainable_variables:
        variable.assign_add(0.1 * tf.ones_like(variable))
    chain = tfb.Chain(stack.layers)
    for got, wanted in zip(
        value_and_log_det(stack, "inverse", x, context), value_and_log_det(chain, "inverse", x, context), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-10)


def test_adapt_starts_every_layer_from_the_data_that_reaches_it():
    x = np.random.default_rng(0).exponential(size=[200, 4])
    models = [
        tff.FlowModel(tfd.TransformedDistribution(tfd.Sample(tfd.Normal(np.float64(0), 1), [4]), bijector))
        for bijector in stack_and_chain("Gaussianization")
    ]
    before = models[0].log_prob(x).numpy().mean()
    for model in models:
        model.adapt(x)
    stack, chain = (model.log_prob(x) for model in models)
    np.testing.assert_allclose(stack, chain, rtol=1e-8)
    assert stack.numpy().mean() > before


def test_an_inverted_walk_ends_where_forward_does():
    stack, _ = stack_and_chain("RealNVP, context")
    x, context = points(stack)
    steps = walk(stack, x, context, inverted=True)
    parts = []
    try:
        while True:
            parts.append(next(steps)[0].name)
    except StopIteration as end:
        np.testing.assert_allclose(end.value, stack.forward(tf.identity(x), context=context), rtol=1e-10)
    assert parts == ["two_1", "one_1", parts[2], "two_0", "one_0", parts[5]]


@pytest.mark.parametrize("name", ["RealNVP", "MAF, three orders"])
def test_a_stack_is_written_and_read(name):
    stack, _ = stack_and_chain(name)
    x, context = points(stack)
    again = saving.from_config(saving.to_config(stack))
    for variable, saved in zip(again.variables, stack.variables, strict=True):
        variable.assign(saved)
    for got, wanted in zip(
        value_and_log_det(again, "forward", x, context), value_and_log_det(stack, "forward", x, context), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-10)


def test_turns_have_to_be_equal():
    one, other = (bijectors.Planar(2, activation, seed=0) for activation in ("tanh", "softplus"))
    assert not are_alike(one, other) and are_alike(one, bijectors.Planar(2, seed=5))
    with pytest.raises(ValueError, match="Received"):
        bijectors.Stack([one, other])
    with pytest.raises(ValueError, match="Received"):
        bijectors.Stack([])
    with pytest.raises(ValueError, match="every layer once"):
        bijectors.Stack([one, one])


def test_other_layers_are_refused_in_words():
    network = tff.conditioners.MLP(1, 2)
    for layer in (
        bijectors.Residual(2, hidden_units=(4,)),
        bijectors.CircularAutoregressive(2),
        bijectors.RealNVP(2, conditioner=network),
        tfb.Scale(2.0),
    ):
        with pytest.raises(ValueError, match="Expected layers of Coupling"):
            bijectors.Stack([layer])
        assert stacked([[layer], [layer]]) == [layer, layer]


def test_equal_turns_that_follow_one_another_are_stacked():
    turns = couplings(bijectors.NICE, 3)
    (whole,) = stacked(turns)
    assert [len(turn) for turn in whole._turns] == [3, 3, 3]
    after = bijectors.Permutation(4, seed=9, dtype="float64")
    norm, stack, last = stacked([[bijectors.ActNorm(4, dtype="float64")], *turns, [after]])
    assert isinstance(norm, bijectors.ActNorm) and len(stack._turns) == 3 and last is after
    assert stacked(turns[:1]) == turns[0]


PRESETS = {
    "nice": {},
    "realnvp": {},
    "neural_spline_coupling": {},
    "neural_spline_coupling, lu": {"mixing": "lu"},
    "neural_spline_coupling, act_norm": {"act_norm": True},
    "maf": {},
    "iaf": {},
    "neural_spline_autoregressive": {},
    "planar": {},
    "radial": {},
    "sylvester": {},
    "gaussianization": {},
    "torus": {},
    "sphere": {},
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_same_flow_stacked_and_as_a_chain(name):
    preset = name.split(",")[0]
    sizes = () if preset == "sphere" else (5,)
    make = functools.partial(getattr(tff.flows, preset), *sizes, num_layers=4, context_size=2, seed=0, **PRESETS[name])
    flow, chain = make(), make(stack=False)
    stack = next(part for part in flow.submodules if isinstance(part, bijectors.Stack))
    assert len(stack._turns) == 4
    assert not any(isinstance(part, bijectors.Stack) for part in chain.submodules)
    layers = [layer for turn in stack._turns for layer in turn]
    x = chain.sample(5, seed=(0, 1), bijector_kwargs=context_arguments(chain.bijector, tf.zeros([2])))
    for variable, start in zip(chain.trainable_variables, flow.trainable_variables, strict=False):
        assert start.dtype == variable.dtype
    random = np.random.default_rng(0)
    for variable in stack.trainable_variables:
        variable.assign_add(0.1 * random.normal(size=variable.shape))
    inner = [part for part in chain.submodules if type(part) in {type(layer) for layer in layers}]
    by_name = {part.name: part for part in inner}
    for layer in stack.layers:
        for variable, value in zip(by_name[layer.name].variables, layer.variables, strict=True):
            variable.assign(value)
    context = tf.constant([0.5, -1.0])
    got, wanted = (tff.condition(one, context).log_prob(tf.identity(x)) for one in (flow, chain))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    in_one_program = tf.function(lambda x: tff.condition(flow, context).log_prob(x), autograph=False)
    np.testing.assert_allclose(in_one_program(x), wanted, rtol=1e-4, atol=1e-4)


def test_a_refused_fit_leaves_nothing_adapted(monkeypatch):
    model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, hidden_units=(4,), standardize=False, act_norm=True))
    before = model.get_weights()

    def refuse(*args):
        (shifts,) = (v for v in model.distribution.bijector.variables if v.name.startswith("shift"))
        assert np.any(shifts)  # adapted by now
        raise ValueError("refused")

    monkeypatch.setattr("tfp_flows.model.first_step.check_gradient", refuse)
    with pytest.raises(ValueError, match="refused"):
        model.fit(1 + 3 * np.random.default_rng(0).normal(size=[32, 2]).astype("float32"), verbose=0)
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)
