"""The rational-quadratic spline of a circle between two rotations."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfp_flows.transformers.rational_quadratic import RationalQuadratic
from tfp_flows.transformers.spline import rounded_to
from tfp_flows.transformers.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class CircularSpline(Transformer):
    """An increasing map of the circle onto itself: a rotation, a rational-quadratic spline, and a rotation.

    Forward: y = g(x - a) + b, brought to [-π, π), with g the circular `RationalQuadratic` on [-π, π).
    Inverse: x = g⁻¹(y - b) + a, likewise.
    g closes with equal slopes at ±π, so dy/dx is continuous everywhere. Its own derivative jumps at the knots, one of
    which is the fixed point x - a = ±π of g; `phase` moves that away from the seam of the coordinates.

    Arguments:
      num_bins, min_bin_width, min_bin_height, min_slope: see `RationalQuadratic`.
      phase: the a and b to start from, in radians.

    Parameters: those of the spline (3 `num_bins`), then a and b. The initial ones give the identity.

    Raises: ValueError where `RationalQuadratic` does.

    Source: Rezende et al. 2020, arXiv 2002.02428, sections 2.1 and 2.2.

    Example: a rotation by a quarter turn.

    >>> import numpy as np, tensorflow as tf, tfp_flows as tff
    >>> spline = tff.transformers.CircularSpline(num_bins=2)
    >>> parameters = np.float32([[0.0]] * 7 + [[np.pi / 2]])
    >>> y, log_slope = spline.forward(tf.constant([0.0, 3.0]), parameters)
    >>> print(y.numpy().round(3))
    [ 1.571 -1.712]
    """

    num_bins: int = 8
    min_bin_width: float = 1e-3
    min_bin_height: float = 1e-3
    min_slope: float = 1e-3
    phase: float = 0.0

    def __post_init__(self):
        _ = self.spline  # checks the settings

    @property
    def spline(self) -> RationalQuadratic:
        """g, the circular `RationalQuadratic`."""
        floors = (self.min_bin_width, self.min_bin_height, self.min_slope)
        return RationalQuadratic(self.num_bins, math.pi, *floors, circular=True)

    @property
    def num_parameters(self) -> int:
        return 3 * self.num_bins + 2

    def initial_parameters(self) -> np.ndarray:
        return np.concatenate([np.zeros(3 * self.num_bins), [self.phase, self.phase]])

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        spline, a, b = self._split(parameters)
        y, log_derivative = self.spline.forward(wrap(x - a), spline)
        return wrap(y + b), log_derivative

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        spline, a, b = self._split(parameters)
        x, log_derivative = self.spline.inverse(wrap(y - b), spline)
        return wrap(x + a), log_derivative

    def _split(self, parameters):
        return parameters[..., :-2, :], parameters[..., -2, :], parameters[..., -1, :]


def wrap(angle):
    """The angle brought to [-π, π) by whole turns."""
    turns = tf.floor(angle / (2 * math.pi) + 0.5)
    wrapped = angle - 2 * math.pi * turns
    # Rounding can leave it outside by its last digit, and an angle of 1e30 anywhere: a base on [-π, π) would give -inf.
    return rounded_to(tf.clip_by_value(wrapped, -math.pi, math.pi), wrapped)
