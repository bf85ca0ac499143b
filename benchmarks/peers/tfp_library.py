"""TFP's own bijectors with networks of tf_keras, in the loop that TFP's examples have."""

import functools
import types

import tensorflow as tf
import tf_keras
from cases import EPOCH_BATCHES
from of_tensorflow import data, jobs_of, loss_of, shake
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability import math as tfm
from tensorflow_probability.python.bijectors.ffjord import trace_jacobian_exact

import tfp_flows as tff


def jobs(make, case, mode):
    """`make` gives what holds the variables, and a function of a context that gives a bijector."""
    parts, bijector_given = make(case)
    rows, contexts = data(case, EPOCH_BATCHES * case.batch)
    compiled = functools.partial(tf.function, autograph=False, jit_compile=mode == "xla")
    size = bijector_given(None if contexts is None else contexts[:2]).inverse_event_shape(case.shape)
    base = tfd.Sample(tfd.Normal(0.0, 1.0), size)

    def given(context):
        shape = [] if context is None else [context.shape[0]]
        return tfd.TransformedDistribution(tfd.BatchBroadcast(base, shape), bijector_given(context))

    few = [None if part is None else part[:2] for part in (rows, contexts)]
    given(few[1]).log_prob(few[0])  # makes the variables
    variables = [variable for part in parts for variable in part.trainable_variables]
    shake(variables)
    optimizer = tf_keras.optimizers.Adam(1e-5)
    optimizer.build(variables)

    def train(x, context):
        with tf.GradientTape() as tape:
            loss = loss_of(case, given(context), x)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    step = compiled(train)
    batches = tf.data.Dataset.from_tensor_slices((rows,) if contexts is None else (rows, contexts))
    batches = batches.shuffle(len(rows)).batch(case.batch, drop_remainder=True)

    def epoch():
        losses = [step(*batch, *[None] * (contexts is None)) for batch in batches]
        float(tf.reduce_mean(losses))

    found = jobs_of(case, given, train, compiled)
    return found if case.flow == "iaf" else {**found, "epoch": epoch}


def chain(case, layers):
    """Layers with the coordinates reversed between them."""
    turned = [tfb.Permute(list(range(case.event_size))[::-1]) for _ in layers]
    return tfb.Chain([part for pair in zip(layers, turned, strict=True) for part in pair][:-1])


def dense(case, size):
    layers = [tf_keras.layers.Dense(units, "relu") for units in case.hidden_units]
    return tf_keras.Sequential([*layers, tf_keras.layers.Dense(size)])


def made(case, params):
    return tfb.AutoregressiveNetwork(params, [case.event_size], hidden_units=list(case.hidden_units), activation="relu")


def spline(raw, bins, bound=3.0):
    """As the docstring of `RationalQuadraticSpline` makes one of the outputs of a network, `[..., D, 3 K - 1]`."""
    widths, heights, slopes = tf.split(raw, [bins, bins, bins - 1], -1)
    widths, heights = (tf.math.softmax(part) * (2 * bound - bins * 1e-2) + 1e-2 for part in (widths, heights))
    return tfb.RationalQuadraticSpline(widths, heights, tf.math.softplus(slopes) + 1e-2, range_min=-bound)


def realnvp(case):
    unchanged = case.event_size // 2
    networks = [dense(case, 2 * (case.event_size - unchanged)) for _ in range(case.num_layers)]

    def layer(network, context):
        def shift_and_log_scale(x, _):
            return tf.split(network(x if context is None else tf.concat([x, context], -1)), 2, -1)

        return tfb.RealNVP(unchanged, shift_and_log_scale_fn=shift_and_log_scale)

    return networks, lambda context: chain(case, [layer(network, context) for network in networks])


def spline_coupling(case):
    unchanged, size = case.event_size // 2, 3 * case.num_bins - 1
    networks = [dense(case, (case.event_size - unchanged) * size) for _ in range(case.num_layers)]

    def layer(network):
        def bijector(x, _):
            return spline(tf.reshape(network(x), [-1, case.event_size - unchanged, size]), case.num_bins)

        return tfb.RealNVP(unchanged, bijector_fn=bijector)

    return networks, lambda context: chain(case, list(map(layer, networks)))


def spline_autoregressive(case):
    networks = [made(case, 3 * case.num_bins - 1) for _ in range(case.num_layers)]
    layers = [
        tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x, network=network: spline(network(x), case.num_bins))
        for network in networks
    ]
    return networks, lambda context: chain(case, layers)


def affine_autoregressive(case):
    networks = [made(case, 2) for _ in range(case.num_layers)]
    layers = list(map(tfb.MaskedAutoregressiveFlow, networks))
    if case.flow == "iaf":
        layers = list(map(tfb.Invert, layers))
    return networks, lambda context: chain(case, layers)


def continuous(case):
    """FFJORD with the exact trace and the network of tfp_flows, since steps depend on how the time enters it."""
    network = tff.conditioners.Velocity(case.event_size, case.hidden_units, activation="tanh", seed=0)

    def velocity(t, z):
        return network(z, tf.reshape(tf.cast(t, z.dtype), [1, 1]))

    solver = tfm.ode.DormandPrince(rtol=1e-5, atol=1e-5)
    bijector = tfb.FFJORD(velocity, ode_solve_fn=solver.solve, trace_augmentation_fn=trace_jacobian_exact)
    variables = [variable.value for variable in network.trainable_variables]  # of Keras 3
    return [types.SimpleNamespace(trainable_variables=variables)], lambda context: bijector


def glow(case):
    bijector = tfb.Glow(
        output_shape=case.image_shape,
        num_glow_blocks=case.num_layers,
        num_steps_per_block=4,
        coupling_bijector_fn=functools.partial(tfb.GlowDefaultNetwork, num_hidden=case.hidden_units[0]),
        exit_bijector_fn=tfb.GlowDefaultExitNetwork,
        grab_after_block=None,
    )
    return [bijector], lambda context: bijector


FLOWS = {
    "realnvp": realnvp,
    "spline coupling": spline_coupling,
    "spline autoregressive": spline_autoregressive,
    "maf": affine_autoregressive,
    "iaf": affine_autoregressive,
    "continuous": continuous,
    "glow": glow,
}
MAKERS = {flow: functools.partial(jobs, make) for flow, make in FLOWS.items()}
