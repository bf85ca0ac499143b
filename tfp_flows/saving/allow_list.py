"""The names a file may contain: whose constructors may be called, and where names are looked up."""

import inspect
import sys

import keras
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, distributions, transformers

# Whose constructors may be called; the three of tf_keras are what a `tfb.AutoregressiveNetwork` takes.
TF_KERAS = (tf_keras.initializers.Initializer, tf_keras.regularizers.Regularizer, tf_keras.constraints.Constraint)
_KERNEL = tfp.math.psd_kernels.PositiveSemidefiniteKernel
BASES = (
    *(tfb.Bijector, tfd.Distribution, transformers.Transformer, tf.linalg.LinearOperator, _KERNEL),
    *(tf.Variable, tfp.util.DeferredTensor, tfb.AutoregressiveNetwork, *TF_KERAS),
)

# Where classes and functions are looked up, by the names in the file.
CLASSES = {
    "tfp_flows.bijectors": bijectors,
    "tfp_flows.distributions": distributions,
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
FUNCTIONS = {
    "keras.activations": keras.activations,
    "keras.ops": keras.ops,
    "tensorflow.linalg": tf.linalg,
    "tensorflow.math": tf.math,
    "tensorflow.nn": tf.nn,
    "tf_keras.activations": tf_keras.activations,
}
_OF_NO_TENSOR = (
    *(keras.activations.get, keras.activations.serialize, keras.activations.deserialize),
    *(tf_keras.activations.get, tf_keras.activations.serialize, tf_keras.activations.deserialize),
    *(keras.ops.custom_gradient, keras.ops.vectorize),
)


def name_of(value, namespaces):
    """The name by which `find` finds a class or function; None where it would not."""
    for namespace, module in namespaces.items():
        for name in (value.__name__, value.__name__.lstrip("_")):
            found = getattr(module, name, None)
            # Where a part is no composite tensor, `tfb.Chain(...)` gives a `_Chain`, the class it derives from.
            twin = name != value.__name__ and isinstance(found, type) and issubclass(found, value)
            if found is value or twin:
                return f"{namespace}.{name}"
    name = keras.saving.get_registered_name(value)
    return name if keras.saving.get_registered_object(name) is value else None


def find(name, namespaces):
    if not isinstance(name, str):
        return None
    namespace, _, attribute = name.rpartition(".")
    if namespace in namespaces:
        return getattr(namespaces[namespace], attribute, None)
    return keras.saving.get_registered_object(name)


def is_function_of_a_tensor(function):
    """Whether a function of the namespaces can be called with one tensor and nothing else.

    That is how distributions and bijectors call the functions they are given. Functions of more arguments may take
    functions or file names, as `tf.nn.fixed_unigram_candidate_sampler` does.
    """
    if not inspect.isroutine(function) or any(function is other for other in _OF_NO_TENSOR):
        return False
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.default is parameter.empty for parameter in parameters if parameter.kind in kinds) == 1
