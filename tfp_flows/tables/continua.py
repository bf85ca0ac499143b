"""Numbers that have a density, brought to unit scale and freed of their bounds."""

import dataclasses

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

# A value at a bound counts as this far from it, relative to the scale of the numbers: there its density is finite.
EDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Continuum:
    """What of a column has a density, and how its numbers y become z = (g⁻¹(y) - location) / spread.

    y is a value less `offset`, which is taken away in float64, so that float32 can hold the rest; for a date-time in
    seconds or days.

    Attributes:
      shape: g. "unbounded": y = z; "log": y = low + exp(z); "softplus": y = low + s log(1 + exp(z / s)); "below":
        y = high - exp(z); "bounded": y = low + (high - low) / (1 + exp(-z)); "periodic": y is an angle.
      low, high: the bounds of y, where it has some; of a periodic one the ends of a period.
      softness: s.
      location, spread: the mean and the standard deviation of g⁻¹(y) in the data.
      offset: what a value has more than y.
      step: the distance of neighbouring values where they are rounded, else 0. The probability of a value is then that
        of its cell, of this width; the bounds lie half a step outside of the outermost values.
    """

    shape: str
    low: float | None = None
    high: float | None = None
    softness: float = 1.0
    location: float = 0.0
    spread: float = 1.0
    offset: float = 0.0
    step: float = 0.0

    @property
    def is_periodic(self):
        return self.shape == "periodic"


class Chart:
    """z = (g⁻¹(y) - location) / spread of several numbers side by side, each by its `Continuum`.

    Numbers of one shape go through one `tfb.Bijector`, so that many columns make few operations.

    Shapes: y and z `[..., number of continua]`.
    """

    def __init__(self, continua, dtype):
        def constants(name, otherwise=0.0):
            values = [otherwise if getattr(part, name) is None else getattr(part, name) for part in continua]
            return np.array(values, tf.as_dtype(dtype).as_numpy_dtype)

        self.step, self.location, self.spread = constants("step"), constants("location"), constants("spread")
        self.low, self.high = constants("low", -np.inf), constants("high", np.inf)
        edges = self.low - self.step / 2, self.high + self.step / 2
        softness = constants("softness")
        scale = np.where(np.isfinite(edges[1] - edges[0]), edges[1] - edges[0], softness)
        self._least, self._most = edges[0] + EDGE * scale, edges[1] - EDGE * scale
        shapes = np.array([part.shape for part in continua])
        groups = [np.flatnonzero(shapes == shape) for shape in np.unique(shapes)]
        self._groups = [
            (index, _bijector(shapes[index[0]], edges[0][index], edges[1][index], softness[index])) for index in groups
        ]
        self._back = np.argsort(np.concatenate(groups)) if groups else []
        # Where a number is absent, one inside the bounds takes its place: others would have gradients of NaN.
        self._somewhere = self.forward_unsettled(np.zeros_like(self.location)) if groups else self.location

    def inverse(self, y, present=None):
        """z and log|∂z/∂y| of every number; where one is absent both are finite, and mean nothing."""
        if present is not None:
            y = tf.where(present > 0, y, self._somewhere)
        y = tf.clip_by_value(y, self._least, self._most)
        parts, log_slopes = [], []
        for index, bijector in self._groups:
            part = tf.gather(y, index, axis=-1)
            parts.append(bijector.inverse(part))
            log_slope = bijector.inverse_log_det_jacobian(part, event_ndims=0)
            log_slopes.append(tf.broadcast_to(log_slope, tf.shape(part)))
        z, log_slope = (tf.gather(tf.concat(both, -1), self._back, axis=-1) for both in (parts, log_slopes))
        return (z - self.location) / self.spread, log_slope - np.log(self.spread)

    def forward(self, z):
        """y of every number, rounded to steps and within the bounds."""
        y = self.forward_unsettled(z)
        step = np.where(self.step > 0, self.step, 1.0).astype(self.step.dtype)
        y = tf.where(self.step > 0, tf.round(y / step) * step, y)
        return tf.clip_by_value(y, self.low, self.high)

    def forward_unsettled(self, z):
        """y of every number as the bijectors have it."""
        z = z * self.spread + self.location
        parts = [bijector.forward(tf.gather(z, index, axis=-1)) for index, bijector in self._groups]
        return tf.gather(tf.concat(parts, -1), self._back, axis=-1)


def _bijector(shape, low, high, softness):
    """g, from z before standardization to y, with constants for several numbers: a scalar `tfb.Bijector`."""
    if shape == "log":
        return tfb.Chain([tfb.Shift(low), tfb.Exp()])
    if shape == "softplus":
        return tfb.Chain([tfb.Shift(low), tfb.Softplus(hinge_softness=softness)])
    if shape == "below":
        return tfb.Chain([tfb.Shift(high), tfb.Scale(-np.ones_like(high)), tfb.Exp()])
    if shape == "bounded":
        return tfb.Sigmoid(low, high)
    return tfb.Identity()
