"""What Keras calls of a model of a distribution: the steps, their compiled functions, the variables of its own."""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import stateless_seed
from tfp_flows.model import training


class KerasSteps(keras.Model):
    """The side of `FlowModel` that Keras sees: everything that `fit`, `evaluate`, `predict` and `save` come back to."""

    def training_log_prob(self, inputs: Any, fields: dict[str, tf.Tensor]) -> tf.Tensor:
        """What a training step maximizes, per row: log p, or the negative loss of another objective."""
        if getattr(self.objective, "is_likelihood", False):
            return self(inputs, training=True, seed=self._step_seed())
        return self(inputs, training=True, objective=self.objective, seed=self._step_seed(), fields=fields)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        inputs, target, weight, fields = self._keras_parts(self.training_spec, data)
        return self._as_logs(training.train_step(self, inputs, target, weight, fields))

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        inputs, target, weight, _ = self._keras_parts(self.data_spec, data)
        return self._as_logs(training.test_step(self, inputs, target, weight))

    def predict_step(self, data: Any) -> tf.Tensor:
        return self(self._keras_parts(self.data_spec, data)[0], training=False)

    def _keras_parts(self, spec, data):
        """Keras's inputs, target and weights of a batch, and what an objective wants beside x."""
        context, x, weight = spec.tensors(*spec.unpack(data))
        x, fields = spec.x_and_fields(x)
        return (context, x) if self.is_conditional else x, self.data_spec.target(x), weight, fields

    def _step_seed(self):
        """A stateless seed for this training step; a resumed run gets the same."""
        if not (self.compiled and self.optimizer):  # a layer of a larger model
            return stateless_seed(None)
        return tf.stack([self._seed, tf.cast(self.optimizer.iterations, tf.int32)])

    def make_test_function(self, force: bool = False) -> None:
        with self._graph_for_open_sizes():
            super().make_test_function(force)

    def make_predict_function(self, force: bool = False) -> None:
        with self._graph_for_open_sizes():
            super().make_predict_function(force)

    @contextlib.contextmanager
    def _graph_for_open_sizes(self):
        """Compiles without XLA, which would compile one program per batch size, unless asked to."""
        jit_compile = self.jit_compile
        self.jit_compile = bool(self._jit_given)
        yield
        self.jit_compile = jit_compile

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing: `__init__` and `compile` have built everything, and Keras's way fails with several workers.

        Keras passes the values of all replicas to a step for one (keras-team/keras issue 20585).
        """

    def _as_logs(self, logs):
        """Keras takes the mean of several workers' logs over a first axis, which its own logs lack."""
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return {name: tf.reshape(value, [1]) for name, value in logs.items()}
        return logs

    def _build_training_state(self):
        """Makes the variables of optimizer and metrics; made in the first step, they would cause a second tracing."""
        if self.trainable_variables:
            self.optimizer.build(self.trainable_variables)
        point = tf.nest.map_structure(
            lambda dtype, shape: tf.zeros([1, *(size or 1 for size in shape)], dtype),
            self.data_spec.event_dtype,
            self.data_spec.event_shape,
        )
        self.compute_metrics(None, self.data_spec.target(point), tf.zeros([1], self.precision))
        self.reset_metrics()

    # Saving

    def save_own_variables(self, store: MutableMapping[str, np.ndarray]) -> None:
        """Writes the states of random layers, which Keras's weights files lack: a resumed run continues from them."""
        for k, state in enumerate(self._random_states):
            store[str(k)] = state

    def load_own_variables(self, store: MutableMapping[str, np.ndarray]) -> None:
        saved = len(store.keys())  # none, if the file is older than the random layers
        for k, state in enumerate(self._random_states[:saved]):
            state.assign(store[str(k)])

    @property
    def _random_states(self):
        """The states of layers such as Dropout; the model has no other variables than those and its layers' weights."""
        weights = {id(weight) for weight in self.weights}
        return [variable for variable in self.variables if id(variable) not in weights]
