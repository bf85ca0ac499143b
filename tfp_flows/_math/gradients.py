"""Functions with a custom gradient, except where plain gradients are asked for."""

import contextlib
import contextvars
import functools

import tensorflow as tf

_PLAIN = contextvars.ContextVar("plain", default=False)


def custom_gradient(function):
    """`tf.custom_gradient`, except within `plain_gradients`: there the function is differentiated as it stands."""

    @functools.wraps(function)
    def chosen(*args):
        return function(*args)[0] if _PLAIN.get() else tf.custom_gradient(function)(*args)

    return chosen


@contextlib.contextmanager
def plain_gradients():
    """For the body of a loop whose gradient is given from outside.

    A gradient function keeps tensors of the graph in which it was made. Those of a loop's body cannot be reached from
    the copy of it in a loaded SavedModel.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)
