"""`copy.deepcopy` and `pickle` of TFP's distributions and bijectors: constructed from the arguments a file would hold.

On their own most of them can be neither copied nor pickled: their constructors need arguments when Python makes an
empty object, and they keep functions without names. Arguments are copied in turn, each variable and layer once: what
was shared is shared in the copy, and nothing is shared with the original.
"""

import copyreg
import sys

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.context import Conditioned, Embedded
from tfp_flows.saving.allow_list import CLASSES
from tfp_flows.saving.keras_objects import NotWritableError
from tfp_flows.saving.objects import decode_object, encode_object

_KINDS = (tfb.Bijector, tfd.Distribution, tfp.math.psd_kernels.PositiveSemidefiniteKernel)


def _reduce(value):
    """What Python asks for: a function that constructs the object, and its arguments."""
    try:
        config = encode_object(value)
    except NotWritableError as error:
        raise TypeError(f"Cannot copy or pickle {value!r}: {error}") from error.__cause__
    return decode_object, (config["class_path"], config["arguments"])


def _reduce_network(network):
    size = network._event_size if network.built else None
    return _network_again, (*_reduce(network)[1], size, [weight.numpy() for weight in network.weights])


def _network_again(class_path, arguments, size, values):
    network = decode_object(class_path, arguments)
    if size is not None:  # it was built
        if not network.built:
            network.build(tf.TensorShape([None, size]))
        network.set_weights(values)
    return network


def _of_tfp(kinds):
    """TFP's classes of these kinds, with the twins that objects are of where a part is no composite tensor."""
    for namespace, module in CLASSES.items():
        if namespace.startswith("tensorflow_probability"):
            for name, cls in vars(module).items():
                if isinstance(cls, type) and issubclass(cls, kinds):
                    yield cls
                    twin = getattr(sys.modules[cls.__module__], f"_{name}", None)
                    if isinstance(twin, type) and issubclass(cls, twin):
                        yield twin


# Our bijectors around others are copied like TFP's, from their arguments; those with own weights do it themselves.
for _cls in (*_of_tfp(_KINDS), Conditioned, Embedded):
    copyreg.pickle(_cls, _reduce)
copyreg.pickle(tfb.AutoregressiveNetwork, _reduce_network)
