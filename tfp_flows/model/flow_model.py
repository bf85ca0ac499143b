"""FlowModel: any TFP distribution made a Keras model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import saving
from tfp_flows._arguments import check_positive_integers, draw_seed
from tfp_flows._types import Array, Context, Data, Metrics, Seed, Structure, Tensors
from tfp_flows.context import context_shape_of, embedded
from tfp_flows.model import export, first_step, pipelines, training
from tfp_flows.model.compiled import CompiledMethods
from tfp_flows.model.inputs import DataSpec
from tfp_flows.model.keras_steps import KerasSteps
from tfp_flows.model.objectives import BitsPerDim, PerRow, as_loss, as_objective
from tfp_flows.saving.keras_objects import check_keras
from tfp_flows.tracking import build_networks, layers_of


@keras.saving.register_keras_serializable("tfp_flows")
class FlowModel(KerasSteps):
    """A Keras model of any `tfd.Distribution`: trained by `fit`, saved by `save`, served by `export`.

    The model's output is log p(x) or, with a context, log p(x|c), in nats; its loss is the mean of -log p: the maximum
    of the likelihood. It needs no `compile`: `fit` and `evaluate` compile with its defaults if nobody has. Inside a
    larger Keras model it is a layer like any other: `flow((context, x))` gives log p.

    Every `tf.Variable` of the distribution and every weight of the Keras layers inside it is a weight of the model, by
    identity: what `fit` trains, `distribution` uses at once. `layers` holds one layer per bijector or distribution that
    owns weights; `layer.trainable = False` freezes it, and needs a new `compile`, as always in Keras.

    Data: `fit(x)`; with a context, in Keras's order of input and target, `fit(context, x)`, or by name
    `fit(x, context=context)`. Arrays, lists, tensors, pandas frames and series; a `tf.data.Dataset`, a generator or a
    `keras.utils.PyDataset` that yields x or (x, sample_weight), and with a context (context, x) or
    (context, x, sample_weight). `sample_weight` multiplies the terms of the likelihood.

    Shapes: x `[n, D]`, context `[n, C]`, log-densities `[n]`. Distributions with other event shapes, or structures of
    tensors as `tfd.JointDistributionNamed` has them, take what their `log_prob` takes.

    Arguments:
      distribution: a `tfd.Distribution`. `FlowModel.distribution` is the same object, or has it with the embedding.
      embedding: a Keras layer that compresses the context before the bijectors get it, once per call, and is trained
        with them; None for none. Contexts then have the shape of its input, `[n, ...]`, or are dictionaries if it takes
        those. See `tff.bijectors.Embedded`.
      name: the model's name.

    Raises, before anything changes: TypeError for integers where the distribution takes floats; ValueError for data of
    the wrong size, with non-finite values, or without rows, and for a context that is missing or unexpected.

    Example:

    >>> import tfp_flows as tff
    >>> model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0))
    >>> history = model.fit(tff.datasets.two_moons(512, seed=0), epochs=2, verbose=0)
    >>> model.sample(3, seed=1).shape
    TensorShape([3, 2])
    """

    def __init__(
        self, distribution: tfd.Distribution, embedding: keras.layers.Layer | None = None, name: str | None = None
    ) -> None:
        if not isinstance(distribution, tfd.Distribution):
            raise TypeError(f"Expected a `tfd.Distribution`. Received: {distribution}")
        # The distribution has its own dtypes; Keras's autocast would cast everything to float32.
        super().__init__(name=name, autocast=False)
        if embedding is not None:
            distribution = embedded(distribution, embedding)
        self.distribution = distribution
        self.context_shape = context_shape_of(distribution)
        self.is_conditional = self.context_shape is not None
        self.data_spec = DataSpec(distribution, self.context_shape)
        self.training_spec = self.data_spec  # an objective may want more than x
        self.methods = CompiledMethods(distribution, self.data_spec, self.name)
        build_networks(distribution, lambda: self.methods.bound(self.data_spec.zero_context()))
        self.parts = layers_of(distribution)
        self.built = True
        self.objective = as_objective(None)
        self.guard = None  # the checks of a `FlowDoctor`
        self._steps_given = self._jit_given = None
        self._seed = draw_seed()
        self._step_functions = {}

    # Training

    def compile(
        self,
        optimizer: str | dict | keras.optimizers.Optimizer | None = None,
        loss: keras.losses.Loss | Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
        metrics: list | None = None,
        weighted_metrics: list | None = None,
        steps_per_execution: int | None = None,
        jit_compile: bool | str | None = None,
        objective: str | PerRow | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile` does, with defaults for flows.

        Arguments:
          optimizer: None for Adam at 1e-3 with the norm of the whole gradient clipped at 5.
          loss: None for the negative log-likelihood; else a Keras loss or a function, called with (x, log p(x)).
          metrics, weighted_metrics: Keras metrics of (x, log p(x)); "bits_per_dim" is one by name.
          steps_per_execution: batches that run in one call of the compiled function, which amortizes Keras's per-batch
            overhead: half the time of a small flow. None for 16, or the greatest number up to 16 that divides
            `steps_per_epoch` if `fit` is given one; for 1 where a callback acts on batches, and with several replicas,
            since TensorFlow cannot reduce over them inside Keras's loop.
          jit_compile: whether to run under XLA; None to train under XLA and evaluate without, in one program for
            batches of any size, and not at all under a `tf.distribute` strategy, with op determinism on, where Keras
            refuses it, and on a CPU for flows of convolutions, which are slower under it there.
          objective: what a training step minimizes: None or "likelihood", or a `tff.objectives.Objective`. `evaluate`,
            validation and metrics are of exact log-densities under every objective.
          **kwargs: everything else `keras.Model.compile` takes.

        Raises: ValueError for several steps per execution with several replicas, and for losses by name, which compare
          a prediction with a target.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1 and steps_per_execution not in (None, 1):
            raise ValueError(
                f"Expected steps_per_execution=1 with {replicas} replicas. Received: {steps_per_execution}"
            )
        self.objective = as_objective(objective)
        self.training_spec = self.data_spec.with_fields(getattr(self.objective, "extra_fields", ()))
        self._steps_given, self._jit_given = steps_per_execution, jit_compile
        self._step_functions = {}
        super().compile(
            optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=5.0) if optimizer is None else optimizer,
            loss=as_loss(loss, self.precision),
            metrics=_named_metrics(metrics),
            weighted_metrics=_named_metrics(weighted_metrics),
            steps_per_execution=self._steps_per_execution(()),
            jit_compile=training.prefers_jit(self.distribution) if jit_compile is None else jit_compile,
            **kwargs,
        )
        self._build_training_state()

    def _steps_per_execution(self, callbacks, steps_per_epoch=None):
        """How many batches run in one call of the compiled function: what `compile` was given, or the default."""
        if self._steps_given is not None:
            return self._steps_given
        if self.distribute_strategy.num_replicas_in_sync > 1 or training.acts_on_batches(callbacks):
            return 1
        if steps_per_epoch is None:
            return 16
        # Keras runs whole executions: of 250 steps in executions of 16 it would make 256.
        return max((k for k in range(1, 17) if steps_per_epoch % k == 0), default=1)

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        if config is not None and self.compiled:  # what nobody has compiled is loaded so
            objective = keras.saving.serialize_keras_object(self.objective)
            config.update(steps_per_execution=self._steps_given, jit_compile=self._jit_given, objective=objective)
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # When loading, Keras leaves a model that overrides `compile` uncompiled.
        check_keras(config)
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(
        self,
        x: Data | None = None,
        y: Data | None = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        context: Context | None = None,
        sample_weight: Array | None = None,
        validation_data: Data | None = None,
        validation_split: float = 0.0,
        validation_batch_size: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None = None,
        shuffle: bool = True,
        class_weight: None = None,
        adapt: bool = True,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains as `keras.Model.fit` does: `fit(x)`, `fit(context, x)` or `fit(x, context=context)`.

        Arrays are split evenly into batches of at most 256, or `batch_size`, rows. All batches have one size, so that
        XLA compiles one program; where the number of rows is no multiple of it, a few rows appear twice per epoch.

        Arguments: those of `keras.Model.fit`; and
          adapt: whether to initialize, before the first step of training, the bijectors that `adapt` to data and have
            not been adapted: `Standardize`, `ActNorm`, `Gaussianization`, `StandardizedContext`. Their data is the
            training rows, or about the first 10,000 rows of a pipeline.

        Raises: see the class; arrays are checked whole before the first step. ValueError also where they lie outside
          the support of the distribution, or are so large that the gradient of the first step overflows.
        """
        _check_no_classes(class_weight)
        batch_size = 256 if batch_size is None else batch_size
        check_positive_integers(batch_size=batch_size)
        if not self.compiled:
            self.compile()
        spec = self.training_spec
        rows = pipelines.rows_of(spec, x, y, sample_weight, context)
        if validation_split and validation_data is None:
            rows, (held_out_context, held_out, held_out_weight) = pipelines.split(rows, validation_split)
            held_out, _ = spec.x_and_fields(held_out)
            validation_data = self.data_spec.batch(held_out_context, held_out, held_out_weight)
        if validation_data is not None:
            size = validation_batch_size or max(batch_size, 1024)
            validation_data = pipelines.evaluation_data(self.data_spec, validation_data, size)
        guard = training.guard_of(self, callbacks)
        steps_per_execution = self._steps_per_execution(callbacks, kwargs.get("steps_per_epoch"))
        data = None if rows else pipelines.converted(spec, x, finite=guard is None)
        data = first_step.prepare(self, rows, data, adapt)
        if rows:
            data = pipelines.training_batches(spec.batch(*rows), batch_size, shuffle)
            # Told the number of steps, Keras makes one iterator per epoch, not two; each costs the time of a few steps.
            if kwargs.get("steps_per_epoch") is None:
                kwargs["steps_per_epoch"] = len(data)
            else:
                data = data.repeat()
        elif isinstance(data, tf.data.Dataset) and self.jit_compile:
            data = pipelines.filled(data)
        with training.guarded(self, guard, steps_per_execution):
            return super().fit(
                data, epochs=epochs, validation_data=validation_data, callbacks=callbacks, shuffle=False, **kwargs
            )

    def evaluate(
        self,
        x: Data | None = None,
        y: Data | None = None,
        batch_size: int | None = None,
        *,
        context: Context | None = None,
        sample_weight: Array | None = None,
        **kwargs: Any,
    ) -> Metrics:
        """The mean negative log-likelihood, in nats, and the metrics of `compile`, as `keras.Model.evaluate` does."""
        if not self.compiled:
            self.compile()
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` comes here with data it has prepared already
            x = pipelines.evaluation_data(self.data_spec, x, batch_size or 1024, y, sample_weight, context)
        return super().evaluate(x, **kwargs)

    def predict(
        self, x: Data, batch_size: int | None = None, *, context: Context | None = None, **kwargs: Any
    ) -> np.ndarray:
        """log p(x) as a NumPy array, in nats: `predict(x)` or `predict((context, x))`, batch by batch."""
        return super().predict(
            pipelines.evaluation_data(self.data_spec, x, batch_size or 1024, context=context), **kwargs
        )

    def train_on_batch(
        self,
        x: Data,
        y: Data | None = None,
        sample_weight: Array | None = None,
        class_weight: None = None,
        return_dict: bool = False,
        *,
        context: Context | None = None,
    ) -> Metrics:
        """One step on a batch, as `keras.Model.train_on_batch` takes it; arguments and checks as in `fit`."""
        _check_no_classes(class_weight)
        if not self.compiled:
            self.compile()
        first, second, weight = self._keras_order(self.training_spec, x, y, sample_weight, context)
        return super().train_on_batch(first, second, weight, return_dict=return_dict)

    def test_on_batch(
        self,
        x: Data,
        y: Data | None = None,
        sample_weight: Array | None = None,
        return_dict: bool = False,
        *,
        context: Context | None = None,
    ) -> Metrics:
        """The loss of a batch, as `keras.Model.test_on_batch` gives it; arguments and checks as in `evaluate`."""
        if not self.compiled:
            self.compile()
        first, second, weight = self._keras_order(self.data_spec, x, y, sample_weight, context)
        return super().test_on_batch(first, second, weight, return_dict)

    def _keras_order(self, spec, x, y, sample_weight, context):
        context, x, weight = spec.arrays(*spec.named(x, y, sample_weight, context))
        return (context, x, weight) if self.is_conditional else (x, None, weight)

    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        objective: PerRow | None = None,
        seed: tf.Tensor | None = None,
        fields: dict[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """log p of x, or of (context, x); `training` is for layers such as Dropout, to which Keras passes it.

        With an `objective` the result is its negative loss, per row; `fields` are what it wants beside x.
        """
        context, x, _ = self.data_spec.tensors(*self.data_spec.unpack(inputs))
        if objective is not None:
            return -objective.loss_per_row(self.distribution, x, context, seed, **(fields or {}))
        if training and hasattr(self.distribution, "training_log_prob"):
            return self.methods.bound(context).training_log_prob(x, self._step_seed() if seed is None else seed)
        return self.methods.bound(context).log_prob(x)

    @property
    def precision(self) -> str:
        """The float dtype of the densities, by name."""
        return self.data_spec.precision

    # The distribution, compiled

    def log_prob(self, x: Structure, context: Context | None = None) -> tf.Tensor:
        """log p(x), or log p(x|c), in nats: x `[..., D]`, context `[..., C]`, result `[...]`.

        A non-finite event has no finite density, and does not affect other rows. Many rows go through in pieces, so
        that memory does not grow with their number.
        """
        return self.methods.log_prob(x, context)

    def sample(
        self, n: int, context: Context | None = None, seed: Seed | None = None, temperature: float = 1.0
    ) -> Tensors:
        """Draws from p: `[n, D]`; for a context `[C]` as well, for contexts `[B, C]` `[n, B, D]`.

        The same integer seed gives the same sample; None draws one from TensorFlow's generator. A `temperature` T below
        1 draws closer to the mode: x = f(T z), with z from the base, a standard normal.
        """
        return self.methods.sample(n, context, seed, temperature)

    def sample_and_log_prob(
        self, n: int, context: Context | None = None, seed: Seed | None = None
    ) -> tuple[Tensors, tf.Tensor]:
        """Draws from p with their log-densities, at the cost of the draws alone; see `sample`."""
        return self.methods.sample_and_log_prob(n, context, seed)

    def forward(self, z: Structure, context: Context | None = None) -> Tensors:
        """x = f(z): from the base to the data."""
        return self.methods.forward(z, context)

    def inverse(self, x: Structure, context: Context | None = None) -> Tensors:
        """z = f⁻¹(x): from the data to the base."""
        return self.methods.inverse(x, context)

    def adapt(self, x: Structure, context: Context | None = None) -> None:
        """Initializes every bijector that has an `adapt` from the data that reaches it, from the data to the base.

        Standardize, StandardizedContext, ActNorm and Gaussianization have one. x is `[n, D]`, context `[n, C]`.

        Raises: as `fit`; TypeError for a distribution in which nothing adapts to data.
        """
        context, x, _ = self.data_spec.arrays(*self.data_spec.named(x, context=context))
        if not first_step.adaptable(self.distribution):
            raise TypeError(
                "Expected a distribution with a bijector that adapts to data, as `Standardize`, `ActNorm` and "
                f"`Gaussianization` do. Received: {self.distribution}"
            )
        context, x, _ = self.data_spec.tensors(context, x)
        first_step.adapt(self.distribution, x, context)

    # Saving

    def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Writes a .keras file, as `keras.Model.save` does; see `tfp_flows.saving.config` for what can be written.

        Raises, before a file is there: TypeError or ValueError for a part that cannot be written, such as a lambda.
        """
        self.get_config()
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "distribution": saving.to_config(self.distribution)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FlowModel:
        if "distribution" not in config:
            raise ValueError(f"Expected the configuration of a FlowModel. Received: {sorted(config)}")
        return cls(saving.from_config(config["distribution"]), name=config.get("name"))

    def export(
        self, filepath: str | os.PathLike, format: str = "tf_saved_model", verbose: bool | None = None, **kwargs: Any
    ) -> None:
        """Writes a SavedModel for processes that have only TensorFlow; see `tfp_flows.model.export.write`."""
        if format != "tf_saved_model" or kwargs:
            raise ValueError(f'Expected format="tf_saved_model" and no more. Received: format={format!r}, {kwargs}')
        export.write(self, filepath)


def _check_no_classes(class_weight):
    if class_weight is not None:
        raise ValueError(
            "Expected no `class_weight`: the data has no classes. Use `sample_weight`, a weight for every row. "
            f"Received: class_weight={class_weight!r}"
        )


def _named_metrics(metrics):
    """The metrics, with our own ones by name made."""
    named = {"bits_per_dim": BitsPerDim}
    return [
        named[metric]() if isinstance(metric, str) and metric in named else metric for metric in metrics or []
    ] or None
