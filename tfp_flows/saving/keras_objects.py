"""Keras objects inside a distribution as plain JSON, by Keras's own serialization, as far as they are safe to read.

A file may name any class of Keras. The name is resolved first, among the registered objects and in Keras's namespace as
imported, and the object itself is judged, since one class has many names.
"""

import operator
import types
import warnings

import keras
import tf_keras

# The kinds of objects that a layer, or the configuration of `compile`, is made of.
_KINDS = (
    *(keras.Operation, keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint),
    *(keras.DTypePolicy, keras.quantizers.Quantizer, keras.random.SeedGenerator),
    *(keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer),
    keras.optimizers.schedules.LearningRateSchedule,
)
# Layers that run other programs, in the file or beside it.
_PROGRAMS = tuple(
    getattr(keras.layers, name)
    for name in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
    if hasattr(keras.layers, name)
)
# Where functions come from, and what else is there beside functions of tensors.
_FUNCTION_MODULES = (keras.activations, keras.losses, keras.metrics)
_NO_FUNCTIONS = ("get", "serialize", "deserialize")
# Keras's markers for values. It has others: `__lambda__`, which is a program, and `__typespec__`.
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")


class NotWritableError(Exception):
    """Why a value cannot be written; `config` adds its path."""


class NotReadableError(ValueError):
    """Why a config cannot be read."""


def encode_keras(value):
    if isinstance(value, tf_keras.layers.Layer):
        raise NotWritableError("of tf_keras only tfb.AutoregressiveNetwork can be written. Use a layer of Keras 3.")
    if isinstance(value, keras.Variable):
        raise NotWritableError("TFP takes a keras.Variable for a constant. Pass its `value`, which is a tf.Variable.")
    if not hasattr(value, "get_config"):
        raise NotWritableError(
            "it has no configuration to be made from when loading. Use a Keras layer, or a class of your own with "
            "get_config and from_config, registered with keras.saving.register_keras_serializable."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="The object being serialized includes a `lambda`")
            config = keras.saving.serialize_keras_object(value)
    except Exception as error:
        raise NotWritableError(f"Keras could not write it ({str(error).split('. ')[0]}).") from error
    for refused in _refused(config):
        raise NotWritableError(
            f"it holds {refused!r}, which would not be read when loading. Register functions that have a name, and "
            "classes, with keras.saving.register_keras_serializable; replace a layer that runs its own program, such "
            "as a Lambda, by a class of yours."
        )
    return {"config": config}


def decode_keras(config):
    check_keras(config)
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


def check_keras(config):
    """Raises ValueError if a config that Keras is to read contains, at any depth, what no file may bring.

    Allowed: layers, models, initializers, regularizers, constraints, dtype policies, losses, metrics, optimizers and
    activation functions of Keras, and everything registered. Not allowed: layers that execute or load something
    (Lambda, TFSMLayer and the like), the path of a vocabulary, functions that are not functions of tensors.
    """
    for refused in _refused(config):
        raise NotReadableError(
            "Expected layers and functions of Keras that bring no programs or files, or those registered with "
            f"keras.saving.register_keras_serializable. Received: {refused!r}"
        )


def _refused(config):
    """Yields the names of what, in the config of a Keras object, may not be read."""
    if isinstance(config, dict):
        if "class_name" in config and not _may_be_read(config):
            yield config.get("config") if config["class_name"] == "function" else config["class_name"]
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from _refused(item)


def _may_be_read(config):
    name, module, inner = config["class_name"], config.get("module"), config.get("config")
    if not isinstance(name, str):
        return False
    if name.startswith("__"):
        return name in _VALUES
    if name == "function":
        return isinstance(inner, str) and _is_function_of_tensors(inner, module)
    registered_name = config.get("registered_name", name)
    found = isinstance(registered_name, str) and keras.saving.get_registered_object(registered_name)
    if not found:
        found = _of_keras(module, name)
        if not (isinstance(found, type) and issubclass(found, _KINDS)):
            return False
    reads_a_file = isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str)
    return not reads_a_file and not (isinstance(found, type) and issubclass(found, _PROGRAMS))


def _is_function_of_tensors(name, module):
    if keras.saving.get_registered_object(name) is not None:
        return True
    # Keras writes its own functions as those of "builtins".
    modules = [f"keras.{space.__name__.rpartition('.')[2]}" for space in _FUNCTION_MODULES]
    found = [_of_keras(space, name) for space in (modules if module in (None, "builtins") else [module])]
    known = [
        function
        for space in _FUNCTION_MODULES
        for public, function in vars(space).items()
        if isinstance(function, types.FunctionType) and public not in _NO_FUNCTIONS
    ]
    return any(function is other for function in found for other in known)


def _of_keras(module, name):
    """The object of this name in a module of Keras, as far as it is imported; None if there is none."""
    package, _, path = f"{module}.{name}".partition(".")
    try:
        return operator.attrgetter(path)(keras) if package == "keras" else None
    except AttributeError:
        return None
