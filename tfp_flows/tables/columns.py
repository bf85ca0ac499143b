"""What a column is: a mixture of atoms and a continuum; and its values as an outcome and a number.

An atom is a value that has a probability of its own: a category, an integer of a small range, the 0 of a column that is
often 0, a missing value. The continuum is what has a density. A category has atoms only, a length a continuum only, a
rainfall both, a constant one atom. Each value is then an outcome (which atom, or the continuum) and, in the continuum,
a number.

Values come as `tf.float64`, categories as the position of their label, date-times as `tf.int64` ticks; NaN, or the
smallest integer, is a missing one.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfp_flows.tables.continua import EDGE, Chart, Continuum

NOT_A_TIME = tf.int64.min


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column is.

    Attributes:
      name: its name.
      dtype: that of the frame, by name.
      kind: in a word, for people.
      continuum: a `Continuum`; None for none. It is outcome 0.
      atoms: the values with a probability of their own; of a category the positions of `labels`.
      labels: what they are called; None where they are numbers.
      has_missing: whether a missing value is a further atom, the last.
      frequencies: of the outcomes, in the data.
      ticks: of a date-time, its ticks in a unit of y; else 0.
      unit: of y, for people.
      ordered: of a category, whether pandas calls it ordered.
      decimals: those that rounded numbers are written with; None for all.
    """

    name: str
    dtype: str
    kind: str
    continuum: Continuum | None = None
    atoms: tuple = ()
    labels: tuple | None = None
    has_missing: bool = False
    frequencies: tuple = ()
    ticks: int = 0
    unit: str = ""
    ordered: bool = False
    decimals: int | None = None

    @property
    def num_outcomes(self):
        return (self.continuum is not None) + len(self.atoms) + self.has_missing

    @property
    def is_discrete(self):
        """Whether there is more than one outcome, so that which of them is a part of the density."""
        return self.num_outcomes > 1

    @property
    def is_numeric(self):
        return self.labels is None

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if config["continuum"] is not None:
            config["continuum"] = Continuum(**config["continuum"])
        for name in ("atoms", "labels", "frequencies"):
            config[name] = None if config[name] is None else tuple(config[name])
        return cls(**config)

    # Values to outcomes and numbers, and back

    def encode(self, x):
        """The outcome `[n]` int32, -1 for what the column cannot be, and the number y `[n]` float64, 0 of atoms."""
        if self.decimals is not None:
            x = self._written(x)
        is_missing = x == NOT_A_TIME if x.dtype == tf.int64 else tf.math.is_nan(x)
        outcome = tf.fill(tf.shape(x), -1)
        y = tf.zeros(tf.shape(x), tf.float64)
        if self.continuum is not None:
            y = self._number(x)
            low, high = self.continuum.low, self.continuum.high
            is_inside = tf.math.is_finite(y)
            tolerance = EDGE * max(1.0, abs(low or 0.0), abs(high or 0.0))
            if low is not None:
                is_inside &= y >= low - tolerance
            if high is not None:
                is_inside &= y <= high + tolerance
            outcome = tf.where(is_inside, 0, outcome)
            x = self._value(y)  # rounded as atoms are
        if self.atoms:
            is_atom = x[:, tf.newaxis] == tf.constant(self.atoms, x.dtype)
            number = tf.argmax(is_atom, 1, output_type=tf.int32) + int(self.continuum is not None)
            outcome = tf.where(tf.reduce_any(is_atom, 1), number, outcome)
        outcome = tf.where(is_missing, self.num_outcomes - 1 if self.has_missing else -1, outcome)
        return outcome, tf.where(outcome == 0, y, tf.zeros_like(y)) if self.continuum is not None else y

    def decode(self, outcome, y):
        """The values of outcomes `[n]` and numbers `[n]`."""
        dtype = tf.int64 if self.ticks else tf.float64
        missing = NOT_A_TIME if self.ticks else math.nan
        first = [] if self.continuum is None else [0]  # in whose place the number comes
        values = tf.constant([*first, *self.atoms, *([missing] if self.has_missing else [])], dtype)
        x = tf.gather(values, tf.cast(outcome, tf.int32))
        if self.continuum is None:
            return x
        low, high = self.continuum.low, self.continuum.high
        y = tf.cast(y, tf.float64)
        if self.continuum.is_periodic:
            y = low + tf.math.floormod(self._rounded(y) - low, high - low)
        else:
            y = y if low is None else tf.maximum(y, tf.cast(low, y.dtype))
            y = y if high is None else tf.minimum(y, tf.cast(high, y.dtype))
        return tf.where(outcome == 0, self._value(y), x)

    def _rounded(self, y):
        """y at the nearest multiple of a step."""
        step = self.continuum.step
        return tf.round(y / step) * step if step else y

    def _number(self, x):
        """y of values: less the offset, in units, rounded to steps."""
        if not self.ticks:
            return self._rounded(x - self.continuum.offset)
        # Of a missing time what comes here does not matter, but the difference must not overflow.
        x = tf.where(x == NOT_A_TIME, tf.cast(self.continuum.offset, tf.int64), x)
        return self._rounded(tf.cast(x - int(self.continuum.offset), tf.float64) / self.ticks)

    def _value(self, y):
        """The values of numbers y: the inverse of `_number`, with the digits that values are written with."""
        y = self._rounded(y)
        if self.ticks:
            # Whole steps are counted in integers: of a day in nanoseconds float64 has no hours to the last digit.
            step = max(1, round(self.continuum.step * self.ticks))
            return int(self.continuum.offset) + step * tf.cast(tf.round(y * (self.ticks / step)), tf.int64)
        x = y + self.continuum.offset
        return x if self.decimals is None else self._written(x)

    def _written(self, x):
        """x as it is written, with so many decimals."""
        # A plain quotient is made a product with the rounded 1 / 10 when a graph is optimized: 4.1 would be 41 * 0.1,
        # which is another number, and no atom.
        return tf.math.divide_no_nan(tf.round(x * 10.0**self.decimals), tf.constant(10.0**self.decimals, x.dtype))

    def _z(self, y):
        """z of numbers `[n]`, in float64."""
        return Chart([self.continuum], tf.float64).inverse(y[:, tf.newaxis])[0][:, 0]

    # What a network is told of a value

    @property
    def num_features(self):
        size = self.num_outcomes * self.is_discrete
        if self.continuum is not None:
            return size + (2 if self.continuum.is_periodic else 1)
        return size + (self.is_numeric and self.is_discrete)

    def scores(self):
        """A number of unit scale for every outcome: that of a numeric atom, 0 of anything else."""
        scores = np.zeros(self.num_outcomes)
        atoms = np.asarray(self.atoms, float)
        if not self.is_numeric or not len(atoms):
            return scores
        first = int(self.continuum is not None)
        if first and not self.continuum.is_periodic:
            y = self._number(tf.constant(self.atoms, tf.int64 if self.ticks else tf.float64))
            atoms = np.clip(self._z(y), -5, 5)
        else:
            atoms = (atoms - atoms.mean()) / (atoms.std() or 1.0)
        scores[first : first + len(atoms)] = atoms
        return scores

    def features(self, outcome, y):
        """What a network is told of values as a context, `[n, num_features]` float64."""
        parts = []
        if self.is_discrete:
            parts.append(tf.one_hot(outcome, self.num_outcomes, dtype=tf.float64))
        if self.continuum is not None and self.continuum.is_periodic:
            angle = 2 * math.pi * (y - self.continuum.low) / (self.continuum.high - self.continuum.low)
            there = tf.cast(outcome == 0, tf.float64)
            parts.append(tf.stack([there * tf.cos(angle), there * tf.sin(angle)], -1))
        elif self.continuum is not None or (self.is_numeric and self.is_discrete):
            score = tf.gather(tf.constant(self.scores()), tf.maximum(outcome, 0))
            if self.continuum is not None:
                score = tf.where(outcome == 0, self._z(y), score)
            parts.append(score[:, tf.newaxis])
        return tf.concat(parts, -1) if parts else tf.zeros([tf.shape(outcome)[0], 0], tf.float64)
