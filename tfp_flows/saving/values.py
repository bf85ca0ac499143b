"""Values that JSON cannot express: numbers, tensors, functions, tuples and the like."""

import base64
import collections

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.saving.allow_list import FUNCTIONS, find, is_function_of_a_tensor, name_of
from tfp_flows.saving.keras_objects import NotReadableError, NotWritableError

# Numbers and tensors.


def encode_array(value):
    array = np.asarray(value)
    array = array.astype(array.dtype.newbyteorder("little"), copy=False)
    if array.dtype.kind not in "biufc" and array.dtype != tf.bfloat16.as_numpy_dtype:
        raise NotWritableError(f"arrays of numbers can be written, those of dtype {array.dtype} cannot.")
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": data}


def decode_array(dtype, shape, bytes):
    array = np.frombuffer(bytearray(base64.b64decode(bytes)), tf.as_dtype(dtype).as_numpy_dtype)
    return array.reshape(shape)[()]


def encode_tensor(value):
    if not hasattr(value, "numpy"):
        raise NotWritableError("a symbolic tensor has no value. Make the object outside of any tf.function.")
    return {"value": np.asarray(value.numpy())}


# Functions.


def encode_function(value):
    name = name_of(value, FUNCTIONS)
    if name is not None and not _may_be_called(name, value):
        raise NotWritableError(
            "of the functions of TensorFlow and Keras those of one tensor can be written. Register a function of your "
            "own that calls it with keras.saving.register_keras_serializable."
        )
    if name is None:
        what = "a lambda has no name to be found under" if value.__name__ == "<lambda>" else "it could not be found"
        raise NotWritableError(
            f"{what} when loading. Register a named function with keras.saving.register_keras_serializable, or make it "
            "a Keras layer."
        )
    return {"name": name}


def decode_function(name):
    function = find(name, FUNCTIONS)
    if not callable(function) or isinstance(function, type) or not _may_be_called(name, function):
        raise NotReadableError(
            f"Expected the name of a function of one tensor in {', '.join(FUNCTIONS)}, or of one registered with "
            f"keras.saving.register_keras_serializable. Received: {name!r}"
        )
    return function


def _may_be_called(name, function):
    registered = keras.saving.get_registered_object(name) is function
    return registered or is_function_of_a_tensor(function)


# Other values that JSON cannot express.


def encode_tuple(value):
    names = {"type_name": type(value).__name__, "fields": list(value._fields)} if hasattr(value, "_fields") else {}
    return {"items": list(value), **names}


def decode_tuple(items, type_name=None, fields=None):
    return tuple(items) if fields is None else collections.namedtuple(type_name, fields)(*items)


def encode_dict(value):
    return {"items": [list(item) for item in value.items()]}


def encode_dtype(value):
    if isinstance(value, type) and not issubclass(value, np.generic):
        raise NotWritableError("a class can be written only if it is a dtype of NumPy's.")
    return {"name": tf.as_dtype(value).name}


def encode_shape(value):
    return {"sizes": None if value.rank is None else value.as_list()}
