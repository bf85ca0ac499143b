"""Every coordinate transformed independently."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.parametric import ParametricBijector
from tfp_flows.transformers.affine import Affine
from tfp_flows.transformers.transformer import Transformer


class Elementwise(ParametricBijector):
    """A transformer applied to every coordinate independently, with free parameters or, with a context, a network θ(c).

    Forward: x_i = g(z_i; θ_i), log|det ∂x/∂z| = Σ log g'(z_i). Inverse: z_i = g⁻¹(x_i; θ_i).
    Each direction costs what the transformer's costs. Nothing mixes the coordinates.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: the number of coordinates.
      transformer: g, a `tff.transformers.Transformer`; the bijector starts at its initial parameters.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MLP`.

    Source: Kobyzev et al. 2021, arXiv 1908.09257, section 3.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.Elementwise(2, tff.transformers.Affine()).forward(tf.constant([3.0, 4.0])).numpy().tolist()
    [3.0, 4.0]
    """

    def __init__(self, event_size: int, transformer: Transformer, **shared: Any) -> None:
        super().__init__(event_size, **shared)
        self.transformer = transformer
        initial = np.repeat(transformer.initial_parameters()[:, np.newaxis], self.event_size, 1)
        self._make_parameters(theta=initial)

    def _forward_and_log_det(self, z, context):
        return self._transform(self.transformer.forward, z, context)

    def _inverse_and_log_det(self, x, context):
        return self._transform(self.transformer.inverse, x, context)

    def _transform(self, transform, event, context):
        (theta,) = self._parameters_for(context)
        event, log_derivative = transform(event, theta)
        return event, tf.reduce_sum(log_derivative, -1)


class DiagonalAffine(Elementwise):
    """A scale and a shift of every coordinate: `Elementwise` with the transformer `Affine`.

    Forward: x = exp(s) ⊙ z + t, log-determinant Σ s. Inverse: z = (x - t) ⊙ exp(-s). Both directions are cheap.
    Over a standard normal it is the normal of independent coordinates; with a context, a regression of each
    coordinate's mean and width. `ActNorm` is the one that starts from data.

    Shapes, arguments and errors: see `Elementwise`; and
      log_scale_bound: |s| stays below it, see `tff.transformers.Affine`.

    Source: Kobyzev et al. 2021, arXiv 1908.09257, section 3.1.1.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.DiagonalAffine(3, context_size=2).forward(tf.ones([3]), context=tf.ones([5, 2])).shape
    TensorShape([5, 3])
    """

    def __init__(self, event_size: int, log_scale_bound: float = 3.0, **shared: Any) -> None:
        super().__init__(event_size, Affine(log_scale_bound), **shared)

    @property
    def is_constant_jacobian(self) -> bool:
        # Affine: TFP then knows the mean, the covariance and the entropy of a flow of such layers.
        return not self.context_size
