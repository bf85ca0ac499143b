"""SavedModels of a FlowModel: its methods as graphs that need only TensorFlow."""

import tensorflow as tf

from tfp_flows.tracking import weights_of

# Stands for no seed, so that every call draws another: a SavedModel takes no None.
DRAWN = tf.int32.min


def write(model, path):
    """Writes a FlowModel's methods as functions and, under the same names, as signatures for servers.

    `tf.saved_model.load(path)` has `log_prob(x)`, `sample(n, seed)`, `sample_and_log_prob(n, seed)` and, where the
    distribution is made by a bijector, `forward(z)` and `inverse(x)`; each takes `context` as its last argument where
    there is one. The batch size is open.

    Without a seed every call of `sample` draws another.

    Shapes: x and z `[batch, D]`, n and seed int32 scalars, contexts `[batch, C]`, or what an embedding takes, and in
    sampling `[B, C]` for draws `[n, B, D]`. Signatures take the same arguments by name and return dictionaries such as
    {"sample": ..., "log_prob": ...}; where events or contexts are structures of tensors there are functions only.

    The variables are those of the distribution, each once, under `model_variables`.
    """
    module = tf.Module()
    module.model_variables = [weight for part in model.parts for weight in weights_of(part)]
    signatures = {}
    for name, (method, specs) in _methods(model).items():
        function = tf.function(method, input_signature=specs)
        setattr(module, name, function)
        if not any(tf.nest.is_nested(part) for part in (model.distribution.dtype, model.context_shape)):
            signatures[name] = _signature(name, function, specs)
    tf.saved_model.save(module, path, signatures=signatures)


def _methods(model):
    """The methods by name, each with the specification of its arguments."""
    distribution = model.distribution

    def event(name):
        return tf.nest.map_structure(
            lambda dtype, shape: tf.TensorSpec([None, *shape], dtype, name=name),
            distribution.dtype,
            distribution.event_shape,
        )

    draw = [tf.TensorSpec([], tf.int32, name="n"), tf.TensorSpec([], tf.int32, name="seed")]
    context = [_context_spec(model)] if model.is_conditional else []

    def sample(n, seed=DRAWN, context=None):
        return model.sample(n, context, drawn(seed))

    def sample_and_log_prob(n, seed=DRAWN, context=None):
        return model.sample_and_log_prob(n, context, drawn(seed))

    methods = {
        "log_prob": (lambda x, context=None: model.log_prob(x, context), [event("x"), *context]),
        "sample": (sample, [*draw, *context]),
        "sample_and_log_prob": (sample_and_log_prob, [*draw, *context]),
    }
    if hasattr(distribution, "bijector"):
        methods["forward"] = (lambda z, context=None: model.forward(z, context), [event("z"), *context])
        methods["inverse"] = (lambda x, context=None: model.inverse(x, context), [event("x"), *context])
    return methods


def drawn(seed):
    """The seed, or one from TensorFlow's generator where none was given."""
    return tf.where(seed == DRAWN, tf.random.uniform([], maxval=tf.int32.max, dtype=tf.int32), seed)


def _context_spec(model):
    """The specification of a batch of contexts; parts of a dictionary keep their names."""

    def spec(shape, name):
        return tf.TensorSpec([None, *shape], model.precision, name=name)

    if isinstance(model.context_shape, dict):
        return {name: spec(shape, name) for name, shape in model.context_shape.items()}
    return spec(model.context_shape, "context")


def _signature(name, function, specs):
    """The function with named results, as servers want them."""

    @tf.function(input_signature=specs)
    def served(*arguments):
        return dict(zip(name.split("_and_"), tf.nest.flatten(function(*arguments)), strict=True))

    return served
