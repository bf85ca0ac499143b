"""Any TFP distribution or bijector as plain JSON, and back: class names and constructor arguments, no code.

    config = to_config(distribution)        # dictionaries, lists, strings and numbers, nothing else
    distribution = from_config(config)

What JSON can hold is written as it is. Everything else is a dictionary that says what it "is", by one of the `_KINDS`
at the end of this file, and its parts: `tfb.Shift(tf.Variable([1.0]))` becomes

    {"is": "object", "class_path": "tensorflow_probability.bijectors.Shift", "arguments": {
        "shift": {"is": "object", "class_path": "tensorflow.Variable", "arguments": {...}}, "name": "shift", ...}}

An object met again is written as {"is": "reference", "id": ...}: what was shared is shared again, and each variable
counted once. Arrays, tensors and variables are written with their values; the weights of networks are not, since Keras
keeps them in a separate file. A network is read with all its weights, in their order, freshly initialized.

Reading runs constructors and nothing else: names are looked up in the allow-list and among those
registered with Keras, no module is imported because a file names it, and only classes derived from the list's `BASES`
are called.
"""

import collections
import math
import types
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.saving import values
from tfp_flows.saving.allow_list import BASES
from tfp_flows.saving.keras_objects import NotReadableError, NotWritableError, decode_keras, encode_keras
from tfp_flows.saving.objects import decode_object, encode_object

_VERSION = 1


def to_config(value: tfd.Distribution | tfb.Bijector) -> dict[str, Any]:
    """A distribution or bijector, of TFP's classes, ours or registered ones, as a dictionary that JSON can hold.

    Raises: TypeError for what could not be found when reading, for example a lambda; it names the place, as
      'bijector.bijectors[2].forward_fn'.
    """
    return {"format": "tfp_flows", "version": _VERSION, "value": _Writer().write(value)}


def from_config(config: dict[str, Any]) -> tfd.Distribution | tfb.Bijector:
    """The object that `to_config` wrote.

    Raises: ValueError for what `to_config` does not write: another format or version, a name other than those of the
      allowed classes and functions, or arguments that a constructor rejects.
    """
    if not isinstance(config, dict) or config.get("format") != "tfp_flows" or "value" not in config:
        raise ValueError(f"Expected a configuration that `to_config` wrote. Received: {_shortened(config)}")
    if config.get("version") != _VERSION:
        raise ValueError(
            f"Expected version {_VERSION} of the format; this file comes from another version of tfp_flows, which can "
            f"read it. Received: version {config.get('version')!r}"
        )
    return _Reader().read(config["value"])


class _Writer:
    """Writes a value with all its parts, and keeps track of the path to the current one."""

    def __init__(self):
        self._path = []
        self._ids = {}  # from Python's id, with the object itself: kept, so that no other object gets its id

    def write(self, value, step=""):
        """The config of a value one step further on the path, such as `.shift` or `[2]`."""
        self._path.append(step)
        try:
            config = self._config(value)
        except NotWritableError as error:
            path = "".join(self._path).lstrip(".") or "the object itself"
            raise TypeError(f"Cannot save {path!r}: {error} Received: {_shortened(value)}") from error.__cause__
        self._path.pop()
        return config

    def _config(self, value):
        if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
            return value
        if isinstance(value, list):
            return [self.write(item, f"[{index}]") for index, item in enumerate(value)]
        if _is_json_object(value):
            return {key: self.write(item, f".{key}") for key, item in value.items()}
        if id(value) in self._ids:
            return {"is": "reference", "id": self._ids[id(value)][0]}
        kind, (_, encode, _) = next(item for item in _KINDS.items() if isinstance(value, item[1][0]))
        config = {"is": kind}
        for name, part in encode(value).items():
            if name == "arguments":  # a path has `bijectors` for `arguments.bijectors`
                config[name] = {key: self.write(argument, f".{key}") for key, argument in part.items()}
            else:
                config[name] = self.write(part, "" if name == "items" else f".{name}")
        if kind in _SHARED:
            config["id"] = len(self._ids)
            self._ids[id(value)] = config["id"], value
        return config


class _Reader:
    """Reads what a `_Writer` wrote."""

    def __init__(self):
        self._objects = {}

    def read(self, config):
        if isinstance(config, list):
            return [self.read(item) for item in config]
        if not isinstance(config, dict):
            return config
        parts = {name: self.read(part) for name, part in config.items()}
        if "is" not in parts:
            return parts
        kind, number = parts.pop("is"), parts.pop("id", None)
        if kind == "reference" and type(number) is int and number in self._objects:
            return self._objects[number]
        if not isinstance(kind, str) or kind not in _KINDS:
            raise NotReadableError(f"Expected a kind that `to_config` writes. Received: {_shortened(config)}")
        _, _, decode = _KINDS[kind]
        try:
            value = decode(**parts)
        except NotReadableError:
            raise
        except Exception as error:  # whatever a constructor raises
            raise NotReadableError(
                f"Expected what `to_config` writes; constructing it failed: {error} Received: {_shortened(config)}"
            ) from error
        if type(number) is int:
            self._objects[number] = value
        return value


def _is_json_object(value):
    """Whether a dictionary can be written as it is: JSON has string keys only, and "is" marks the kinds.

    (It is a keyword of Python, so that no constructor has an argument of this name.)
    """
    plain = isinstance(value, dict) and not isinstance(value, collections.OrderedDict)
    return plain and "is" not in value and all(type(key) is str for key in value)


def _shortened(value):
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}..."


# The kinds: of which types, how they are encoded and decoded. The first that fits is taken.
_KINDS = {
    "array": ((np.ndarray, np.generic, complex), values.encode_array, values.decode_array),
    "tensor": (tf.Tensor, values.encode_tensor, lambda value: tf.constant(value)),
    "float": (float, lambda value: {"text": str(value)}, lambda text: float(text)),
    "tuple": ((tuple, range), values.encode_tuple, values.decode_tuple),
    "ordered_dict": (collections.OrderedDict, values.encode_dict, lambda items: collections.OrderedDict(items)),
    "dict": (dict, values.encode_dict, lambda items: dict(items)),
    "slice": (slice, lambda value: {"items": [value.start, value.stop, value.step]}, lambda items: slice(*items)),
    "dtype": ((tf.DType, np.dtype, type), values.encode_dtype, lambda name: tf.as_dtype(name)),
    "shape": (tf.TensorShape, values.encode_shape, lambda sizes: tf.TensorShape(sizes)),
    "object": (BASES, encode_object, decode_object),
    "function": (
        (types.FunctionType, types.BuiltinFunctionType, types.MethodType),
        values.encode_function,
        values.decode_function,
    ),
    "keras": (object, encode_keras, decode_keras),
}
_SHARED = ("array", "tensor", "object", "keras")  # where it matters that it is one object
