"""Ordinary differential equations in one loop, which XLA compiles forward and backward, with exact gradients."""

import typing

import numpy as np
import tensorflow as tf


class Method(typing.NamedTuple):
    """An explicit Runge-Kutta method: k_s = f(t + c_s h, y + h Σ_r a_sr k_r), y(t + h) ≈ y + h Σ_s b_s k_s."""

    c: tuple
    a: tuple
    b: tuple
    # b minus the weights of a method one order lower: h Σ_s error_s k_s estimates the error of a step. None where the
    # step is fixed. The last row of `a` is then b, so that the last k is the first of the next step.
    error: tuple | None = None


METHODS = {
    "euler": Method((0.0,), ((),), (1.0,)),
    "midpoint": Method((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0)),
    "rk4": Method(
        (0.0, 1 / 2, 1 / 2, 1.0), ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    ),
    # Dormand & Prince 1980, Journal of Computational and Applied Mathematics 6, 19, table 2: order 5 with an error
    # estimate of order 4.
    "dormand_prince": Method(
        (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        (
            35 / 384 - 5179 / 57600,
            0.0,
            500 / 1113 - 7571 / 16695,
            125 / 192 - 393 / 640,
            -2187 / 6784 + 92097 / 339200,
            11 / 84 - 187 / 2100,
            -1 / 40,
        ),
    ),
}


class Solver:
    """y(end) of dy/dt = f(t, y) with y(begin) given, as a function of y(begin).

    An adaptive method takes as large a step as keeps the estimated error of every row of y, the root mean square of
    error / (atol + rtol |y|), below 1. A row that is not finite has no say in it.

    The gradient is exact for the steps that were taken, the steps themselves taken as given: going backward, each step
    is run again from the y that was kept at its beginning. So memory holds one y per step. Second derivatives are right
    as well.

    Shapes: y `[n, S]`; t in `rates` `[1, 1]`, or `[n, 1]` with a step size for each row; rates `[n, S]`.

    Arguments:
      rates: f, a function of (t, y, constants). Everything else it depends on by a gradient has to be in `constants`.
      begin, end: two numbers, in either order.
      method: a name in METHODS.
      rtol, atol: the tolerances of an adaptive method, per step.
      max_steps: the maximum number of attempted steps of an adaptive method; the number of steps of a fixed one.
      per_row: whether each row has its own step size, so that its y(end) does not depend on the other rows.
    """

    def __init__(self, rates, begin, end, method="dormand_prince", rtol=1e-5, atol=1e-5, max_steps=256, per_row=False):
        self.rates = rates
        self.begin = begin
        self.end = end
        self.method = METHODS[method]
        self.rtol = rtol
        self.atol = atol
        self.max_steps = max_steps
        self.per_row = per_row
        # For eager mode, in which Python would go through the loops operation by operation.
        self._compiled = {
            function.__name__: tf.function(function, autograph=False, reduce_retracing=True)
            for function in (self._fixed, self._adaptive, self._backward)
        }
        for function in self._compiled.values():
            function._omit_frequent_tracing_warning = True  # every solver has a few traces of its own

    def __call__(self, y, constants):
        """y(end), for y(begin) `[n, S]` and a list of tensors, the constants.

        Raises: InvalidArgumentError where `max_steps` do not suffice, with the time reached and the step size. Under
          XLA, which knows no assertions, the rows not finished are NaN.
        """
        outputs = []  # y(end) and the y of every step, as the tapes know them: second derivatives go through both

        @tf.custom_gradient
        def solution(*inputs):
            # A persistent tape would differentiate the loop as well, to no use, and what XLA cannot compile.
            y, *constants = map(tf.stop_gradient, inputs)
            forward = self._fixed if self.method.error is None else self._adaptive
            y, ys, *steps = self._run(forward, y, constants)

            def gradient(y_bar, ys_bar):
                y_bar, sums = self._run(self._backward, inputs[1:], steps, outputs[1], y_bar, ys_bar)
                return y_bar, *sums

            return (y, ys), gradient

        outputs[:] = solution(y, *constants)
        return outputs[0]

    def _run(self, function, *arguments):
        return (self._compiled[function.__name__] if tf.executing_eagerly() else function)(*arguments)

    # Both ways forward give y(end), and of every step the y it began from, its time and size: `[max_steps, ...]`. Last
    # comes their number.

    def _fixed(self, y, constants):
        step = (self.end - self.begin) / self.max_steps
        times = tf.constant(self.begin + step * np.arange(self.max_steps).reshape([-1, 1, 1]), y.dtype)
        steps = tf.constant(np.full([self.max_steps, 1, 1], step), y.dtype)

        def advance(i, y, ys):
            return i + 1, self._step(times[i], steps[i], y, constants)[0], ys.write(i, y)

        ys = tf.TensorArray(y.dtype, self.max_steps, element_shape=y.shape)
        start = (0, y, ys)
        _, y, ys = tf.while_loop(lambda i, *_: i < self.max_steps, advance, start, maximum_iterations=self.max_steps)
        return y, ys.stack(), times, steps, tf.constant(self.max_steps)

    def _adaptive(self, y, constants):
        dtype, max_steps = y.dtype, self.max_steps
        begin, end = tf.constant(self.begin, dtype), tf.constant(self.end, dtype)
        one = tf.ensure_shape(tf.ones([tf.shape(y)[0] if self.per_row else 1, 1], dtype), [self._rows(y), 1])

        # A first step: the size at which the first or second derivative of y, from a trial step of Euler's, would make
        # an error within tolerance. Hairer, Nørsett & Wanner 1993, Solving Ordinary Differential Equations I, II.4.
        k = self.rates(begin * one, y, constants)
        trial = 0.01 * (end - begin)
        bend = (self.rates(begin + trial * one, y + trial * k, constants) - k) / trial
        size = tf.maximum(self._norm(k, y, y, k), self._norm(bend, y, y, k))
        # Not below a thousandth, for derivatives may overflow and steps that are too large are tried again.
        size = tf.maximum((0.01 / tf.maximum(size, 1e-10)) ** 0.2, 0.1 * tf.abs(trial))

        def unfinished(turn, t, size, y, k, kept, count):
            return tf.reduce_any(t != end)

        def attempt(turn, t, size, y, k, kept, count):
            # What remains goes in equal steps, so that none is a tiny last one. 0.001 is for rounding in t.
            number = tf.maximum(tf.math.ceil(tf.abs(end - t) / size - 1e-3), 1.0)
            step = (end - t) / number
            y_new, ks = self._step(t, step, y, constants, k)
            error = self._norm(step * _combine(self.method.error, ks), tf.maximum(tf.abs(y), tf.abs(y_new)), y, k)
            accepted = error <= 1.0
            # The error goes as step⁵. 0.9 is for safety; with the limits one estimate cannot mislead too far.
            factor = tf.clip_by_value(0.9 * tf.maximum(error, 1e-10) ** -0.2, 0.2, 10.0)
            size = tf.where(t == end, size, tf.abs(step) * factor)
            # What is written for a step that nobody accepted is written over.
            values = [y, t, tf.where(accepted, step, tf.zeros_like(step))]
            kept = [array.write(count, value) for array, value in zip(kept, values, strict=True)]
            t = tf.where(accepted, tf.where(number == 1.0, end, t + step), t)
            y, k = tf.where(accepted, y_new, y), tf.where(accepted, ks[-1], k)
            return turn + 1, t, size, y, k, kept, count + tf.cast(tf.reduce_any(accepted), tf.int32)

        kept = [tf.TensorArray(dtype, max_steps, element_shape=part.shape) for part in (y, one, one)]
        start = (0, begin * one, size, y, k, kept, 0)
        _, t, size, y, _, kept, count = tf.while_loop(unfinished, attempt, start, maximum_iterations=max_steps)
        finished = t == end
        message = [
            f"Expected at most {max_steps} steps of the differential equation from time {self.begin} to {self.end}. "
            "Allow more by `max_steps`, or larger errors by `rtol` and `atol`. Received: a step of size",
            tf.reduce_min(size),
            "at time",
            tf.reduce_max(t) if self.begin > self.end else tf.reduce_min(t),
        ]
        check = tf.debugging.Assert(tf.reduce_all(finished), message)
        with tf.control_dependencies([] if check is None else [check]):
            y = tf.where(finished, y, tf.constant(np.nan, dtype))
        return y, *(array.stack() for array in kept), count

    def _rows(self, y):
        return y.shape[0] if self.per_row else 1

    def _norm(self, change, size, y, k):
        """The root mean square of change / tolerance in each row; the largest of all where they have one step size."""
        ratio = change / (self.atol + self.rtol * tf.abs(size))
        norm = tf.sqrt(tf.reduce_mean(ratio**2, -1, keepdims=True))
        # A row that is not finite now never will be. One that would not be after a step wants a smaller step.
        norm = tf.where(tf.math.is_finite(norm), norm, tf.constant(np.inf, norm.dtype))
        lost = ~tf.reduce_all(tf.math.is_finite(y) & tf.math.is_finite(k), -1, keepdims=True)
        norm = tf.where(lost, tf.zeros([], norm.dtype), norm)
        return norm if self.per_row else tf.reduce_max(norm, 0, keepdims=True)

    def _step(self, t, step, y, constants, k=None):
        """y after a step, and every k; the first, f(t, y), may be known."""
        ks = [self.rates(t, y, constants) if k is None else k]
        for c, row in zip(self.method.c[1:], self.method.a[1:], strict=True):
            stage = y + step * _combine(row, ks)
            ks.append(self.rates(t + c * step, stage, constants))
        # The last stage of an adaptive method is at the end of the step.
        return (y + step * _combine(self.method.b, ks) if self.method.error is None else stage), ks

    def _backward(self, constants, steps, ys, y_bar, ys_bar):
        """The derivatives by y(begin) and the constants, given those by y(end) and by the y of every step."""
        times, sizes, count = steps

        def back(i, y_bar, sums):
            y = ys[i]
            with tf.GradientTape() as tape:
                tape.watch([y, *constants])
                y_new = self._step(times[i], sizes[i], y, constants)[0]
            y_bar, *terms = tape.gradient(y_new, [y, *constants], y_bar, unconnected_gradients="zero")
            return i - 1, y_bar + ys_bar[i], [total + term for total, term in zip(sums, terms, strict=True)]

        start = (count - 1, y_bar, [tf.zeros_like(constant) for constant in constants])
        _, y_bar, sums = tf.while_loop(lambda i, *_: i >= 0, back, start, maximum_iterations=self.max_steps)
        return y_bar, sums


def _combine(weights, ks):
    return tf.add_n([weight * k for weight, k in zip(weights, ks, strict=False) if weight])
