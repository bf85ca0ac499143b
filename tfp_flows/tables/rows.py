"""The distribution of the rows of a table, as outcomes and numbers: a `tfd.Distribution` that a `FlowModel` trains."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import stateless_seed
from tfp_flows._math import random
from tfp_flows.context import context_arguments, walk
from tfp_flows.distributions.distribution import Distribution
from tfp_flows.tables.continua import Chart


@keras.saving.register_keras_serializable("tfp_flows")
class Rows(Distribution):
    """p(d, a, y, w|c) = P(d|c) p(a|d, c) p(y|a, d, c) p(w|y, a, d, c): rows of a table, in the units of the table.

    d are the outcomes of all columns with more than one, a the numbers of periodic columns, y those of columns that are
    always a number, and w those of columns that are one for some outcomes only: columns with atoms beside a continuum,
    or with missing values. P(d|c) is a probability, the others are densities, and all are exact: the factors of
    numbers that a row lacks are left out (see `tff.distributions.Partial`).

    Rounded numbers x, of step h, are modelled as x + h (u - 1/2) with u uniform in [0, 1]. Their probability is that
    of the cell around x, and `log_prob` a lower bound of its logarithm, by one draw of u from a fixed seed:

      log P(x) ≥ E_u[log p(x + h (u - 1/2))] + log h.

    Shapes: x `[..., D]`, d, a, y and w side by side, outcomes as whole numbers, 0 where there is no number; context
    `[..., C]`; `log_prob` `[...]`, in nats.

    Arguments:
      schema: the columns, a `tfp_flows.tables.schema.Schema`.
      categories: P(d|c), a `tff.distributions.Categories`; None where there is no d. So with the others.
      angles: p(a|...), a flow on the torus.
      flow: p(y|...), a flow of vectors.
      partial: p(w|...), a `tff.distributions.Partial`.
      dtype: of events and densities.
      context: the features of context columns that it is bound to; None for none.
      name: the distribution's name.

    Raises: ValueError for a table without a column that varies.
    """

    has_its_context = True

    def __init__(
        self, schema, categories=None, angles=None, flow=None, partial=None, dtype=tf.float32, context=None, name="rows"
    ):
        parameters = dict(locals())
        self.schema = schema
        self.categories, self.angles, self.flow, self.partial = categories, angles, flow, partial
        self.context = context
        layout = schema.layout
        self._sizes = [len(layout.discrete), len(layout.angles), len(layout.numbers), len(layout.partial)]
        self.context_shape = None
        if schema.context_size and context is None:
            self.context_shape = tf.TensorShape([schema.context_size])
        super().__init__([sum(self._sizes)], dtype=dtype, parameters=parameters, name=name)
        with tf.init_scope():  # it looks at numbers, also where a graph binds the distribution to a context
            self._make_constants()

    def _make_constants(self):
        layout = self.schema.layout
        self._y_chart = Chart([column.continuum for column in layout.numbers], self.dtype)
        self._w_chart = Chart([column.continuum for column in layout.partial], self.dtype)
        outcomes = layout.discrete
        # Of one-hot outcomes the scores are a product with a matrix that has a column for every numeric one.
        total = sum(column.num_outcomes for column in outcomes)
        scores = np.zeros([total, len(outcomes)])
        start = 0
        for k, column in enumerate(outcomes):
            scores[start : start + column.num_outcomes, k] = column.scores()
            start += column.num_outcomes
        self._scores = tf.constant(scores[:, np.any(scores, 0)], self.dtype)
        self._partial_places = [outcomes.index(column) for column in layout.partial]
        self._a_chart = Chart([column.continuum for column in layout.angles], self.dtype)
        self._turns = 2 * math.pi / (self._a_chart.high - self._a_chart.low)  # radians in a unit

    def bound_to(self, context):
        """The same distribution, bound to a context, which becomes its batch."""
        return type(self)(**{**self.parameters, "context": tf.convert_to_tensor(context, self.dtype)})

    def training_log_prob(self, x, seed, **kwargs):
        """`log_prob`, with the noise of rounded numbers from `seed`."""
        return self._log_prob(x, seed, **kwargs)

    def _log_prob(self, x, seed=(0, 0), context=None):
        if context is not None:
            return self.bound_to(context)._log_prob(x, seed)
        d, a, y, w = tf.split(x, self._sizes, -1)
        noise = tf.random.split(stateless_seed(seed), 3)
        batch = tf.shape(x)[:-1]
        if self.context is not None:
            batch = tf.broadcast_dynamic_shape(batch, tf.shape(self.context)[:-1])
        known, total = self._context(batch), tf.zeros(batch, self.dtype)
        d, a, y, w = (tf.broadcast_to(part, tf.concat([batch, tf.shape(part)[-1:]], 0)) for part in (d, a, y, w))
        if self.categories is not None:
            outcomes = tf.cast(tf.round(d), tf.int32)
            total += self.categories.log_prob(outcomes, context=known)
            known = _joined(known, self._outcome_features(outcomes))
        if self.angles is not None:
            angles = self._to_angles(self._noisy(a, self.schema.layout.angles, noise[0]))
            total += _log_prob(self.angles, angles, known) + np.log(self._turns).sum()
            total += self._log_steps(self.schema.layout.angles)
            known = _joined(known, tf.cos(angles), tf.sin(angles))
        if self.flow is not None:
            z, log_slopes = self._y_chart.inverse(self._noisy(y, self.schema.layout.numbers, noise[1]))
            total += _log_prob(self.flow, z, known) + tf.reduce_sum(log_slopes, -1)
            total += self._log_steps(self.schema.layout.numbers)
            known = _joined(known, z)
        if self.partial is not None:
            present = self._present(outcomes)
            z, log_slopes = self._w_chart.inverse(self._noisy(w, self.schema.layout.partial, noise[2]), present)
            total += self.partial.log_prob(z, present=present, context=known)
            total += tf.reduce_sum(present * (log_slopes + self._log_step(self.schema.layout.partial)), -1)
        return total

    def _sample_n(self, n, seed=None, context=None):
        if context is not None:
            return self.bound_to(context)._sample_n(n, seed)
        seeds = tf.random.split(stateless_seed(seed), 4)
        batch = tf.concat([[n], self.batch_shape_tensor()], 0)
        known, parts = self._context(batch), []
        if self.categories is not None:
            shape = batch if known is None else []
            outcomes = self.categories.sample(shape, seed=seeds[0], context=known)
            parts.append(tf.cast(outcomes, self.dtype))
            known = _joined(known, self._outcome_features(outcomes))
        if self.angles is not None:
            angles = _sample(self.angles, batch, known, seeds[1])
            parts.append(self._to_periods(angles))
            known = _joined(known, tf.cos(angles), tf.sin(angles))
        if self.flow is not None:
            z = _sample(self.flow, batch, known, seeds[2])
            parts.append(self._y_chart.forward(z))
            known = _joined(known, z)
        if self.partial is not None:
            present = self._present(outcomes)
            z = self.partial.draw(present, known, seeds[3])
            parts.append(present * self._w_chart.forward(z))
        return tf.concat(parts, -1)

    def walk(self, x, context=None, inverted=False):
        """The way of numbers through the flow of vectors: see `tfp_flows.context.walk`."""
        if self.flow is None or not hasattr(self.flow, "bijector"):
            return
        bound = self if context is None else self.bound_to(context)
        d, a, y, _ = tf.split(x, self._sizes, -1)
        known = bound._context(tf.shape(x)[:-1])
        if self.categories is not None:
            known = _joined(known, self._outcome_features(tf.cast(tf.round(d), tf.int32)))
        if self.angles is not None:
            angles = self._to_angles(a)
            known = _joined(known, tf.cos(angles), tf.sin(angles))
        z, _ = self._y_chart.inverse(self._noisy(y, self.schema.layout.numbers, stateless_seed((0, 0))))
        yield from walk(self.flow.bijector, z, known, inverted)

    # Features

    def _context(self, batch):
        """The context for a batch; None where there is none."""
        if self.context is None:
            return None
        return tf.broadcast_to(self.context, tf.concat([batch, [self.schema.context_size]], 0))

    def _outcome_features(self, outcomes):
        one_hot = self.categories.one_hot(outcomes)
        return tf.concat([one_hot, tf.tensordot(one_hot, self._scores, 1)], -1)

    @staticmethod
    def outcome_features_size(layout):
        """How many numbers tell a network what the outcomes of a `Layout` are."""
        return sum(column.num_outcomes + bool(np.any(column.scores())) for column in layout.discrete)

    def _present(self, outcomes):
        """Which numbers w are there: where the outcome of their column is 0, the continuum."""
        return tf.cast(tf.gather(outcomes, self._partial_places, axis=-1) == 0, self.dtype)

    def _to_angles(self, a):
        return (a - self._a_chart.low) * self._turns - math.pi

    def _to_periods(self, angles):
        """Angles as numbers of their periods, rounded to steps; half a step below the end it is the start."""
        chart = self._a_chart
        a = (angles + math.pi) / self._turns
        step = np.where(chart.step > 0, chart.step, 1)
        a = tf.where(chart.step > 0, tf.round(a / step) * step, a)
        return chart.low + tf.math.floormod(a, chart.high - chart.low)

    # Rounded numbers

    def _log_step(self, columns):
        """log h of every number; 0 where it is not rounded."""
        return tf.constant([math.log(column.continuum.step or 1.0) for column in columns], self.dtype)

    def _log_steps(self, columns):
        return tf.reduce_sum(self._log_step(columns))

    def _noisy(self, y, columns, seed):
        u = random.uniform(tf.shape(y), seed, dtype=self.dtype)
        return y + tf.constant([column.continuum.step for column in columns], self.dtype) * (u - 0.5)

    def _batch_shape(self):
        return tf.TensorShape([]) if self.context is None else self.context.shape[:-1]

    def _batch_shape_tensor(self, **kwargs):
        return tf.constant([], tf.int32) if self.context is None else tf.shape(self.context)[:-1]

    def get_config(self):
        return dict(self.parameters)


def _joined(known, *parts):
    """What a network is told, with further parts."""
    return tf.concat([part for part in (known, *parts) if part is not None], -1)


def _log_prob(flow, x, known):
    return flow.log_prob(x) if known is None else flow.log_prob(x, **context_arguments(flow, known))


def _sample(flow, batch, known, seed):
    """Draws of a flow, one for every row of what is known, or of a batch shape where nothing is."""
    arguments = {} if known is None else context_arguments(flow, known)
    return flow.sample(batch, seed=seed, **arguments)
