"""Random numbers: by Philox under XLA too, whose own choice on a CPU takes 30 times as long."""

import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

flows = tff.flows


def sample(flow):
    return lambda: flow.sample(5, seed=(0, 1))


def training(flow, x):
    model = tff.FlowModel(flow)
    return lambda: model(x, training=True)


def programs():
    """(name, a function that draws random numbers)."""
    x = tf.zeros([4, 3])
    yield "realnvp", sample(flows.realnvp(3, num_layers=2))
    yield "iaf", sample(flows.iaf(3, num_layers=2))
    yield "gaussianization", sample(flows.gaussianization(3, num_layers=2))
    yield "glow", sample(flows.glow([4, 4, 1], num_steps=1, hidden_channels=4))
    continuous = flows.continuous(3)
    yield "flow matching", lambda: tff.objectives.FlowMatching().loss_per_row(continuous, x, None, (0, 1))
    yield "residual", training(flows.residual(3, num_layers=2, log_det="roulette"), x)
    images = tff.distributions.Dequantized(flows.glow([4, 4, 1], num_steps=1, hidden_channels=4))
    yield "dequantized", lambda: images.training_log_prob(tf.zeros([4, 4, 4, 1], tf.uint8), (0, 1))


PROGRAMS = dict(programs())
# Which input of an operation is the algorithm.
ALGORITHM = {"StatelessRandomNormalV2": 3, "StatelessRandomUniformV2": 3, "StatelessRandomUniformIntV2": 3}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_generator_is_the_fast_one(name):
    graph = tf.function(PROGRAMS[name], autograph=False).get_concrete_function().graph.as_graph_def()
    algorithms = []
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):  # loops are functions
        named = {node.name: node for node in nodes}
        chosen = [named[node.input[ALGORITHM[node.op]].split(":")[0]] for node in nodes if node.op in ALGORITHM]
        algorithms += [node.attr["value"].tensor.int_val[0] for node in chosen]
    assert set(algorithms) == {tf.random.Algorithm.PHILOX.value}


def test_a_normal_is_that_of_tfp():
    ours, theirs = tff.distributions.Normal([1.0, 2.0], 3.0), tfd.Normal([1.0, 2.0], 3.0)
    tf.debugging.assert_equal(ours.sample([4, 5], seed=(0, 1)), theirs.sample([4, 5], seed=(0, 1)))
    assert ours.kl_divergence(theirs).numpy().tolist() == [0.0, 0.0]


def test_draws_under_xla_have_the_right_moments():
    flow = flows.gaussian(2)
    draw = tf.function(lambda: flow.sample(100_000, seed=(3, 4)), jit_compile=True)
    x = draw().numpy()
    assert abs(x.mean(0)).max() < 0.02 and abs(x.std(0) - 1).max() < 0.02
    assert abs((x[:, 0] * x[:, 1]).mean()) < 0.02
