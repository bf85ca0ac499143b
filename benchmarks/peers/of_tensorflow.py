"""What the TensorFlow libraries share: data, weights, and the jobs of a distribution."""

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(2)
tf.config.threading.set_inter_op_parallelism_threads(2)


def data(case, rows):
    """Rows and their contexts, or None; images lie within (0, 1)."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=[rows, *case.shape])
    if case.image_shape:
        x = 0.1 + 0.8 * generator.random(size=x.shape)
    context = generator.normal(size=[rows, case.context_size]).astype("float32") if case.context_size else None
    return x.astype("float32"), context


def shake(variables):
    """Moves the weights, of which many start at 0, so that no layer is the identity."""
    generator = np.random.default_rng(0)
    for variable in variables:
        scale = 0.3 / np.sqrt(variable.shape[-2]) if len(variable.shape) >= 2 else 0.05
        variable.assign(variable + scale * generator.normal(size=variable.shape))


def loss_of(case, flow, x):
    """-log p of the rows; for an IAF, whose samples are cheap, the reverse KL to a normal of twice the width."""
    if case.flow == "iaf":
        sample, log_prob = flow.experimental_sample_and_log_prob(case.batch, seed=(0, 1))
        return tf.reduce_mean(log_prob + tf.reduce_sum(sample**2, -1) / 8)
    return -tf.reduce_mean(flow.log_prob(x))


def jobs_of(case, flow_given, train, compiled):
    """The jobs by name; each returns when its result is there.

    flow_given is a function of a context that gives a distribution, train one of a batch, compiled makes programs.
    """
    points, contexts = data(case, case.points)
    batch, context = data(case, case.batch)
    count = () if case.context_size else case.points
    programs = {
        "train": (train, batch, context),
        "density": (lambda x, context: flow_given(context).log_prob(x), points, contexts),
        "sample": (lambda seed, context: flow_given(context).sample(count, seed=seed), (0, 1), contexts),
    }

    def job(program, *arguments):
        program = compiled(program)
        # Arguments, since what is constant is worked out when compiling.
        arguments = [None if argument is None else tf.constant(argument) for argument in arguments]
        return lambda: program(*arguments).numpy()

    return {name: job(*parts) for name, parts in programs.items()}
