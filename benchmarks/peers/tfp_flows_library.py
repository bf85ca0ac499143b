"""tfp_flows: its presets; an epoch is `FlowModel.fit`, which chooses its mode itself."""

import functools

import keras
import tensorflow as tf
from cases import EPOCH_BATCHES
from of_tensorflow import data, jobs_of, loss_of, shake
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff


def jobs(make, case, mode):
    options = {"context_size": case.context_size} if case.context_size else {}
    flow = make(case, seed=0, **options)
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(1e-5))  # as in the other libraries' loops
    shake(model.trainable_weights)
    optimizer = keras.optimizers.Adam(1e-5)
    optimizer.build(model.trainable_variables)
    rows, contexts = data(case, EPOCH_BATCHES * case.batch)

    def given(context):
        return flow if context is None else tff.condition(flow, context)

    def train(x, context):
        with tf.GradientTape() as tape:
            loss = loss_of(case, given(context), x)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    def epoch():
        model.fit(rows, context=contexts, batch_size=case.batch, verbose=0)

    compiled = functools.partial(tf.function, autograph=False, jit_compile=mode == "xla")
    found = jobs_of(case, given, train, compiled)
    return {**found, "epoch": epoch} if mode == "xla" and case.flow != "iaf" else found


def vectors(preset, case, **options):
    sizes = {"num_layers": case.num_layers, "hidden_units": case.hidden_units, "num_bins": case.num_bins}
    taken = {name: sizes[name] for name in TAKES.get(preset, ("num_layers", "hidden_units"))}
    if preset == "continuous":
        taken["activation"] = "tanh"  # as in the network that TFP gets
    return getattr(tff.flows, preset)(case.event_size, **taken, **options)


TAKES = {
    "neural_spline_coupling": ("num_layers", "hidden_units", "num_bins"),
    "neural_spline_autoregressive": ("num_layers", "hidden_units", "num_bins"),
    "gaussianization": ("num_layers",),  # 8 components by default
    "planar": ("num_layers",),
    "continuous": ("hidden_units",),
}


def inverted_planar(case, **options):
    """As flowjax has it: the direction without a root is that of the density."""
    flow = vectors("planar", case, **options)
    return tfd.TransformedDistribution(flow.distribution, tfb.Invert(flow.bijector))


def images(case, **options):
    return tff.flows.glow(case.image_shape, case.num_layers, 4, case.hidden_units[0], **options)


PRESETS = {
    "realnvp": "realnvp",
    "spline coupling": "neural_spline_coupling",
    "spline autoregressive": "neural_spline_autoregressive",
    "maf": "maf",
    "iaf": "iaf",
    "gaussianization": "gaussianization",
    "continuous": "continuous",
}
MAKERS = {flow: functools.partial(jobs, functools.partial(vectors, preset)) for flow, preset in PRESETS.items()}
MAKERS |= {"planar": functools.partial(jobs, inverted_planar), "glow": functools.partial(jobs, images)}
