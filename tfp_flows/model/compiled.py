"""A distribution's methods as compiled functions, with contexts, seeds and events converted and checked."""

import tensorflow as tf

from tfp_flows._arguments import check_positive_integers, stateless_seed
from tfp_flows.context import checked_context, condition
from tfp_flows.model.inputs import flat_shapes

ROWS_AT_ONCE = 65_536  # of log_prob: its memory is that of the networks' activations for so many rows


class CompiledMethods:
    """log_prob, sample and the like of a distribution, each a `tf.function` for tensors of open sizes.

    Arguments:
      distribution: a `tfd.Distribution`.
      data_spec: what its events and contexts are, a `DataSpec`.
      name: in errors.
    """

    def __init__(self, distribution, data_spec, name):
        self.distribution, self.data_spec, self.name = distribution, data_spec, name
        self._functions = {}

    def log_prob(self, x, context):
        pieces = self._pieces(self.data_spec.event(x), self.context(context))
        found = [self._run(self._log_prob, *piece) for piece in pieces]
        return found[0] if len(found) == 1 else tf.concat(found, 0)

    def sample(self, n, context, seed, temperature):
        arguments = _count(n), stateless_seed(seed), self.context(context)
        if isinstance(temperature, (int, float)) and temperature == 1:
            return self._run(self._sample, *arguments)
        return self._run(self._sample_at, *arguments, tf.convert_to_tensor(temperature, self.data_spec.precision))

    def sample_and_log_prob(self, n, context, seed):
        return self._run(self._sample_and_log_prob, _count(n), stateless_seed(seed), self.context(context))

    def forward(self, z, context):
        spec = type(self.data_spec)(self.base, None)
        return self._run(self._forward, spec.event(z), self.context(context))

    def inverse(self, x, context):
        x = self.data_spec.event(x)
        return self._run(self._inverse, x, self.context(context)) if self.bijector else None

    @property
    def bijector(self):
        """The bijector that makes the distribution, or an error where there is none."""
        bijector = getattr(self.distribution, "bijector", None)
        if bijector is None:
            raise TypeError(
                "Expected a distribution with a bijector, as `tfd.TransformedDistribution` is. "
                f"Received: {self.distribution}"
            )
        return bijector

    @property
    def base(self):
        """The distribution of z, or an error where no bijector makes x of it."""
        return self.distribution.distribution if self.bijector else None

    def context(self, context):
        """The context as a new tensor, or an error if it is missing, unexpected or of the wrong shape."""
        spec = self.data_spec
        if spec.is_conditional:
            return checked_context(self.name, spec.context_shape, None if context is None else spec.context(context))
        if context is not None:
            shape = tf.nest.map_structure(tf.shape, context)
            raise ValueError(f"Expected no context. Received: context of shape {tf.nest.map_structure(_sizes, shape)}")
        return None

    def bound(self, context):
        """The distribution, with its context if there is one."""
        return self.distribution if context is None else condition(self.distribution, context)

    def _pieces(self, x, context):
        """Arguments of at most ROWS_AT_ONCE rows each; all at once in a graph, or where rows are not all batch axes."""
        leaves = tf.nest.flatten((x, context))
        shapes = [*flat_shapes(self.data_spec.event_shape), *flat_shapes(self.data_spec.context_shape)]
        batches = [
            () if shape is None else tuple(leaf.shape)[: leaf.shape.rank - shape.rank]
            for leaf, shape in zip(leaves, shapes, strict=True)
        ]
        batch = set(batches) - {()}
        if not tf.executing_eagerly() or len(batch) != 1 or len(*batch) != 1:
            return [(x, context)]
        ((rows,),) = batch

        def piece(start):
            pairs = zip(leaves, batches, strict=True)
            return tf.nest.pack_sequence_as(
                (x, context), [leaf[start : start + ROWS_AT_ONCE] if batch else leaf for leaf, batch in pairs]
            )

        return [piece(start) for start in range(0, rows, ROWS_AT_ONCE)] or [(x, context)]

    def _run(self, function, *arguments):
        """Calls a method as a `tf.function`, made once for arguments of these ranks: open sizes, but no open rank."""
        ranks = (argument.shape.rank for argument in tf.nest.flatten(arguments) if argument is not None)
        key = (function.__name__, *ranks)
        if key not in self._functions:
            self._functions[key] = tf.function(function, reduce_retracing=True, autograph=False)
        return self._functions[key](*arguments)

    def _log_prob(self, x, context):
        return self.bound(context).log_prob(x)

    def _sample(self, n, seed, context):
        return self.bound(context).sample(n, seed=seed)

    def _sample_at(self, n, seed, context, temperature):
        bound = self.bound(context)
        if hasattr(bound, "sample_at_temperature"):
            return bound.sample_at_temperature(n, temperature, seed=seed)
        shape = tf.concat([[n], bound.batch_shape_tensor()], 0)
        z = self.base.sample(shape[: 1 + bound.batch_shape.rank - self.base.batch_shape.rank], seed=seed)
        return bound.bijector.forward(temperature * z)

    def _sample_and_log_prob(self, n, seed, context):
        return self.bound(context).experimental_sample_and_log_prob(n, seed=seed)

    def _forward(self, z, context):
        return self.bound(context).bijector.forward(z)

    def _inverse(self, x, context):
        return self.bound(context).bijector.inverse(x)


def _sizes(shape):
    return tuple(int(size) for size in shape)


def _count(n):
    if not tf.is_tensor(n):
        check_positive_integers(n=n)
    return tf.cast(n, tf.int32)
