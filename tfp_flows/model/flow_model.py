"""FlowModel: any TFP distribution made a Keras model."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled
from tensorflow_probability import distributions as tfd

from tfp_flows import saving
from tfp_flows._arguments import check_positive_integers, stateless_seed
from tfp_flows.context import checked_context, context_arguments, context_batch_shape, context_shape_of, embedded, walk
from tfp_flows.model import export
from tfp_flows.model.inputs import as_event, check_gradient, check_rows, is_array
from tfp_flows.model.objectives import BitsPerDim, NegativeLogLikelihood
from tfp_flows.tracking import build_networks, layers_of


@keras.saving.register_keras_serializable("tfp_flows")
class FlowModel(keras.Model):
    """A Keras model of any `tfd.Distribution`: trained by `fit`, saved by `save`, served by `export`.

    The model's output is log p(x) or, with a context, log p(x|c), in nats; its loss is the mean of -log p: the maximum
    of the likelihood. It comes compiled, with Adam at 1e-3 and the norm of the gradient clipped; `compile` replaces
    any of that.

    Every `tf.Variable` of the distribution and every weight of the Keras layers inside it is a weight of the model, by
    identity: what `fit` trains, `distribution` uses at once. `layers` holds one layer a bijector or distribution that
    owns weights; `layer.trainable = False` freezes it, and needs a new `compile`, as always in Keras.

    Data: `fit(x)`; with a context, in Keras's order of input and target, `fit(context, x)`. A `tf.data.Dataset` yields
    `x` or `(x, sample_weight)`, and with a context `(context, x)` or `(context, x, sample_weight)`. `sample_weight`
    multiplies the terms of the likelihood. NumPy arrays, tensors and pandas frames serve.

    Shapes: x `[n, D]`, context `[n, C]`, log-densities `[n]`. Distributions with other event shapes, or structures of
    tensors as `tfd.JointDistributionNamed` has them, take what their `log_prob` takes.

    Arguments:
      distribution: a `tfd.Distribution`. `FlowModel.distribution` is the same object, or has it with the embedding.
      embedding: a Keras layer that compresses the context before the bijectors get it, once a call, and is trained with
        them; None for none. Contexts then have the shape of its input, `[n, ...]`, or dictionaries if it takes such.
        See `tff.bijectors.Embedded`.
      name: the model's name.

    Raises, before anything changes: TypeError for integers where the distribution takes floats; ValueError for data of
    the wrong size, with values that are not finite, or without rows, and for a context that is missing or unexpected.

    Example:

    >>> import tfp_flows as tff
    >>> model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0))
    >>> history = model.fit(tff.datasets.two_moons(512, seed=0), epochs=2, verbose=0)
    >>> model.sample(3, seed=1).shape
    TensorShape([3, 2])
    """

    def __init__(self, distribution, embedding=None, name=None):
        if not isinstance(distribution, tfd.Distribution):
            raise TypeError(f"Expected a `tfd.Distribution`. Received: {distribution}")
        # The distribution knows its own dtypes; Keras's autocast would make float32 of them all.
        super().__init__(name=name, autocast=False)
        if embedding is not None:
            distribution = embedded(distribution, embedding)
        self.distribution = distribution
        self.context_shape = context_shape_of(distribution)
        self.is_conditional = self.context_shape is not None
        build_networks(distribution, **context_arguments(distribution, self._zero_context()))
        self.parts = layers_of(distribution)
        self.built = True
        self._functions = {}
        self.guard = None  # the steps of a `FlowDoctor`
        self.compile()

    # Training

    def compile(self, optimizer=None, loss=None, metrics=None, steps_per_execution=None, jit_compile=None, **kwargs):
        """Configures training, as `keras.Model.compile` does, with defaults for flows.

        Arguments:
          optimizer: None for Adam at 1e-3 with the norm of the whole gradient clipped at 5.
          loss: None for the negative log-likelihood; else anything Keras takes, called with (x, log p(x)).
          metrics: Keras metrics of (x, log p(x)); "bits_per_dim" is one by name.
          steps_per_execution: batches that run in one call of the compiled function. It spares Keras's overhead a
            batch, which for a small flow is half the time; callbacks that act on every batch then act on every 16th.
            None for 16, and for 1 with several replicas: TensorFlow cannot reduce over them inside Keras's loop.
          jit_compile: whether to train under XLA; None for yes, except under a `tf.distribute` strategy and with
            op determinism on, where Keras refuses it. A distribution that XLA cannot compile wants False.
          **kwargs: everything else `keras.Model.compile` takes.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if steps_per_execution is None:
            steps_per_execution = 16 if replicas == 1 else 1
        if replicas > 1 and steps_per_execution != 1:
            raise ValueError(
                f"Expected steps_per_execution=1 with {replicas} replicas. Received: {steps_per_execution}"
            )
        if jit_compile is None:
            jit_compile = not (tf.distribute.has_strategy() or is_op_determinism_enabled())
        named = {"bits_per_dim": BitsPerDim}
        super().compile(
            optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=5.0) if optimizer is None else optimizer,
            loss=NegativeLogLikelihood(dtype=self.precision) if loss is None else loss,
            metrics=[named[m]() if isinstance(m, str) and m in named else m for m in metrics or []] or None,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )
        self._build_training_state()

    def _build_training_state(self):
        """Makes the variables of optimizer and metrics; made in the first step, they have TensorFlow trace it twice."""
        self.optimizer.build(self.trainable_variables)
        point = tf.nest.map_structure(
            lambda dtype, shape: tf.zeros([1, *shape], dtype), self.distribution.dtype, self.distribution.event_shape
        )
        self.compute_metrics(None, self._target(point), tf.zeros([1], self.precision))
        self.reset_metrics()

    def compile_from_config(self, config):
        # Keras leaves a model with a `compile` of its own uncompiled when loading.
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x=None, y=None, batch_size=None, epochs=1, *, sample_weight=None, validation_data=None, **kwargs):
        """Trains as `keras.Model.fit` does: `fit(x)`, or `fit(context, x)`; arrays go in batches of 256.

        Raises: see the class; arrays are checked whole before the first step. ValueError also where they are so large
          that the gradient of the first step overflows.
        """
        x, y = self._checked_arrays(x, y, sample_weight)
        context, event = (x, y) if self.is_conditional else (None, x)
        if is_array(event) and self.optimizer.iterations == 0:
            variables = [variable.value for variable in self.trainable_variables]
            check_gradient(self._log_prob, variables, event, self._as_context(context))
        if isinstance(validation_data, (tuple, list)) and self.is_conditional:
            self._checked_arrays(*validation_data)
        batch_size = _batch_size(x, batch_size, 256)
        if is_array(x):
            # Told the number of steps, Keras makes one iterator an epoch, not two; each takes the time of some steps.
            rows = math.floor(len(tf.nest.flatten(x)[0]) * (1.0 - kwargs.get("validation_split", 0.0)))
            kwargs.setdefault("steps_per_epoch", math.ceil(rows / batch_size))
        else:
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default where a pipeline has its own order
        self._set_guard(kwargs.get("callbacks"))
        with self._floatx():
            return super().fit(
                x,
                y,
                batch_size,
                epochs,
                sample_weight=sample_weight if self.is_conditional else None,
                validation_data=validation_data,
                **kwargs,
            )

    def evaluate(self, x=None, y=None, batch_size=None, *, sample_weight=None, **kwargs):
        """The mean negative log-likelihood, in nats, and the metrics of `compile`, as `keras.Model.evaluate` does."""
        # `fit` comes here with data it has checked already.
        x, y = (x, y) if "_use_cached_eval_dataset" in kwargs else self._checked_arrays(x, y, sample_weight)
        with self._floatx():
            return super().evaluate(
                x,
                y,
                _batch_size(x, batch_size, 1024),
                sample_weight=sample_weight if self.is_conditional else None,
                **kwargs,
            )

    def predict(self, x, batch_size=None, **kwargs):
        """log p(x) as a NumPy array, in nats: `predict(x)`, or `predict((context, x))`, batch by batch."""
        with self._floatx():
            return super().predict(x, _batch_size(x, batch_size, 1024), **kwargs)

    def call(self, inputs, training=None):
        """log p of x, or of (context, x); `training` is for layers such as Dropout, to which Keras brings it."""
        context, x = inputs if self.is_conditional else (None, inputs)
        return self._log_prob(x, context)

    def train_step(self, data):
        step = super().train_step if self.guard is None else self.guard.train_step
        return self._as_logs(step(self._inputs_and_target(data)))

    def test_step(self, data):
        step = super().test_step if self.guard is None else self.guard.test_step
        return self._as_logs(step(self._inputs_and_target(data)))

    def predict_step(self, data):
        return super().predict_step(self._inputs_and_target(data)[:1])

    def _set_guard(self, callbacks):
        """Has the steps of the callback that brings its own, `FlowDoctor`, run in place of Keras's."""
        callbacks = getattr(callbacks, "callbacks", callbacks)  # of a `keras.callbacks.CallbackList`
        guards = [callback.guard(self) for callback in tf.nest.flatten(callbacks) if hasattr(callback, "guard")]
        guard = guards[0] if guards else None
        if guard is not self.guard:
            self.guard = guard
            self.make_train_function(force=True)
            self.make_test_function(force=True)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing: `__init__` and `compile` have built it all, and Keras's way fails with more than one worker.

        Keras hands the values of all replicas to a step for one (keras-team/keras issue 20585).
        """

    def _as_logs(self, logs):
        """Keras takes the mean of several workers' logs over a first axis, which its own logs lack."""
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return {name: tf.reshape(value, [1]) for name, value in logs.items()}
        return logs

    def _inputs_and_target(self, data):
        """Keras's (inputs of `call`, y_true, sample weights) from a batch of ours."""
        first, second, weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.is_conditional:
            if second is not None and second.shape.rank != 1:
                raise ValueError(
                    "Expected x or (x, sample_weight), since the distribution takes no context. "
                    f"Received: a pair whose second part has shape {second.shape}"
                )
            return first, self._target(first), second
        if second is None and isinstance(first, (tuple, list)):
            first, second = first  # predict((context, x)) on arrays
        if second is None:
            raise ValueError("Expected (context, x), since the distribution takes a context. Received: x alone")
        return (first, second), self._target(second), weight

    def _target(self, x):
        """The event as one tensor for losses and metrics: a structure's parts flat, side by side."""
        if not tf.nest.is_nested(self.distribution.dtype):
            return x
        return tf.concat(
            [tf.reshape(tf.cast(part, self.precision), [tf.shape(part)[0], -1]) for part in tf.nest.flatten(x)], 1
        )

    def _checked_arrays(self, first, second=None, weight=None):
        """Keras's x and y, arrays checked before anything is trained; pipelines show their batches only as they run."""
        if self.is_conditional:
            if second is None and isinstance(first, (tuple, list)):
                first, second = first
            if first is None or (is_array(first) and second is None):
                raise ValueError(
                    "Expected `fit(context, x)`, since the distribution takes a context. Received: "
                    f"{'x alone' if second is None else 'context=None'}"
                )
            if is_array(first):
                check_rows(first, self._context_dtype, self.context_shape, "contexts")
            x = second
        else:
            if second is not None:
                raise ValueError(
                    "Expected `fit(x)`, since the distribution takes no context. Received: a second argument"
                )
            x, second = first, weight  # Keras drops the weights of data without a second part
        if is_array(x):
            check_rows(x, self.distribution.dtype, self.distribution.event_shape)
        return first, second

    @property
    def precision(self):
        """The float dtype of the densities, by name."""
        dtypes = [tf.as_dtype(dtype) for dtype in tf.nest.flatten(self.distribution.dtype)]
        return next((dtype.name for dtype in dtypes if dtype.is_floating), keras.config.floatx())

    @contextlib.contextmanager
    def _floatx(self):
        """Keras casts arrays to its floatx on the way to a model; this makes that the distribution's precision."""
        before = keras.config.floatx()
        keras.config.set_floatx(self.precision)
        try:
            yield
        finally:
            keras.config.set_floatx(before)

    # The distribution, compiled

    def log_prob(self, x, context=None):
        """log p(x), or log p(x|c), in nats: x `[..., D]`, context `[..., C]`, result `[...]`.

        An event that is not finite has no finite density, and spoils no other.
        """
        return self._run(self._log_prob, as_event(x, self.distribution.dtype), self._as_context(context))

    def sample(self, n, context=None, seed=None):
        """Draws from p: `[n, D]`; for a context `[C]` as well, for contexts `[B, C]` `[n, B, D]`.

        The same integer seed gives the same sample; None draws one from TensorFlow's generator.
        """
        return self._run(self._sample, _as_count(n), stateless_seed(seed), self._as_context(context))

    def sample_and_log_prob(self, n, context=None, seed=None):
        """Draws from p and their log-densities, at the price of the draws alone; see `sample`."""
        return self._run(self._sample_and_log_prob, _as_count(n), stateless_seed(seed), self._as_context(context))

    def forward(self, z, context=None):
        """x = f(z): from the base to the data."""
        return self._run(self._forward, as_event(z, self._bijector.inverse_dtype()), self._as_context(context))

    def inverse(self, x, context=None):
        """z = f⁻¹(x): from the data to the base."""
        return self._run(self._inverse, as_event(x, self.distribution.dtype), self._as_context(context))

    def adapt(self, x, context=None):
        """Starts every bijector that has an `adapt` from the data that reaches it, from the data's end to the base's.

        Standardize, ActNorm and Gaussianization have one. x is `[n, D]`, context `[n, C]`.

        Raises: as `fit`.
        """
        self._checked_arrays(*((context, x) if self.is_conditional else (x,)))
        x = as_event(x, self.distribution.dtype)
        for part, reached, own_context, inverted in walk(self._bijector, x, self._as_context(context)):
            if hasattr(part, "adapt") and not inverted:
                part.adapt(reached, own_context)

    @property
    def _bijector(self):
        bijector = getattr(self.distribution, "bijector", None)
        if bijector is None:
            raise TypeError(
                "Expected a distribution with a bijector, as `tfd.TransformedDistribution` is. "
                f"Received: {self.distribution}"
            )
        return bijector

    def _run(self, function, *arguments):
        """Calls a method as a `tf.function`, made once for arguments of these ranks: open sizes, but no open rank."""
        key = (
            function.__name__,
            *(argument.shape.rank for argument in tf.nest.flatten(arguments) if argument is not None),
        )
        if key not in self._functions:
            self._functions[key] = tf.function(function, reduce_retracing=True, autograph=False)
        return self._functions[key](*arguments)

    def _log_prob(self, x, context):
        x = as_event(x, self.distribution.dtype)
        return self.distribution.log_prob(x, **context_arguments(self.distribution, context))

    def _sample(self, n, seed, context):
        arguments = context_arguments(self.distribution, context)
        return self.distribution.sample(self._sample_shape(n, context), seed=seed, **arguments)

    def _sample_and_log_prob(self, n, seed, context):
        arguments = context_arguments(self.distribution, context)
        return self.distribution.experimental_sample_and_log_prob(
            self._sample_shape(n, context), seed=seed, **arguments
        )

    def _sample_shape(self, n, context):
        """[n], and the batch shape of the contexts after it, of which TensorFlow then knows the rank."""
        if context is None:
            return tf.stack([n])
        sizes = context_batch_shape(context, self.context_shape)
        first = tf.nest.flatten(context)[0]
        return tf.stack([n, *(tf.shape(first)[k] if size is None else size for k, size in enumerate(sizes))])

    def _forward(self, z, context):
        return self._bijector.forward(z, **context_arguments(self._bijector, context))

    def _inverse(self, x, context):
        return self._bijector.inverse(x, **context_arguments(self._bijector, context))

    def _as_context(self, context):
        """The context as a new tensor, or an error if it is missing, unexpected or of the wrong size."""
        if self.is_conditional:
            return as_event(checked_context(self.name, self.context_shape, context), self._context_dtype)
        if context is not None:
            raise ValueError(f"Expected no context. Received: context of shape {np.shape(context)}")
        return None

    def _zero_context(self):
        """A single context of zeros; None where there is none."""
        if not self.is_conditional:
            return None
        return tf.nest.map_structure(
            lambda shape: tf.zeros([size or 1 for size in shape], self.precision), self.context_shape
        )

    @property
    def _context_dtype(self):
        return tf.nest.map_structure(lambda shape: self.precision, self.context_shape)

    # Saving

    def save_own_variables(self, store):
        """Writes the states of random layers, which Keras's weights files lack: a resumed run goes on with them."""
        for k, state in enumerate(self._random_states):
            store[str(k)] = state

    def load_own_variables(self, store):
        saved = len(store.keys())  # none, if the file is older than the random layers
        for k, state in enumerate(self._random_states[:saved]):
            state.assign(store[str(k)])

    @property
    def _random_states(self):
        """The states of layers such as Dropout; the model has no other variables than those and its layers' weights."""
        weights = {id(weight) for weight in self.weights}
        return [variable for variable in self.variables if id(variable) not in weights]

    def save(self, filepath, *args, **kwargs):
        """Writes a .keras file, as `keras.Model.save` does; see `tfp_flows.saving` for what can be written.

        Raises, before a file is there: TypeError or ValueError for a part that cannot be written, such as a lambda.
        """
        self.get_config()
        super().save(filepath, *args, **kwargs)

    def get_config(self):
        return {"name": self.name, "distribution": saving.to_config(self.distribution)}

    @classmethod
    def from_config(cls, config):
        return cls(saving.from_config(config["distribution"]), name=config.get("name"))

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Writes a SavedModel for processes that have TensorFlow and nothing else; see `tfp_flows.model.export`."""
        if format != "tf_saved_model" or kwargs:
            raise ValueError(f'Expected format="tf_saved_model" and no more. Received: format={format!r}, {kwargs}')
        export.write(self, filepath)


def _as_count(n):
    if not tf.is_tensor(n):
        check_positive_integers(n=n)
    return tf.cast(n, tf.int32)


def _batch_size(x, batch_size, default):
    return default if batch_size is None and is_array(x) else batch_size
