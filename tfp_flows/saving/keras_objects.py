"""Keras objects inside a distribution as plain JSON, by Keras's own means, and nothing it would not find again."""

import operator
import warnings

import keras
import tf_keras


class NotWritableError(Exception):
    """Why a value cannot be written; `config` adds where it stands."""


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
    for unknown in _unknown_to_keras(config):
        raise NotWritableError(
            f"it holds {unknown!r}, which Keras would not find when loading. Register functions that have a name, and "
            "classes, with keras.saving.register_keras_serializable."
        )
    return {"config": config}


def decode_keras(config):
    for unknown in _unknown_to_keras(config):
        raise ValueError(
            "Expected classes and functions of Keras, or registered with keras.saving.register_keras_serializable. "
            f"Received: {unknown!r}"
        )
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


def _unknown_to_keras(config):
    """Yields the names of what, in the config of a Keras object, is neither of Keras nor registered.

    Keras would say so when loading; this says it when saving. It also keeps those versions of Keras that import any
    module named in a file from doing so.
    """
    if isinstance(config, dict):
        if "class_name" in config and not _is_known_to_keras(config):
            yield config["config"] if config["class_name"] == "function" else config["class_name"]
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from _unknown_to_keras(item)


def _is_known_to_keras(config):
    name, registered = str(config["class_name"]), keras.saving.get_registered_object
    if name == "function":
        return hasattr(keras.activations, str(config["config"])) or registered(config["config"]) is not None
    if name in ("TFSMLayer", "TorchModuleWrapper"):  # bring programs of their own
        return False
    if name.startswith("__"):  # Keras's words for tensors, slices and the like
        return name not in ("__lambda__", "__typespec__")
    package, _, path = f"{config.get('module')}.{name}".partition(".")
    try:
        of_keras = package == "keras" and isinstance(operator.attrgetter(path)(keras), type)
    except AttributeError:
        of_keras = False
    return of_keras or registered(config.get("registered_name")) is not None
