"""One step after another with other weights each time, compiled once; and its gradient, compiled once."""

import functools

import tensorflow as tf

from tfp_flows._math.products import recorded, replayed


def scan(step_at, length, weights, x, zero, shared=(), reverse=False):
    """The result of steps that follow one another, each with weights of its own, and the sum of their log-dets.

    x_{k+1}, d_k = f(x_k; w_k, s) for k = 0 ... L - 1; the results are x_L and Σ d_k. In a graph that is a loop, and so
    is the gradient: the loop forth keeps the x_k and the values of `products.product`, and the loop back evaluates what
    else is in f once more for its derivatives. So f is compiled twice, whatever L. Second derivatives, and those
    beyond, are those of L steps written out.

    Arguments:
      step_at: takes k, an integer or in a loop a tensor, and w_k, and gives a context manager, of which comes f as a
        function of x and of all of `shared`. Derivatives of f are taken inside it as well.
      length: L.
      weights: a list of floating-point tensors `[L, ...]`.
      x: a tensor of any shape, which f keeps.
      zero: zeros of the shape of d_k.
      shared: the list s of tensors that all steps take.
      reverse: whether the steps come in the order L - 1 ... 0.
    """

    def split(inputs):
        return inputs[0], inputs[1 : 1 + len(shared)], inputs[1 + len(shared) :]

    def written_out(*inputs):
        x, shared, weights = split(inputs)
        weights = [tf.unstack(w, length) for w in weights]
        total = zero
        for k in range(length)[:: -1 if reverse else 1]:
            with step_at(k, [w[k] for w in weights]) as step:
                x, log_det = step(x, *shared)
            total += log_det
        return x, total

    def loop(body, *state):
        """The state after `body(k, state)` for every k in turn."""

        def turn(i, *state):
            return i + 1, *body(i, *state)

        return tf.while_loop(lambda i, *_: i < length, turn, (0, *state), maximum_iterations=length)[1:]

    def nth(i):
        return length - 1 - i if reverse else i

    @functools.partial(tf.function, autograph=False)
    def step_and_products(k, x, shared, w):
        with step_at(k, w) as step, recorded() as products:
            return *step(x, *shared), products

    @tf.custom_gradient
    def steps(*inputs):
        x, shared, weights = split(inputs)
        # Traced before the loop, which has to know how many products it keeps.
        example = (tf.constant(0), x, shared, [w[0] for w in weights])
        f = step_and_products.get_concrete_function(*example)

        def forth(i, x, total, kept):
            k = nth(i)
            y, log_det, products = f(k, x, shared, [w[k] for w in weights])
            kept = [array.write(k, part) for array, part in zip(kept, [x, *products], strict=True)]
            return tf.ensure_shape(y, x.shape), tf.ensure_shape(total + log_det, zero.shape), kept

        parts = [x, *f.structured_outputs[2]]
        kept = [tf.TensorArray(part.dtype, length, element_shape=part.shape) for part in parts]
        y, total, kept = loop(forth, x, zero, kept)
        kept = [array.stack() for array in kept]
        return (y, total), lambda y_bar, total_bar: derivatives(kept, y_bar, total_bar, *inputs)

    def derivatives(kept, *bars_and_inputs):
        """The derivatives by x, `shared` and `weights`, given those by the results."""

        @tf.custom_gradient
        def first(y_bar, total_bar, *inputs):
            _, shared, weights = split(inputs)

            def back(i, x_bar, shared_bars, weight_bars):
                k = nth(length - 1 - i)
                (x, *products), w = [array[k] for array in kept], [w[k] for w in weights]
                with step_at(k, w) as step:
                    with tf.GradientTape() as tape:
                        tape.watch([x, shared, w])
                        with replayed(products):
                            y, log_det = step(x, *shared)
                        log_det = tf.broadcast_to(log_det, tf.shape(total_bar))
                    x_bar, own, w_bars = tape.gradient(
                        (y, log_det), (x, shared, w), (x_bar, total_bar), unconnected_gradients="zero"
                    )
                shared_bars = tf.nest.map_structure(tf.add, shared_bars, own)
                x_bar = tf.ensure_shape(x_bar, x.shape)
                return x_bar, shared_bars, [bars.write(k, bar) for bars, bar in zip(weight_bars, w_bars, strict=True)]

            weight_bars = [tf.TensorArray(w.dtype, length, element_shape=w.shape[1:]) for w in weights]
            x_bar, shared_bars, weight_bars = loop(back, y_bar, tuple(map(tf.zeros_like, shared)), weight_bars)
            return (x_bar, *shared_bars, *(bars.stack() for bars in weight_bars)), second

        def second(*upstream):
            with tf.GradientTape() as outer:
                outer.watch(bars_and_inputs)
                inputs = bars_and_inputs[2:]
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    results = written_out(*inputs)
                bars = tape.gradient(results, inputs, bars_and_inputs[:2], unconnected_gradients="zero")
            return outer.gradient(bars, bars_and_inputs, upstream, unconnected_gradients="zero")

        return first(*bars_and_inputs)

    if tf.executing_eagerly():  # nothing is compiled
        return written_out(x, *shared, *weights)
    return steps(x, *shared, *weights)
