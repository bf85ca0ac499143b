"""Bijectors whose parameters are the same for every event, or depend on the context alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows._types import Activation
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.conditioners.mlp import MLP
from tfp_flows.context.joining import call_conditioner


class ParametricBijector(Bijector):
    """A bijector whose parameters do not depend on the event.

    Without a context they are variables, each an attribute under its name. With one they are the output of a network
    θ(c), as in the amortised inference of Rezende & Mohamed 2015: an `MLP` whose last layer has zero weights and the
    initial parameters as bias, so that the bijector has the same initial values with and without a context.

    A subclass calls `_make_parameters` once, and `_parameters_for(context)` in both directions.

    Arguments: event_size, and those of `Bijector`; and
      hidden_units, activation: of the network, see `MLP`.
    """

    def __init__(
        self, event_size: int, *, hidden_units: Sequence[int] = (64, 64), activation: Activation = "relu", **shared: Any
    ) -> None:
        super().__init__(event_size, **shared)
        self._network_options = {"hidden_units": hidden_units, "activation": activation}

    def _make_parameters(self, **initial):
        """Makes the parameters `initial`: their names, and the arrays to start from."""
        initial = {name: np.asarray(value, self.dtype.as_numpy_dtype) for name, value in initial.items()}
        self._names = tuple(initial)
        self._shapes = tuple(value.shape for value in initial.values())
        self._initial = tuple(initial.values())
        if self.context_size:
            values = np.concatenate([value.ravel() for value in initial.values()])
            self.conditioner = MLP(
                self.context_size,
                len(values),
                output_bias=values,
                seed=self.seed,
                dtype=self._network_dtype,
                **self._network_options,
            )
        else:
            for name, value in initial.items():
                setattr(self, name, tf.Variable(value, name=name))

    def _parameters_for(self, context):
        """The parameters in their order: each of its own shape, after the batch shape of the context if any."""
        if context is None:
            return [tf.convert_to_tensor(getattr(self, name)) for name in self._names]
        parameters = tf.cast(call_conditioner(self.conditioner, context, None), self.dtype)
        parts = tf.split(parameters, [math.prod(shape) for shape in self._shapes], -1)
        return [
            tf.reshape(part, tf.concat([tf.shape(context)[:-1], np.int32(shape)], 0))
            for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def _start_from(self, **values):
        """Sets parameters by name, for `adapt`; with a context, in the bias of the network's last layer."""
        if not self.context_size:
            for name, value in values.items():
                getattr(self, name).assign(value)
            return
        bias = self.conditioner.output_layer.bias
        sizes = [math.prod(shape) for shape in self._shapes]
        parts = dict(zip(self._names, np.split(bias.numpy(), np.cumsum(sizes)[:-1]), strict=True))
        parts.update({name: np.ravel(value) for name, value in values.items()})
        bias.assign(np.concatenate(list(parts.values())))

    @property
    def is_adapted(self) -> bool:
        """Whether a parameter differs from its initial value."""
        if self.context_size:
            initial = np.concatenate([value.ravel() for value in self._initial])
            return not np.array_equal(self.conditioner.output_layer.bias.numpy(), initial)
        current = [getattr(self, name).numpy() for name in self._names]
        return not all(map(np.array_equal, current, self._initial))
