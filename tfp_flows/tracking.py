"""The bridge between Keras weights and the variables of TFP objects, each counted once.

TFP finds variables by `tf.Module`, Keras by `keras.layers.Layer`; neither sees the other's. Two steps join them:

- `weights_of(layer)` lists a Keras layer's weights as `tf.Variable`s. A bijector that keeps the list as an attribute
  counts them.
- `layers_of(module)` gives Keras layers that hold, by identity and not as copies, every variable of a TFP object.
"""

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd


def weights_of(layer):
    """The weights of a built Keras layer as a list of `tf.Variable`s."""
    return [weight.value for weight in layer.variables]


def layers_of(module):
    """Keras layers that hold every variable of a TFP object, one layer for each part that owns some.

    A part is a bijector or a distribution; each variable belongs to the innermost part around it. Keras layers that a
    part holds as attributes (conditioners) become sublayers, with their regularizers, constraints and names.

    Arguments:
      module: a `tf.Module`: any `tfd.Distribution` or `tfb.Bijector`.

    Returns: a list of Keras layers, in the order of the parts in `module`.
    """
    parts = [part for part in (module, *module.submodules) if isinstance(part, (tfb.Bijector, tfd.Distribution))]
    seen, layers = set(), []
    for part in reversed(parts):  # submodules come after the parts that hold them, so the innermost claims first
        sublayers = _claim(_attributes(part, keras.layers.Layer), seen)
        seen.update(id(variable) for layer in sublayers for variable in weights_of(layer))
        variables = _claim(part.variables, seen)
        if sublayers or variables:
            # The part's own class name is what `summary()` shows.
            kind = type(type(part).__name__.strip("_"), (_Part,), {})
            layers.append(kind(part.name, sublayers, variables, _event_shape(part) or _event_shape(module)))
    return layers[::-1]


def _event_shape(part):
    """The shape of a part's events; None where it is not known, or only by drawing, as of a joint distribution."""
    return None if isinstance(part, tfd.JointDistribution) else getattr(part, "event_shape", None)


def build_networks(distribution, bound):
    """Builds networks that make their variables at their first call, as TFP's `AutoregressiveNetwork` does.

    Arguments:
      distribution: a `tfd.Distribution`.
      bound: a function that gives the distribution bound to some context, if it takes one.
    """
    layers = [module for module in distribution.submodules if hasattr(module, "built")]
    for part in (distribution, *distribution.submodules):
        layers += _attributes(part, keras.layers.Layer)
    if all(layer.built for layer in layers):
        return
    try:
        sample = bound().sample(1, seed=(0, 0))
        bound().log_prob(tf.nest.map_structure(tf.identity, sample))
    except Exception as error:
        raise ValueError(
            "Expected a distribution whose networks are built, so that their weights are known; calling one of them "
            f"on a sample failed: {error} Received: {[layer.name for layer in layers if not layer.built]} unbuilt"
        ) from error


class AdoptedVariable(keras.Variable):
    """A Keras weight that is an existing `tf.Variable`, not a copy of it.

    It relies on an undocumented behaviour of Keras: `keras.Variable.__init__` stores what
    `_initialize_with_initializer` leaves in `_value`. tests/test_tracking.py pins it.
    """

    def __init__(self, variable):
        self._adopted = variable
        super().__init__(
            _never_called,
            shape=variable.shape,
            dtype=variable.dtype.name,
            trainable=variable.trainable,
            name=variable.name.split(":")[0].replace("/", "."),
        )
        # An optimizer applies the constraint of a Keras weight after each step; TFP's networks rely on it for masks.
        # tf_keras puts it on the variable; a plain `tf.Variable` has None.
        constraint = getattr(variable, "constraint", None)
        if constraint is not None:
            self.constraint = _ConstraintOf(constraint)

    def _initialize_with_initializer(self, initializer):
        self._value = self._adopted


class _ConstraintOf(keras.constraints.Constraint):
    """The constraint of a `tf.Variable`, any function of a tensor, as Keras's weights require it."""

    def __init__(self, function):
        self.function = function

    def __call__(self, weight):
        return self.function(tf.convert_to_tensor(weight))


class _Part(keras.layers.Layer):
    """The weights of one bijector or distribution, as Keras shows, saves and freezes them.

    Where the shape of its events is known, `summary` shows it as the shape of the output.
    """

    def __init__(self, name, sublayers, variables, event_shape):
        super().__init__(name=name.strip("_").replace("/", "_") or None, autocast=False)
        self.sublayers = sublayers
        for variable in variables:
            self._track_variable(AdoptedVariable(variable))
        if isinstance(event_shape, tf.TensorShape) and event_shape.rank is not None:
            self.build((None, *event_shape))
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape


def _never_called(shape, dtype=None):
    raise RuntimeError(
        "Expected Keras to leave the initialization of a variable to `_initialize_with_initializer`, as versions 3.10 "
        "to 3.15 do; this version does not, so existing variables cannot become Keras weights. "
        f"Received: keras=={keras.__version__}"
    )


def _attributes(module, kind):
    """The instances of `kind` among the attributes of one module, those of its submodules left out."""
    return list(module._flatten(recursive=False, predicate=lambda leaf: isinstance(leaf, kind)))


def _claim(items, seen):
    """Those of `items` not seen before, each once; they are seen now."""
    fresh = []
    for item in items:
        if id(item) not in seen:
            seen.add(id(item))
            fresh.append(item)
    return fresh
