"""Any TFP distribution or bijector as plain JSON, and back: class names and constructor arguments, no code.

    config = to_config(distribution)        # dictionaries, lists, strings and numbers, nothing else
    distribution = from_config(config)

What JSON has stands as it is. Everything else is a dictionary that says what it "is", by one of the `_KINDS` at the
end of this file, and the parts that make it: `tfb.Shift(tf.Variable([1.0]))` becomes

    {"is": "object", "class_path": "tensorflow_probability.bijectors.Shift", "arguments": {
        "shift": {"is": "object", "class_path": "tensorflow.Variable", "arguments": {...}}, "name": "shift", ...}}

An object met again is written as {"is": "reference", "id": ...}: what was shared is shared again, and each variable
counted once. Arrays, tensors and variables bring their values; the weights of networks do not, for Keras keeps them in
a file of its own. A network comes back with all its weights, in their order, as freshly initialized.

Reading runs constructors and nothing else: names are looked up in `_CLASSES` and `_FUNCTIONS` and among those
registered with Keras, no module is imported because a file says so, and only classes derived from `_BASES` are called.
"""

import base64
import collections
import dataclasses
import functools
import inspect
import math
import sys
import types

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, transformers
from tfp_flows._keras_config import NotWritableError, make_keras, take_keras

_VERSION = 1

# Whose constructors may be called; the three of tf_keras are what a `tfb.AutoregressiveNetwork` takes.
_TF_KERAS = (tf_keras.initializers.Initializer, tf_keras.regularizers.Regularizer, tf_keras.constraints.Constraint)
_KERNEL = tfp.math.psd_kernels.PositiveSemidefiniteKernel
_BASES = (
    *(tfb.Bijector, tfd.Distribution, transformers.Transformer, tf.linalg.LinearOperator, _KERNEL),
    *(tf.Variable, tfp.util.DeferredTensor, tfb.AutoregressiveNetwork, *_TF_KERAS),
)

# Where classes and functions are looked up, by the names that stand in the file.
_CLASSES = {
    "tfp_flows.bijectors": bijectors,
    "tfp_flows.transformers": transformers,
    "tensorflow_probability.bijectors": tfb,
    "tensorflow_probability.distributions": tfd,
    "tensorflow_probability.math.psd_kernels": tfp.math.psd_kernels,
    "tensorflow_probability.math.psd_kernels.base": sys.modules[_KERNEL.__module__],  # what k1 + k2 and k1 * k2 give
    "tensorflow_probability.util": tfp.util,
    "tensorflow_probability.experimental.bijectors": tfp.experimental.bijectors,
    "tensorflow_probability.experimental.distributions": tfp.experimental.distributions,
    "tensorflow_probability.experimental.linalg": tfp.experimental.linalg,
    "tensorflow_probability.experimental.psd_kernels": tfp.experimental.psd_kernels,
    "tensorflow": tf,
    "tensorflow.linalg": tf.linalg,
    "tf_keras.constraints": tf_keras.constraints,
    "tf_keras.initializers": tf_keras.initializers,
    "tf_keras.regularizers": tf_keras.regularizers,
}
_FUNCTIONS = {
    "keras.activations": keras.activations,
    "keras.ops": keras.ops,
    "tensorflow.linalg": tf.linalg,
    "tensorflow.math": tf.math,
    "tensorflow.nn": tf.nn,
    "tf_keras.activations": tf_keras.activations,
}


# Arguments not written where they are the default: None, functions of TFP, and its `object()` for "not given". Other
# defaults are written, for a later version may have others.
_UNWRITTEN_DEFAULTS = (type(None), types.FunctionType, object)


def to_config(value):
    """A distribution or bijector, of TFP's classes, ours or registered ones, as a dictionary that JSON can hold.

    Raises: TypeError for what could not be found again when reading, a lambda for example; it names the place, as
      'bijector.bijectors[2].forward_fn'.
    """
    return {"format": "tfp_flows", "version": _VERSION, "value": _Writer().write(value)}


def from_config(config):
    """The object that `to_config` wrote.

    Raises: ValueError for what `to_config` does not write: another format or version, or the name of anything else than
      the classes and functions that may be used.
    """
    if not isinstance(config, dict) or config.get("format") != "tfp_flows":
        raise ValueError(f"Expected a configuration that `to_config` wrote. Received: {_shortened(config)}")
    if config.get("version") != _VERSION:
        raise ValueError(
            f"Expected version {_VERSION} of the format; this one comes from another version of tfp_flows. "
            f"Received: version {config.get('version')!r}"
        )
    return _Reader().read(config["value"])


class _Writer:
    """Writes a value with all it holds, and knows where in it we are."""

    def __init__(self):
        self._path = []
        self._ids = {}  # from Python's id, with the object itself: kept, so that no other object gets its id

    def write(self, value, step=""):
        """The config of a value that stands one step further on the path, as `.shift` or `[2]`."""
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
        kind, (_, take_apart, _) = next(item for item in _KINDS.items() if isinstance(value, item[1][0]))
        config = {"is": kind}
        for name, part in take_apart(value).items():
            if name == "arguments":  # on a path, `bijectors` stands for `arguments.bijectors`
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
        if kind == "reference" and number is not None and number in self._objects:
            return self._objects[number]
        if kind not in _KINDS:
            raise ValueError(f"Expected a kind that `to_config` writes. Received: {_shortened(config)}")
        _, _, put_together = _KINDS[kind]
        value = self._objects[number] = put_together(**parts)
        return value


def _is_json_object(value):
    """Whether a dictionary can stand as it is: JSON has string keys only, and "is" marks the kinds.

    (It is a keyword of Python, so that no constructor has an argument of this name.)
    """
    plain = isinstance(value, dict) and not isinstance(value, collections.OrderedDict)
    return plain and "is" not in value and all(type(key) is str for key in value)


# Names of classes and functions.


def _name_of(value, namespaces):
    """The name by which `_find` finds a class or function again; None where it would not."""
    for namespace, module in namespaces.items():
        for name in (value.__name__, value.__name__.lstrip("_")):
            found = getattr(module, name, None)
            # Where a part is no composite tensor, `tfb.Chain(...)` gives a `_Chain`, the class it derives from.
            twin = name != value.__name__ and isinstance(found, type) and issubclass(found, value)
            if found is value or twin:
                return f"{namespace}.{name}"
    name = keras.saving.get_registered_name(value)
    return name if keras.saving.get_registered_object(name) is value else None


def _find(name, namespaces):
    namespace, _, attribute = str(name).rpartition(".")
    if namespace in namespaces:
        return getattr(namespaces[namespace], attribute, None)
    return keras.saving.get_registered_object(name)


# Objects made by a class from arguments.


def _take_object(value):
    cls = tf.Variable if isinstance(value, tf.Variable) else type(value)
    name = _name_of(cls, _CLASSES)
    if name is None:
        raise NotWritableError(
            f"the class {cls.__name__} could not be found when loading. Register it with "
            "keras.saving.register_keras_serializable (which asks for a method get_config: `return self.parameters`)."
        )
    return {"class_path": name, "arguments": _arguments(value)}


def _make_object(class_path, arguments):
    cls = _find(class_path, _CLASSES)
    if not (isinstance(cls, type) and issubclass(cls, _BASES)):
        raise ValueError(
            "Expected the name of a bijector, distribution, transformer, linear operator or kernel: of tfp_flows, TFP "
            f"or TensorFlow, or registered with keras.saving.register_keras_serializable. Received: {class_path!r}"
        )
    value = cls(**arguments)
    if isinstance(value, tfb.AutoregressiveNetwork) and value.event_shape is not None:
        value.build(tf.TensorShape([None, *value.event_shape]))  # so that its weights are there to be loaded
    return value


@functools.singledispatch
def _arguments(value):
    """The arguments from which its class makes an object; those of TFP, and ours, know them as `parameters`."""
    how = "Begin its __init__ with `parameters = dict(locals())` and hand that to `super().__init__` as `parameters`."
    if value.parameters is None:
        raise NotWritableError(f"it keeps no `parameters`. {how}")
    signature, arguments = inspect.signature(type(value).__init__), {}
    for name, parameter in signature.parameters.items():
        argument = value.parameters.get(name, parameter.empty)
        if parameter.kind is parameter.VAR_KEYWORD and argument is not parameter.empty:
            arguments.update(argument)
        elif argument is parameter.default and type(argument) in _UNWRITTEN_DEFAULTS:
            continue
        elif argument is not parameter.empty:
            arguments[name] = argument
    if "name" in signature.parameters:
        arguments["name"] = value.name  # by which a bijector gets its keyword arguments
    try:
        signature.bind(value, **arguments)
    except TypeError as error:
        raise NotWritableError(f"its `parameters` are not its constructor's arguments ({error}). {how}") from None
    return arguments


@_arguments.register
def _(value: transformers.Transformer):
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


@_arguments.register
def _(value: tf.Variable):
    return {
        "initial_value": value.numpy(),
        "shape": value.shape,
        "trainable": value.trainable,
        "name": value.name.split(":")[0],
        "constraint": getattr(value, "constraint", None),
    }


@_arguments.register
def _(value: tfp.util.DeferredTensor):
    return {
        "pretransformed_input": value.pretransformed_input,
        "transform_fn": value._transform_fn,  # the public `transform_fn` gives a method of the bijector
        "dtype": value.dtype,
        "shape": value.shape,
        "also_track": value.also_track,
        "name": value.name,
    }


@_arguments.register
def _(value: tfp.util.TransformedVariable):
    variable = value.pretransformed_input
    return {"initial_value": None, "pretransformed_input": variable, "bijector": value.bijector, "name": value.name}


@_arguments.register
def _(value: tfb.AutoregressiveNetwork):
    if value._hidden_degrees != "equal":
        raise NotWritableError(
            "hidden_degrees='random' were drawn when the network was built and not kept, so that its masks could not "
            "be made again. Use hidden_degrees='equal'."
        )
    attributes = {"conditional_input_layers": "_conditional_layers", "input_order": "_input_order_param"}
    arguments = {**value._kwargs, "name": value.name, "dtype": value.dtype, "trainable": value.trainable}
    for name, parameter in inspect.signature(tfb.AutoregressiveNetwork).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            arguments[name] = getattr(value, attributes.get(name, f"_{name}"))
    if value.built:
        arguments["input_order"] = value._input_order.tolist()  # a random order as it was drawn
    return arguments


for _base in _TF_KERAS:
    _arguments.register(_base, lambda value: value.get_config())


# Numbers and tensors.


def _take_array(value):
    array = np.asarray(value)
    array = array.astype(array.dtype.newbyteorder("little"), copy=False)
    if array.dtype.kind not in "biufc" and array.dtype != tf.bfloat16.as_numpy_dtype:
        raise NotWritableError(f"arrays of numbers can be written, those of dtype {array.dtype} cannot.")
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": data}


def _make_array(dtype, shape, bytes):
    array = np.frombuffer(bytearray(base64.b64decode(bytes)), tf.as_dtype(dtype).as_numpy_dtype)
    return array.reshape(shape)[()]


def _take_tensor(value):
    if not hasattr(value, "numpy"):
        raise NotWritableError("a symbolic tensor has no value. Make the object outside of any tf.function.")
    return {"value": np.asarray(value.numpy())}


# Functions.


def _take_function(value):
    name = _name_of(value, _FUNCTIONS)
    if name is None:
        what = "a lambda has no name to be found under" if value.__name__ == "<lambda>" else "it could not be found"
        raise NotWritableError(
            f"{what} when loading. Register a named function with keras.saving.register_keras_serializable, or make it "
            "a Keras layer."
        )
    return {"name": name}


def _make_function(name):
    function = _find(name, _FUNCTIONS)
    if not callable(function) or isinstance(function, type):
        raise ValueError(
            f"Expected the name of a function in {', '.join(_FUNCTIONS)}, or of one registered with "
            f"keras.saving.register_keras_serializable. Received: {name!r}"
        )
    return function


# Values that JSON has no word for.


def _take_tuple(value):
    names = {"type_name": type(value).__name__, "fields": list(value._fields)} if hasattr(value, "_fields") else {}
    return {"items": list(value), **names}


def _make_tuple(items, type_name=None, fields=None):
    return tuple(items) if fields is None else collections.namedtuple(type_name, fields)(*items)


def _take_dict(value):
    return {"items": [list(item) for item in value.items()]}


def _take_dtype(value):
    if isinstance(value, type) and not issubclass(value, np.generic):
        raise NotWritableError("a class can be written only if it is a dtype of NumPy's.")
    return {"name": tf.as_dtype(value).name}


def _take_shape(value):
    return {"sizes": None if value.rank is None else value.as_list()}


def _shortened(value):
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}..."


# The kinds: of which types, how they are taken apart and put together. The first that fits is taken.
_KINDS = {
    "array": ((np.ndarray, np.generic, complex), _take_array, _make_array),
    "tensor": (tf.Tensor, _take_tensor, lambda value: tf.constant(value)),
    "float": (float, lambda value: {"text": str(value)}, lambda text: float(text)),
    "tuple": ((tuple, range), _take_tuple, _make_tuple),
    "ordered_dict": (collections.OrderedDict, _take_dict, lambda items: collections.OrderedDict(items)),
    "dict": (dict, _take_dict, lambda items: dict(items)),
    "slice": (slice, lambda value: {"items": [value.start, value.stop, value.step]}, lambda items: slice(*items)),
    "dtype": ((tf.DType, np.dtype, type), _take_dtype, lambda name: tf.as_dtype(name)),
    "shape": (tf.TensorShape, _take_shape, lambda sizes: tf.TensorShape(sizes)),
    "object": (_BASES, _take_object, _make_object),
    "function": ((types.FunctionType, types.BuiltinFunctionType, types.MethodType), _take_function, _make_function),
    "keras": (object, take_keras, make_keras),
}
_SHARED = ("array", "tensor", "object", "keras")  # where it matters that it is one object
