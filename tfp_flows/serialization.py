"""Any TFP distribution or bijector as plain JSON, and back: class names and constructor arguments, no code.

    config = to_config(distribution)        # dictionaries, lists, strings and numbers, nothing else
    distribution = from_config(config)

What JSON has (None, booleans, numbers, strings, lists) stands as it is. Everything else is a dictionary with a "kind",
one of `_KINDS` at the end of this file, which is the place to start reading. `tfb.Shift(tf.Variable([1.0]))` becomes

    {"kind": "object", "class": "tensorflow_probability.bijectors.Shift", "arguments": {
        "shift": {"kind": "variable", "dtype": "float32", "shape": [1], "bytes": "AACAPw==", ...}, ...}}

An object that is met twice is written once, with an "id", and after that as {"kind": "reference", "id": ...}; so what
was shared is shared again, and each variable counted once.

Arrays, tensors and variables bring their values. The weights of networks do not stand here: Keras keeps them in a file
of their own. A network comes back with all its variables, in their order, as freshly initialized.

Reading runs nothing but constructors: names are looked up in `_CLASSES` and `_FUNCTIONS`, or among those registered
with Keras; no module is imported because a file says so, and only classes derived from `_BASES` are called.
"""

import base64
import collections
import dataclasses
import functools
import inspect
import math
import operator
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, transformers

_VERSION = 1

# Whose constructors may be called; the three of tf_keras are what an `AutoregressiveNetwork` takes.
_KERNEL = tfp.math.psd_kernels.PositiveSemidefiniteKernel
_TF_KERAS = (tf_keras.initializers.Initializer, tf_keras.regularizers.Regularizer, tf_keras.constraints.Constraint)
_BASES = (tfb.Bijector, tfd.Distribution, tf.linalg.LinearOperator, _KERNEL, transformers.Transformer, *_TF_KERAS)

# Where classes and functions are looked up, by the names that stand in the file.
_CLASSES = {
    "tfp_flows.bijectors": bijectors,
    "tfp_flows.transformers": transformers,
    "tensorflow_probability.bijectors": tfb,
    "tensorflow_probability.distributions": tfd,
    "tensorflow_probability.math.psd_kernels": tfp.math.psd_kernels,
    "tensorflow_probability.math.psd_kernels.sums": sys.modules[_KERNEL.__module__],  # of k1 + k2 and k1 * k2
    "tensorflow_probability.experimental.bijectors": tfp.experimental.bijectors,
    "tensorflow_probability.experimental.distributions": tfp.experimental.distributions,
    "tensorflow_probability.experimental.linalg": tfp.experimental.linalg,
    "tensorflow_probability.experimental.psd_kernels": tfp.experimental.psd_kernels,
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


def to_config(value):
    """A distribution or bijector, of TFP's classes, ours or registered ones, as a dictionary that JSON can hold.

    Raises: TypeError for what could not be found again when reading, as a lambda; it names the place, for example
      'bijector.bijectors[2].forward_fn'.
    """
    return {"format": "tfp_flows", "version": _VERSION, "value": _Writer().write(value)}


def from_config(config):
    """The object that `to_config` wrote.

    Raises: ValueError for what `to_config` does not write: another format or version, a name that is not a class or
      function of those that may be used.
    """
    if not isinstance(config, dict) or config.get("format") != "tfp_flows":
        raise ValueError(f"Expected a configuration that `to_config` wrote. Received: {_shortened(config)}")
    if config.get("version") != _VERSION:
        raise ValueError(
            f"Expected version {_VERSION} of the format; another version of tfp_flows may have written this. "
            f"Received: version {config.get('version')!r}"
        )
    return _Reader().read(config["value"])


class _Writer:
    """Writes one object with all it holds, and knows at every moment where in it we are."""

    def __init__(self):
        self._path = []
        self._written = {}  # by id: the object, kept alive so that its id stays its own, and its config

    def write(self, value, step=""):
        """The config of a value that stands one step further, as `.shift` or `[2]`."""
        self._path.append(step)
        config = self._config(value)
        self._path.pop()
        return config

    def write_all(self, values):
        return [self.write(value, f"[{index}]") for index, value in enumerate(values)]

    def refuse(self, value, reason):
        path = "".join(self._path).lstrip(".") or "the object itself"
        raise TypeError(f"Cannot save {path!r}: {reason} Received: {_shortened(value)}")

    def _config(self, value):
        if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
            return value
        if isinstance(value, list):
            return self.write_all(value)
        if id(value) in self._written:
            config = self._written[id(value)][1]
            config.setdefault("id", 1 + sum("id" in other for _, other in self._written.values()))
            return {"kind": "reference", "id": config["id"]}
        for kind, (types, write, _) in _KINDS.items():
            if isinstance(value, types):
                config = {"kind": kind, **write(value, self)}
                if kind not in _WITHOUT_IDENTITY:
                    self._written[id(value)] = value, config
                return config
        raise AssertionError("the last of _KINDS takes every object")


class _Reader:
    """Reads what a `_Writer` wrote."""

    def __init__(self):
        self._read = {}  # by id

    def read(self, config):
        if isinstance(config, list):
            return [self.read(item) for item in config]
        if not isinstance(config, dict):
            return config
        kind = config.get("kind")
        if kind == "reference" and config.get("id") in self._read:
            return self._read[config["id"]]
        if kind not in _KINDS:
            raise ValueError(f"Expected a kind that `to_config` writes. Received: {_shortened(config)}")
        value = _KINDS[kind][2](config, self)
        if "id" in config:
            self._read[config["id"]] = value
        return value

    def read_arguments(self, config):
        return {name: self.read(argument) for name, argument in config["arguments"].items()}


# Names of classes and functions.


def _name_of(value, namespaces):
    """The name under which `_find` finds a class or function again; None if it does not."""
    for namespace, module in namespaces.items():
        for name in (value.__name__, value.__name__.lstrip("_")):
            found = getattr(module, name, None)
            # Where a part is no composite tensor, `tfb.Chain(...)` makes a `_Chain`, the class it derives from.
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


# Objects that know their constructor arguments.


def _write_object(value, writer):
    name = _name_of(type(value), _CLASSES)
    if name is None:
        writer.refuse(
            value,
            f"the class {type(value).__name__} could not be found when loading. Register it with "
            "keras.saving.register_keras_serializable, which asks for a method `get_config`: `return self.parameters`.",
        )
    arguments = _constructor_arguments(value, writer)
    return {"class": name, "arguments": {key: writer.write(part, f".{key}") for key, part in arguments.items()}}


def _read_object(config, reader):
    cls = _find(config["class"], _CLASSES)
    if not (isinstance(cls, type) and issubclass(cls, _BASES)):
        raise ValueError(
            "Expected the name of a bijector, distribution, linear operator, kernel or transformer, of tfp_flows, TFP "
            "or TensorFlow, or registered with keras.saving.register_keras_serializable. "
            f"Received: {config['class']!r}"
        )
    return cls(**reader.read_arguments(config))


def _constructor_arguments(value, writer):
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, _TF_KERAS):
        return value.get_config()
    known = getattr(value, "parameters", None)
    arguments = {}
    for name, parameter in inspect.signature(type(value).__init__).parameters.items():
        if name == "self":
            continue
        if known is None or (name not in known and parameter.default is parameter.empty):
            writer.refuse(
                value,
                f"its `parameters` lack the constructor argument `{name}`. Hand them on in the constructor: "
                "`parameters = dict(locals())` in its first line, `super().__init__(..., parameters=parameters)`.",
            )
        argument = known.get(name)
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(argument or {})
        elif argument is None or (argument is parameter.default and callable(argument)):
            # Other defaults are written, for a later version may have others.
            continue
        else:
            arguments[name] = argument
    if "name" in known:
        arguments["name"] = value.name  # under which bijectors find their keyword arguments
    return arguments


# Numbers, tensors and variables.


def _write_array(value, writer):
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind in "SUV" and array.dtype != tf.bfloat16.as_numpy_dtype:
        writer.refuse(value, f"arrays of dtype {array.dtype} cannot be written, those of numbers can.")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": data}


def _read_array(config, reader):
    dtype = tf.as_dtype(config["dtype"]).as_numpy_dtype
    return np.frombuffer(bytearray(base64.b64decode(config["bytes"])), dtype).reshape(config["shape"])[()]


def _write_tensor(value, writer):
    if not hasattr(value, "numpy"):
        writer.refuse(value, "a symbolic tensor has no value. Make the object outside of any tf.function.")
    return _write_array(value.numpy(), writer)


def _write_variable(value, writer):
    return {
        **_write_array(value.numpy(), writer),
        "static_shape": writer.write(value.shape, ".shape"),
        "trainable": value.trainable,
        "name": value.name.split(":")[0],
        # A variable of a tf.distribute strategy has no attribute of this name.
        "constraint": writer.write(getattr(value, "constraint", None), ".constraint"),
    }


def _read_variable(config, reader):
    return tf.Variable(
        _read_array(config, reader),
        trainable=config["trainable"],
        name=config["name"],
        dtype=config["dtype"],
        constraint=reader.read(config["constraint"]),
        shape=reader.read(config["static_shape"]),
    )


def _write_transformed_variable(value, writer):
    return {
        "variable": writer.write(value.pretransformed_input, ".pretransformed_input"),
        "bijector": writer.write(value.bijector, ".bijector"),
        "name": value.name,
    }


def _read_transformed_variable(config, reader):
    variable, bijector = reader.read(config["variable"]), reader.read(config["bijector"])
    return tfp.util.TransformedVariable(None, bijector, pretransformed_input=variable, name=config["name"])


def _write_deferred_tensor(value, writer):
    arguments = {
        "pretransformed_input": value.pretransformed_input,
        "transform_fn": value._transform_fn,  # the property `transform_fn` gives a bijector's method
        "dtype": value.dtype,
        "shape": value.shape,
        "also_track": value.also_track,
        "name": value.name,
    }
    return {"arguments": {name: writer.write(argument, f".{name}") for name, argument in arguments.items()}}


# Networks and functions.


def _write_autoregressive_network(value, writer):
    if value._hidden_degrees != "equal":
        writer.refuse(
            value,
            "hidden_degrees='random' were drawn when the network was built and are not kept, so that the masks could "
            "not be built again. Use hidden_degrees='equal'.",
        )
    attributes = {"conditional_input_layers": "conditional_layers", "input_order": "input_order_param"}
    arguments = {**value._kwargs, "name": value.name, "dtype": value.dtype, "trainable": value.trainable}
    for name, parameter in inspect.signature(tfb.AutoregressiveNetwork).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            arguments[name] = getattr(value, "_" + attributes.get(name, name))
    if value.built and isinstance(arguments["input_order"], str) and arguments["input_order"] == "random":
        arguments["input_order"] = value._input_order.tolist()  # as it was drawn
    return {
        "arguments": {name: writer.write(argument, f".{name}") for name, argument in arguments.items()},
        "event_size": value._event_size if value.built else None,
    }


def _read_autoregressive_network(config, reader):
    network = tfb.AutoregressiveNetwork(**reader.read_arguments(config))
    if config["event_size"] is not None:
        network.build(tf.TensorShape([None, config["event_size"]]))
    return network


def _write_function(value, writer):
    name = _name_of(value, _FUNCTIONS) if hasattr(value, "__name__") and not isinstance(value, type) else None
    if name is None:
        what = "a lambda has no name to be found under" if "<lambda>" in str(value) else "it could not be found"
        writer.refuse(
            value,
            f"{what} when loading. Register a named function with keras.saving.register_keras_serializable, or make "
            "it a Keras layer.",
        )
    return {"name": name}


def _read_function(config, reader):
    function = _find(config["name"], _FUNCTIONS)
    if not callable(function) or isinstance(function, type):
        raise ValueError(
            f"Expected the name of a function in {', '.join(_FUNCTIONS)}, or of one registered with "
            f"keras.saving.register_keras_serializable. Received: {config['name']!r}"
        )
    return function
