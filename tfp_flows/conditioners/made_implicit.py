"""Higher derivatives of the solution that `made_sequential.solve` finds, by the implicit function theorem."""

import tensorflow as tf

# So many steps make derivatives up to that order exact.
STEPS = 3


def second_derivatives(made, given, step_back, v, v_bar, log_det_bar, inputs, cotangents):
    """The derivatives by v_bar, log_det_bar and the inputs of those that v_bar and log_det_bar give the inputs.

    They are made of differentiable operations, and so are higher ones. They take as long as D passes of the network
    both ways, and the memory of as many: the Jacobian is written out.

    Arguments:
      made, step_back: as in `solve`.
      given: the structure of all inputs but the first, which is w: the weights, and the context or ().
      v: the solution, as a constant.
      v_bar, log_det_bar: the derivatives by the results of `solve`.
      inputs: w, and what is given, flat.
      cotangents: the derivatives by what `solve` gives for the derivatives by the inputs.
    """
    sources = [v_bar, log_det_bar, *inputs]
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            weights, context = tf.nest.pack_sequence_as(given, inputs[1:])
            context = None if isinstance(context, tuple) else context
            results = _differentiable_solution(made, step_back, v, inputs[0], weights, context)
        derivatives = inner.gradient(results, inputs, [v_bar, log_det_bar], unconnected_gradients="zero")
    return outer.gradient(derivatives, sources, cotangents, unconnected_gradients="zero")


def _differentiable_solution(made, step_back, v, w, weights, context):
    """v and log|det ∂v/∂w| with derivatives up to the third by w, weights and context; v comes as a constant.

    From a constant root, v ← v - J⁻¹ (w(v) - w) changes nothing in value. With J constant as well, each such step makes
    the derivatives of one more order exact: an error of order k is multiplied by 1 - J⁻¹ ∂w/∂v, which is 0 at the root.
    """

    def one_pass(v, context):
        parameters = tf.cast(made.evaluate(weights, v, context), v.dtype)
        return step_back(v, tf.reshape(parameters, [-1, made.params, made.event_size]))

    # J is triangular once the coordinates stand in their order.
    order, positions = tf.argsort(made.positions), tf.cast(made.positions, tf.int32)
    jacobian = tf.gather(_jacobian(one_pass, v, context), order, axis=-1)
    jacobian = tf.stop_gradient(tf.gather(jacobian, order, axis=-2))
    for _ in range(STEPS):
        value = one_pass(v, context)[0] - w
        # What is left of the value is rounding, of which derivatives should know nothing.
        value = tf.gather(value - tf.stop_gradient(value), order, axis=-1)
        v -= tf.gather(tf.linalg.triangular_solve(jacobian, value[..., tf.newaxis])[..., 0], positions, axis=-1)
    return v, -tf.reduce_sum(one_pass(v, context)[1], -1)


def _jacobian(function, v, context):
    """∂w/∂v `[n, D, D]` of `w, _ = function(v, context)`: every point comes D times, and each time gives one row."""
    size = v.shape[-1]
    context = context if context is None or context.shape.rank == 1 else tf.repeat(context, size, 0)
    points = tf.repeat(tf.stop_gradient(v), size, 0)
    with tf.GradientTape() as tape:
        tape.watch(points)
        w, _ = function(points, context)
    rows = tape.gradient(w, points, tf.tile(tf.eye(size, dtype=v.dtype), [tf.shape(v)[0], 1]))
    return tf.reshape(rows, [-1, size, size])
