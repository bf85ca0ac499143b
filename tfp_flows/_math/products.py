"""Matrix products whose values a loop's gradient takes from the loop, in place of evaluating them again."""

import contextlib
import contextvars

import keras
import tensorflow as tf

_through = contextvars.ContextVar("through", default=None)


def product(u, kernel, multiply=keras.ops.matmul):
    """u W: `[..., a]` times `[a, b]`; inside `recorded` it is noted, inside `replayed` its value is a noted one."""
    through = _through.get()
    return multiply(u, kernel) if through is None else through(u, kernel, multiply)


@contextlib.contextmanager
def recorded():
    """Gives a list, to which every product inside adds its value."""
    values, graph = [], tf.compat.v1.get_default_graph()

    def note(u, kernel, multiply):
        value = multiply(u, kernel)
        if tf.compat.v1.get_default_graph() is graph:  # not in a loop's body, whose values do not leave it
            values.append(value)
        return value

    with _set(note):
        yield values


@contextlib.contextmanager
def replayed(values):
    """Products inside take their values, in the order in which they were noted; derivatives are as ever."""
    values, graph = iter(values), tf.compat.v1.get_default_graph()

    def replay(u, kernel, multiply):
        if tf.compat.v1.get_default_graph() is not graph:
            return multiply(u, kernel)
        return _with_value(next(values), u, kernel)

    with _set(replay):
        yield


@contextlib.contextmanager
def _set(through):
    token = _through.set(through)
    try:
        yield
    finally:
        _through.reset(token)


@tf.custom_gradient
def _with_value(value, u, kernel):
    """u W, of which the value is known."""

    def derivatives(bar):
        rows, bars = (tf.reshape(array, [-1, size]) for array, size in zip((u, bar), kernel.shape, strict=True))
        u_bar = tf.matmul(bars, kernel, transpose_b=True)
        return None, tf.reshape(u_bar, tf.shape(u)), tf.matmul(rows, bars, transpose_a=True)

    return tf.identity(value), derivatives
