"""Flows on the sphere S², on unit vectors of R³, and the chart of zenith and azimuth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows._types import Activation, Array, DType
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.parametric import ParametricBijector
from tfp_flows.conditioners.mlp import MLP
from tfp_flows.context.joining import call_conditioner
from tfp_flows.transformers.circular_spline import CircularSpline
from tfp_flows.transformers.rational_quadratic import RationalQuadratic

# How far from 1 the length of a unit vector may be: rounding, also that of a table with three decimals.
TOLERANCE = 1e-3


class SphereFlow(ParametricBijector):
    """A map of the sphere onto itself: azimuths by a spline given the height, then heights by one given the azimuth.

    With x = (√(1-h²) cos φ, √(1-h²) sin φ, h) and the height as t = log((1+h)/(1-h)), which goes from -∞ to ∞:
      Forward: φ' = f(φ; (1-h²) θ₁(h, c)), t' = g(t; θ₂(cos φ', sin φ', c)) + τ(c).
      Inverse: t = g⁻¹(t' - τ; θ₂(cos φ', sin φ', c)), φ = f⁻¹(φ'; (1-h²) θ₁(h, c)).
      Log-determinant, with respect to the area: log f'(φ) + log g'(t) + log(1-h'²) - log(1-h²), for (φ, h) preserves
      areas and dh/dt = (1-h²)/2.
    f is a `CircularSpline`, g a `RationalQuadratic` on [-bound, bound] and the identity outside. Both directions are
    closed and cost one pass of θ₁ and θ₂.

    The density is continuous everywhere. A cylinder of (φ, h) alone jumps at the poles, where all φ are one point. Here
    the parameters of f fade with 1-h², so that at a pole it is a rotation; and g is the identity there, so that the
    height map is t' = t + τ: the dilation of the sphere along its axis (a Möbius map), which stretches all directions
    alike. The logarithms of 1+h and 1-h come from x₁² + x₂², so no digits are lost near a pole, and x₁ and x₂ are
    scaled and turned rather than made anew from φ, so nothing is undefined at it.

    One layer has its poles at ±e₃; between layers stands a rotation such as `Householder`, as in `tff.flows.sphere`.
    At initialization it is the identity. Over a `tfd.SphericalUniform` in a `tfd.TransformedDistribution` of your own,
    put that in `tfd.Independent(..., 0)`: TFP else has the log-determinant from the whole chain's Jacobian, slowly.

    Shapes: z and x `[..., 3]`, unit vectors, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      num_bins: of f and g.
      bound: of g; beyond it, in polar caps of radius 2 exp(-bound/2), heights are shifted only.
      min_bin_width, min_bin_height, min_slope: see `RationalQuadratic`.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MLP`.

    Raises: InvalidArgumentError, on calls, for events whose length is not 1 within 0.001; compiled by XLA, which has no
      errors, they get the log-density -∞. What is nearer is projected onto the sphere.

    Source: the cylinder and circular splines: Rezende et al. 2020, arXiv 2002.02428, sections 2.1 and 2.3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> sphere = tff.bijectors.SphereFlow(seed=0)
    >>> sphere.forward(tf.constant([[0.6, 0.0, 0.8], [0.0, 0.0, 1.0]])).numpy().round(3).tolist()
    [[0.6..., 0.0, 0.8...], [0.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        num_bins: int = 8,
        bound: float = 6.0,
        *,
        min_bin_width: float = 1e-3,
        min_bin_height: float = 1e-3,
        min_slope: float = 1e-3,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
        **shared: Any,
    ) -> None:
        super().__init__(3, hidden_units=hidden_units, activation=activation, **shared)
        self._make_parameters(dilation=np.zeros([1]))  # τ
        floors = (min_bin_width, min_bin_height, min_slope)
        self.azimuth_spline = CircularSpline(num_bins, *floors)
        self.height_spline = RationalQuadratic(num_bins, bound, *floors)
        options = {"context_size": self.context_size, "dtype": self._network_dtype}
        self.azimuth_network = MLP(
            1, self.azimuth_spline.num_parameters, hidden_units, activation, seed=self.seed, **options
        )
        self.height_network = MLP(
            2, self.height_spline.num_parameters, hidden_units, activation, seed=self.seed + 1, **options
        )

    def _forward_and_log_det(self, z, context):
        z, _ = on_the_sphere(z, self.name)
        t, direction = _height_and_direction(z)
        direction, turn, log_slope_1 = self._turned(self.azimuth_spline.forward, direction, t, context)
        (dilation,) = self._parameters_for(context)
        t_1, log_slope_2 = self._shifted(self.height_spline.forward, t, direction, context)
        t_1 = t_1 + dilation
        return _moved(z, t, t_1, turn), (log_slope_1 + log_slope_2 + _log_area(t_1) - _log_area(t))[..., 0]

    def _inverse_and_log_det(self, x, context):
        x, off = on_the_sphere(x, self.name)
        t_1, direction = _height_and_direction(x)
        (dilation,) = self._parameters_for(context)
        t, log_slope_2 = self._shifted(self.height_spline.inverse, t_1 - dilation, direction, context)
        _, turn, log_slope_1 = self._turned(self.azimuth_spline.inverse, direction, t, context)
        log_det = (log_slope_1 + log_slope_2 + _log_area(t) - _log_area(t_1))[..., 0]
        return _moved(x, t_1, t, turn), tf.where(off, tf.constant(-np.inf, x.dtype), log_det)

    def supports(self, x: Array) -> tf.Tensor:
        """Which events `[...]` are unit vectors, up to rounding."""
        return ~_projected(tf.convert_to_tensor(x))[1]

    def _turned(self, spline, direction, t, context):
        """The direction (cos φ, sin φ) after f or its inverse, (cos, sin) of the turn, and the log-slope."""
        theta = tf.cast(call_conditioner(self.azimuth_network, tf.tanh(t / 2), context), self.dtype)
        fading = tf.exp(_log_area(t))
        theta = tf.concat([fading * theta[..., :-2], theta[..., -2:]], -1)[..., tf.newaxis]
        cos, sin = direction[..., :1], direction[..., 1:]
        azimuth = tf.atan2(sin, cos)
        turned, log_slope = spline(azimuth, theta)
        angle = turned - azimuth
        turn = (tf.cos(angle), tf.sin(angle))
        return tf.concat(_rotated(cos, sin, turn), -1), turn, log_slope

    def _shifted(self, spline, t, direction, context):
        """t after g or its inverse, and the log-slope."""
        theta = tf.cast(call_conditioner(self.height_network, direction, context), self.dtype)
        return spline(t, theta[..., tf.newaxis])


class SphericalCoordinates(Bijector):
    """The chart of the sphere: (zenith, azimuth) to unit vectors.

    Forward: x = (sin ϑ cos φ, sin ϑ sin φ, cos ϑ) from z = (ϑ, φ), log-determinant log sin ϑ, with respect to the area.
    Inverse: ϑ = atan2(√(x₁²+x₂²), x₃) in [0, π], φ = atan2(x₂, x₁) in [-π, π], log-determinant -log sin ϑ.
    Both are cheap. At the poles φ is 0 and sin ϑ is taken for 1e-15. A density in coordinates is that on the sphere
    times sin ϑ: `tfd.TransformedDistribution(flow, tfb.Invert(SphericalCoordinates()))`.

    Shapes: z `[..., 2]`, in radians, x `[..., 3]`, log-determinants `[...]`, in nats.

    Arguments: dtype, validate_args, name: see `Bijector`.

    Raises: as `SphereFlow`, for x off the sphere.

    Example:

    >>> import numpy as np, tensorflow as tf, tfp_flows as tff
    >>> print(tff.bijectors.SphericalCoordinates().inverse(tf.constant([0.0, 1.0, 0.0])).numpy().round(3))
    [1.571 1.571]
    """

    def __init__(self, *, dtype: DType = tf.float32, validate_args: bool = False, name: str | None = None) -> None:
        super().__init__(3, base_shape=2, dtype=dtype, validate_args=validate_args, name=name)

    def supports(self, x: Array) -> tf.Tensor:
        """Which events `[...]` are unit vectors, up to rounding."""
        return ~_projected(tf.convert_to_tensor(x))[1]

    def _forward_and_log_det(self, z, context):
        zenith, azimuth = tf.unstack(z, axis=-1)
        sin = tf.sin(zenith)
        x = tf.stack([sin * tf.cos(azimuth), sin * tf.sin(azimuth), tf.cos(zenith)], -1)
        return x, tf.math.log(tf.maximum(tf.abs(sin), 1e-15))

    def _inverse_and_log_det(self, x, context):
        x, off = on_the_sphere(x, self.name)
        radius, direction = _radius_and_direction(x)
        zenith = tf.atan2(radius, x[..., 2:])
        azimuth = tf.atan2(direction[..., 1:], direction[..., :1])
        log_det = -tf.math.log(radius)[..., 0]
        return tf.concat([zenith, azimuth], -1), tf.where(off, tf.constant(-np.inf, x.dtype), log_det)


def on_the_sphere(x, name):
    """x projected onto the sphere, and where it was off by more than rounding: an error except under XLA."""
    projected, off = _projected(x)
    tf.debugging.assert_equal(
        tf.reduce_any(off), False, f"`{name}` expected unit vectors. Received: lengths other than 1, in some of {x}"
    )
    return projected, off


def _projected(x):
    """x projected onto the sphere, and where it was off by more than rounding."""
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(x), -1, keepdims=True))
    is_zero = tf.equal(largest, 0)  # False for NaN, which stays
    # Scaled so that squares neither overflow nor vanish; 0 has no direction and becomes e₃.
    scaled = tf.where(
        is_zero, tf.constant([0.0, 0.0, 1.0], x.dtype), x / tf.where(is_zero, tf.ones_like(largest), largest)
    )
    length = tf.sqrt(tf.reduce_sum(scaled**2, -1, keepdims=True))
    return scaled / length, (tf.abs(largest * length - 1) > TOLERANCE)[..., 0]


def _radius_and_direction(x):
    """√(x₁²+x₂²), at least 1e-15, and (x₁, x₂) divided by it; (1, 0) next to a pole."""
    square = tf.reduce_sum(x[..., :2] ** 2, -1, keepdims=True)
    radius = tf.sqrt(tf.maximum(square, 1e-30))
    # Within some rounding errors of a pole the direction is left out: maps depend on it by the square of the radius,
    # which is nothing there, but autodiff would divide the rounding of their derivatives by the radius.
    near = radius < 10 * np.finfo(x.dtype.as_numpy_dtype).eps
    return radius, tf.where(
        near, tf.constant([1.0, 0.0], x.dtype), x[..., :2] / tf.where(near, tf.ones_like(radius), radius)
    )


def _height_and_direction(x):
    """t = log((1+h)/(1-h)), with the smaller of 1+h and 1-h from (1+h)(1-h) = x₁²+x₂²; and (cos φ, sin φ)."""
    radius, direction = _radius_and_direction(x)
    h = x[..., 2:]
    t = 2 * (tf.math.log1p(tf.abs(h)) - tf.math.log(radius))
    return tf.where(h < 0, -t, t), direction


def _log_area(t):
    """log(1-h²), where h = tanh(t/2)."""
    return np.log(4.0) - tf.nn.softplus(t) - tf.nn.softplus(-t)


def _moved(x, t, t_1, turn):
    """The point x of height t brought to the height t_1 and turned about the axis."""
    ratio = tf.exp((_log_area(t_1) - _log_area(t)) / 2)
    first, second = _rotated(x[..., :1], x[..., 1:2], turn)
    return tf.concat([ratio * first, ratio * second, tf.tanh(t_1 / 2)], -1)


def _rotated(first, second, turn):
    cos, sin = turn
    return cos * first - sin * second, sin * first + cos * second
