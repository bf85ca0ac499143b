"""Objects made by a class from arguments: the arguments of an object, and an object from arguments."""

import dataclasses
import functools
import inspect
import types

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from tfp_flows import transformers
from tfp_flows.saving.allow_list import BASES, CLASSES, TF_KERAS, find, name_of
from tfp_flows.saving.keras_objects import NotReadableError, NotWritableError

# Arguments not written where they are the default: None, functions of TFP, and its `object()` for "not given". Other
# defaults are written, for a later version may have others.
_UNWRITTEN_DEFAULTS = (type(None), types.FunctionType, object)


def encode_object(value):
    cls = tf.Variable if isinstance(value, tf.Variable) else type(value)
    name = name_of(cls, CLASSES)
    if name is None:
        raise NotWritableError(
            f"the class {cls.__name__} could not be found when loading. Register it with "
            "keras.saving.register_keras_serializable (which asks for a method get_config: `return self.parameters`)."
        )
    arguments = _arguments(value)
    if _holds_class_name(arguments):
        raise NotWritableError("it was given the configuration of a Keras object. Pass the object itself.")
    return {"class_path": name, "arguments": arguments}


def decode_object(class_path, arguments):
    cls = find(class_path, CLASSES)
    if not (isinstance(cls, type) and issubclass(cls, BASES)):
        raise NotReadableError(
            "Expected the name of a bijector, distribution, transformer, linear operator or kernel: of tfp_flows, TFP "
            f"or TensorFlow, or registered with keras.saving.register_keras_serializable. Received: {class_path!r}"
        )
    if _holds_class_name(arguments):
        raise NotReadableError(
            "Expected Keras objects to be written as such, not as configurations, of which constructors make objects "
            f"by rules of their own. Received: arguments of {class_path!r} with a 'class_name'"
        )
    value = cls(**arguments)
    if isinstance(value, tfb.AutoregressiveNetwork) and value.event_shape is not None:
        value.build(tf.TensorShape([None, *value.event_shape]))  # so that its weights are there to be loaded
    return value


def _holds_class_name(value):
    """Whether a value contains, at any depth, a dictionary from which Keras or tf_keras would make an object."""
    if isinstance(value, dict):
        return isinstance(value.get("class_name"), str) or any(map(_holds_class_name, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_class_name, value))


@functools.singledispatch
def _arguments(value):
    """The arguments from which its class makes an object; TFP's objects and ours keep them as `parameters`."""
    how = "Begin its __init__ with `parameters = dict(locals())` and pass that to `super().__init__` as `parameters`."
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
            "hidden_degrees='random' were drawn when the network was built and not kept, so its masks cannot be "
            "reproduced. Use hidden_degrees='equal'."
        )
    attributes = {"conditional_input_layers": "_conditional_layers", "input_order": "_input_order_param"}
    arguments = {**value._kwargs, "name": value.name, "dtype": value.dtype, "trainable": value.trainable}
    for name, parameter in inspect.signature(tfb.AutoregressiveNetwork).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            arguments[name] = getattr(value, attributes.get(name, f"_{name}"))
    if value.built:
        arguments["input_order"] = value._input_order.tolist()  # a random order as it was drawn
    return arguments


for _base in TF_KERAS:
    _arguments.register(_base, lambda value: value.get_config())
