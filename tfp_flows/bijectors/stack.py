"""Equal layers as one: a loop whose turns are the layers, so that one of them is compiled and not all."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows._math.scan import scan
from tfp_flows._types import Walk
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.autoregressive import IAF, MAF, MaskedAutoregressive, NeuralSplineAutoregressive
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.circular import CircularCoupling
from tfp_flows.bijectors.coupling import NICE, Coupling, NeuralSplineCoupling, RealNVP
from tfp_flows.bijectors.gaussianization import Gaussianization
from tfp_flows.bijectors.linear import Householder, LULinear
from tfp_flows.bijectors.permutation import Permutation
from tfp_flows.bijectors.planar import Planar
from tfp_flows.bijectors.radial import Radial
from tfp_flows.bijectors.sphere import SphereFlow
from tfp_flows.bijectors.sylvester import Sylvester
from tfp_flows.context import walk
from tfp_flows.transformers.transformer import Transformer

# What a loop has been shown to do right; other layers may draw random numbers, or keep states, of their own.
KINDS = (
    *(Coupling, NICE, RealNVP, NeuralSplineCoupling, CircularCoupling, SphereFlow),
    *(MaskedAutoregressive, MAF, IAF, NeuralSplineAutoregressive),
    *(Planar, Radial, Sylvester, Gaussianization, LULinear, Householder, ActNorm, Permutation),
)


class Stack(Bijector):
    """A chain of equal layers; in a graph a loop over them, which takes the time of one turn to compile.

    Inverse: z = f_L⁻¹(... f_1⁻¹(x)), where turn 1 is next to the data. Forward: x = f_1(... f_L(z)).
    The log-determinants are the sums of the turns'. Each direction costs what it costs in a `tfb.Chain`; the gradient
    evaluates once more what is not a matrix product of a conditioner, since the loop keeps no more than those and what
    each turn begins with.

    A weight of the layers becomes a variable `[L, ...]`, which starts from theirs. What else they differ in, orders and
    permutations, is data of the turn.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      turns: L bijectors, the one next to the data first; or L lists of bijectors, the layers of one turn each. Turns
        are equal but for weights, seeds, names, permutations and autoregressive orders, and have no conditioner of your
        own: see `are_alike`. They may be Coupling, NICE, RealNVP, NeuralSplineCoupling, CircularCoupling, SphereFlow,
        MaskedAutoregressive, MAF, IAF, NeuralSplineAutoregressive, Planar, Radial, Sylvester, Gaussianization,
        LULinear, Householder, ActNorm and Permutation; subclasses are refused.
      validate_args: whether to check what comes in; also where a layer asks for it.
      name: see `Bijector`.

    Raises: ValueError where there are no turns, turns that are not equal, or layers of another kind.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> stack = tff.bijectors.Stack([tff.bijectors.Planar(2, seed=k) for k in range(16)])
    >>> [variable.shape for variable in stack.variables]
    [TensorShape([16, 1]), TensorShape([16, 2]), TensorShape([16, 2])]
    """

    # The layers are a pattern and a place to work: their own variables are not the stack's.
    _TF_MODULE_IGNORED_PROPERTIES = Bijector._TF_MODULE_IGNORED_PROPERTIES.union(
        ("_parameters", "_constructor_arguments", "_turns", "_places", "_array_places", "_weights_of_turns")
    )

    def __init__(
        self,
        turns: Sequence[tfb.Bijector] | Sequence[Sequence[tfb.Bijector]],
        *,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        turns = [list(turn) if isinstance(turn, (list, tuple)) else [turn] for turn in turns]
        _check(turns)
        conditional = next((layer for layer in turns[0] if layer.context_shape is not None), turns[0][0])
        super().__init__(
            turns[0][0].event_shape,
            context_shape=conditional.context_shape,
            context_size=conditional.context_size,
            dtype=turns[0][0].dtype,
            validate_args=validate_args or any(layer.validate_args for turn in turns for layer in turn),
            name=name,
        )
        self._turns = self._no_dependency(turns)
        self._places = self._no_dependency([_weights(turn) for turn in turns])
        self._weights_of_turns = self._no_dependency([list(map(_content, places)) for places in self._places])
        self._stacked = [_stack(weights) for weights in zip(*self._weights_of_turns, strict=True)]
        self._array_places = self._no_dependency(_arrays(turns[0]))
        arrays = [list(map(_content, _arrays(turn))) for turn in turns]
        self._stacked_arrays = self._no_dependency([np.stack(same) for same in zip(*arrays, strict=True)])

    def _forward_and_log_det(self, z, context):
        return self._loop(z, context, forward=True)

    def _inverse_and_log_det(self, x, context):
        return self._loop(x, context, forward=False)

    def _loop(self, event, context, forward):
        def through(layers, event, context=None):
            total = 0.0
            for layer in layers[:: -1 if forward else 1]:
                evaluate = layer._forward_and_log_det if forward else layer._inverse_and_log_det
                event, log_det = evaluate(event, None if layer.context_shape is None else context)
                total += log_det
            return event, total

        @contextlib.contextmanager
        def turn_at(k, weights):
            if isinstance(k, int):  # written out, with the layers of the turn
                turn, places, values = k, self._places[k], weights
            else:  # in the loop, where the layers of the first turn stand for all
                arrays = [tf.constant(array)[k] for array in self._stacked_arrays]
                turn, places, values = 0, [*self._places[0], *self._array_places], [*weights, *arrays]
            with _values_in(places, values):
                yield functools.partial(through, self._turns[turn])

        weights = [tf.convert_to_tensor(variable) for variable in self._stacked]
        zero = tf.reduce_sum(tf.zeros_like(event), list(range(-self.event_shape.rank, 0)))
        shared = () if context is None else (context,)
        return scan(turn_at, len(self._turns), weights, event, zero, shared, reverse=forward)

    @property
    def layers(self) -> list[tfb.Bijector]:
        """The layers as they are now, the one next to the data first; their weights are copies."""
        for k in range(len(self._turns)):
            self._load(k)
        return [layer for turn in self._turns for layer in turn]

    @property
    def first_turn(self) -> list[tfb.Bijector]:
        """The layers of the turn next to the data, for what all turns have in common; their weights may be old ones."""
        return self._turns[0]

    def walk(self, x: tf.Tensor, context: tf.Tensor | None = None, inverted: bool = False) -> Walk:
        """Goes from layer to layer, and keeps what the caller makes of the weights: see `tfp_flows.context.walk`."""
        step = -1 if inverted else 1
        for k in range(len(self._turns))[::step]:
            self._load(k)
            try:
                for layer in self._turns[k][::step]:
                    x = yield from walk(layer, x, context, inverted)
            finally:  # a caller may stop after any layer
                self._store(k)
        return x

    def _load(self, k):
        """Gives the layers of turn k their slices of the weights."""
        for stacked, weight in zip(self._stacked, self._weights_of_turns[k], strict=True):
            weight.assign(stacked[k])

    def _store(self, k):
        """Takes the slices back."""
        for stacked, weight in zip(self._stacked, self._weights_of_turns[k], strict=True):
            stacked.assign(tf.tensor_scatter_nd_update(stacked, [[k]], tf.convert_to_tensor(weight)[tf.newaxis]))


def are_alike(one, other):
    """Whether two layers can be turns of one loop: of one class, and made with the same arguments.

    Seeds, names, and the arguments that the class names in `_arrays` may differ. An argument that is neither a number,
    a text, an array nor a transformer has to be the same object.
    """
    if not _can_be_stacked(one) or type(one) is not type(other):
        return False
    free = {"seed", "name", "drawn_masks", *(argument for argument, _ in one._arrays)}  # drawn masks are weights
    free |= {"phase"}  # of `CircularCoupling`: where its weights begin
    if not all(_same(value, other.parameters[name]) for name, value in one.parameters.items() if name not in free):
        return False
    weights = [[_content(place) for place in _weights([layer])] for layer in (one, other)]
    kinds, other_kinds = ([(w.shape, w.dtype, w.trainable) for w in layer] for layer in weights)
    return kinds == other_kinds


def stacked(turns):
    """The layers of all turns in order, equal turns that follow one another as a `Stack`."""
    runs = []
    for turn in turns:
        if runs and _are_equal(turn, runs[-1][0]):
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return [layer for run in runs for layer in ([Stack(run)] if len(run) > 1 else run[0])]


def _are_equal(turn, other):
    return len(turn) == len(other) and all(map(are_alike, turn, other))


def _can_be_stacked(layer):
    """Whether a layer is of `KINDS`; a conditioner of the user's may have random states, or be shared by layers."""
    return type(layer) in KINDS and layer.parameters.get("conditioner") is None


def _check(turns):
    if not turns or not all(turns):
        raise ValueError(f"Expected turns of at least one layer each. Received: turns={turns}")
    for layer in (layer for turn in turns for layer in turn):
        if not _can_be_stacked(layer):
            kinds = ", ".join(kind.__name__ for kind in KINDS)
            raise ValueError(f"Expected layers of {kinds} without a `conditioner` argument. Received: {layer}")
    if len({id(layer) for turn in turns for layer in turn}) < sum(map(len, turns)):
        raise ValueError(f"Expected every layer once, since each has weights of its own. Received: turns={turns}")
    for turn in turns:
        if not _are_equal(turn, turns[0]):
            raise ValueError(
                "Expected turns of layers of the same classes, made with the same arguments but for seeds, names, "
                f"permutations and autoregressive orders. Received: {turns[0]} and {turn}"
            )


def _same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and np.array_equal(a, b)
    plain = (bool, int, float, str, tuple, list, tf.DType, tf.TensorShape, Transformer)
    return a is b or (type(a) is type(b) and isinstance(a, plain) and a == b)


def _stack(weights):
    """One variable of the weights of all turns."""
    first = weights[0]
    name = getattr(first, "path", first.name).split(":")[0].replace("/", ".")
    return tf.Variable(tf.stack(list(map(tf.convert_to_tensor, weights))), trainable=first.trainable, name=name)


# Where a layer finds its numbers. A Keras layer asks a `keras.Variable`, which a scope can give another value; all else
# are attributes, which can be set: such a place is written (what has the attribute, its name).


def _weights(layers):
    """The places of all weights."""
    places = {}
    for layer in layers:
        for network in layer._flatten(predicate=lambda leaf: isinstance(leaf, keras.layers.Layer)):
            places.update({id(weight.value): weight for weight in network.variables})
        for part in (layer, *layer.submodules):
            for name, value in sorted(vars(part).items()):
                if isinstance(value, tf.Variable):
                    places.setdefault(id(value), (part, name))
        if any(id(variable) not in places for variable in layer.variables):
            raise ValueError(
                "Expected layers whose variables are attributes or in Keras layers, not in lists or dictionaries. "
                f"Received: {layer}"
            )
    return list(places.values())


def _arrays(layers):
    """The places of the arrays in which layers may differ; drawn ones are weights."""
    places = []
    for layer in layers:
        for _, path in layer._arrays:
            holder, _, name = path.rpartition(".")
            places.append((operator.attrgetter(holder)(layer) if holder else layer, name))
    return [place for place in places if isinstance(_content(place), np.ndarray)]


def _content(place):
    return place if isinstance(place, keras.Variable) else getattr(*place)


@contextlib.contextmanager
def _values_in(places, values):
    """Within it, the values stand in these places."""
    weights = [(place, value) for place, value in zip(places, values, strict=True) if isinstance(place, keras.Variable)]
    attributes = [(*place, value) for place, value in zip(places, values, strict=True) if isinstance(place, tuple)]
    before = [(part, name, vars(part)[name]) for part, name, _ in attributes]
    try:
        for part, name, value in attributes:
            vars(part)[name] = value
        with keras.StatelessScope(weights, initialize_variables=False):
            yield
    finally:
        for part, name, value in before:
            vars(part)[name] = value
