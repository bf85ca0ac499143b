"""Checks of arguments, with the same messages everywhere; signatures; seeds."""

import inspect
import numbers
import random

import numpy as np
import tensorflow as tf

# Checks


def check_positive_integers(**values):
    """Raises ValueError for the first of the named values that is not a positive integer."""
    for name, value in values.items():
        if not is_integer(value) or value < 1:
            raise ValueError(f"Expected `{name}` to be a positive integer. Received: {name}={value!r}")


def check_hidden_units(hidden_units):
    """Raises ValueError unless there is at least one hidden layer and the widths are positive integers."""
    if not hasattr(hidden_units, "__len__") or not len(hidden_units):
        raise ValueError(f"Expected `hidden_units` to hold at least one width. Received: hidden_units={hidden_units!r}")
    check_positive_integers(**{f"hidden_units[{k}]": units for k, units in enumerate(hidden_units)})


def check_fraction(**values):
    """Raises ValueError for the first of the named values that is not a number of at least 0 and below 1."""
    for name, value in values.items():
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(f"Expected `{name}` to be at least 0 and below 1. Received: {name}={value!r}")


def check_context_size(context_size):
    """Raises ValueError unless the context size is a non-negative integer."""
    if not is_integer(context_size) or context_size < 0:
        raise ValueError(
            f"Expected `context_size` to be an integer, 0 for no context. Received: context_size={context_size!r}"
        )


def check_image_shape(image_shape):
    """The sizes [H, W, C]; raises ValueError for anything but three positive integers."""
    sizes = list(image_shape) if hasattr(image_shape, "__iter__") else [image_shape]
    if len(sizes) != 3 or not all(is_integer(size) and size > 0 for size in sizes):
        raise ValueError(
            "Expected `image_shape` to be three positive integers: height, width and channels. "
            f"Received: image_shape={image_shape!r}"
        )
    return [int(size) for size in sizes]


def as_vectors(values, size, dtype, name):
    """Tensors, arrays or lists as a tensor `[..., size]`; a list keeps the digits that float32 has not."""
    values = tf.cast(values if tf.is_tensor(values) else np.asarray(values), dtype)
    if values.shape.rank == 0 or values.shape[-1] != size:
        raise ValueError(f"Expected `{name}` of shape [..., {size}]. Received: shape {tuple(values.shape)}")
    return values


def check_one_of(choices, **values):
    """Raises ValueError for the first of the named values that is not among the choices."""
    for name, value in values.items():
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"Expected `{name}` to be one of {list(choices)}. Received: {name}={value!r}")


def is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


# Signatures


def merged_signature(function, *parents):
    """The signature of a function that passes its `**keywords` on, with the keywords of its `parents` in their place.

    They are the keyword-only parameters of the signatures `parents` that the function does not name itself, and a
    parent's own `**keywords` if it has any. It serves `help`, and whoever binds arguments.
    """
    signature = inspect.signature(function)
    own = list(signature.parameters.values())
    if not own or own[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return signature
    merged = {parameter.name: parameter for parameter in own[:-1]}
    open_ended = {}
    for parent in parents:
        for name, parameter in parent.parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                merged.setdefault(name, parameter)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                open_ended = {name: parameter}
    return signature.replace(parameters=[*merged.values(), *open_ended.values()])


def keyword_signature(function):
    """The signature of a function with every parameter keyword-only."""
    parameters = inspect.signature(function).parameters.values()
    return inspect.Signature([parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters])


def split_keywords(function, keywords):
    """Keywords that a function takes, and the others: two dictionaries."""
    taken = inspect.signature(function).parameters
    return (
        {name: value for name, value in keywords.items() if name in taken},
        {name: value for name, value in keywords.items() if name not in taken},
    )


# Seeds


def draw_seed(seed=None):
    """The seed itself, or a new one from Python's generator, which `keras.utils.set_random_seed` sets."""
    if seed is None:
        return random.randrange(2**31)
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"Expected `seed` to be None or a non-negative integer. Received: seed={seed!r}")
    return int(seed)


def split_seed(seed, num):
    """`num` independent seeds from one."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(num) & 0x7FFFFFFF]


def stateless_seed(seed):
    """A seed as TensorFlow's stateless samplers take it, `[2]` int32.

    An integer of up to 64 bits gives its two halves, so that different integers give different draws; a pair of
    integers is used as it is; None draws one from TensorFlow's generator, anew in every call of a compiled function.
    """
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    if isinstance(seed, (tuple, list)) or (tf.is_tensor(seed) and seed.shape.rank == 1):
        return tf.cast(seed, tf.int32)
    if not tf.is_tensor(seed):
        if not is_integer(seed) or not -(2**63) <= seed < 2**63:
            raise ValueError(f"Expected `seed` to be None or an integer of 64 bits. Received: seed={seed!r}")
        seed = tf.constant(int(seed), tf.int64)
    return tf.bitcast(tf.cast(seed, tf.int64), tf.int32)


def random_generator(seed):
    """A numpy generator from `None`, an integer, a sequence of integers, or a generator itself (which advances)."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Expected `seed` to be None, a non-negative integer, a sequence of them, or a numpy.random.Generator. "
            f"Received: seed={seed!r}"
        ) from error
