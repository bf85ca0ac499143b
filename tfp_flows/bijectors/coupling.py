"""Coupling flows: some coordinates pass unchanged and determine how the others are transformed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import split_keywords
from tfp_flows._types import Activation, Array
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.conditioners.mlp import MLP
from tfp_flows.context.joining import call_conditioner
from tfp_flows.transformers.affine import Additive, Affine
from tfp_flows.transformers.rational_quadratic import RationalQuadratic
from tfp_flows.transformers.transformer import Transformer


def coupling_mask(mask, event_size):
    """The boolean `[event_size]` mask of the coordinates that pass unchanged: the b of Dinh et al. 2017.

    Arguments:
      mask: "half", the first half; "alternate", every other one from the first; or a boolean array.

    Raises: ValueError for anything else, or where all or none of the coordinates pass.
    """
    index = np.arange(event_size)
    if isinstance(mask, str) and mask == "half":
        mask = index < event_size // 2
    elif isinstance(mask, str) and mask == "alternate":
        mask = index % 2 == 0
    array = np.asarray(mask)
    if array.dtype != bool or array.shape != (event_size,):
        raise ValueError(f'Expected `mask` to be "half", "alternate" or {event_size} booleans. Received: mask={mask!r}')
    if event_size == 1:
        raise ValueError(
            "Expected at least 2 coordinates: a coupling leaves some unchanged and transforms the others. For one "
            "coordinate take MAF, IAF, NeuralSplineAutoregressive, Elementwise, Planar, Radial or Gaussianization. "
            "Received: event_size=1"
        )
    if array.all() or not array.any():
        raise ValueError(
            "Expected a coupling to leave some coordinates unchanged and to transform others, so at least 2 in all. "
            f"Received: event_size={event_size}, mask={array.tolist()}"
        )
    return array


class Coupling(Bijector):
    """A coupling layer: a transformer of some coordinates, conditioned on the others.

    Forward: x_a = z_a, x_b = g(z_b; θ(z_a, c)), log|det ∂x/∂z| = Σ_b log g'(z_b).
    Inverse: z_a = x_a, z_b = g⁻¹(x_b; θ(x_a, c)), log|det ∂z/∂x| = -Σ_b log g'(z_b).
    Both directions cost one pass of the conditioner θ. With an unconditional transformer u, x_a = u(z_a); θ sees x_a.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: the number of coordinates, at least 2.
      transformer: g, a `tff.transformers.Transformer`.
      mask: the coordinates a that pass unchanged: "half" (the first half), "alternate" (every other one from the
        first), or `event_size` booleans.
      conditioner: θ, any Keras layer that maps `[..., size of a]` to `[..., P * size of b]`, parameter by parameter
        (P parameters per coordinate). If its `call` has an argument `context` it gets the context there, otherwise it
        is concatenated to the input. None makes an `MLP` of `hidden_units` and `activation`, whose initial output is
        the transformer's initial parameters: the layer starts as the identity.
      unconditional_transformer: u, a transformer with free parameters for the coordinates a; None leaves them alone.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MLP`.

    Raises: ValueError for a bad mask or size, or a conditioner whose output has the wrong size.

    Source: Dinh et al. 2014, arXiv 1410.8516, section 3.2; the mask: Dinh et al. 2017, arXiv 1605.08803, section 3.4.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> coupling = tff.bijectors.Coupling(5, tff.transformers.Affine(), mask=[True, False, True, False, False])
    >>> coupling.forward(tf.ones([2, 5])).numpy().tolist()[0]
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    _network = MLP  # what is made where no conditioner is given

    def __init__(
        self,
        event_size: int,
        transformer: Transformer,
        mask: str | Array = "half",
        conditioner: keras.layers.Layer | None = None,
        unconditional_transformer: Transformer | None = None,
        *,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        **shared: Any,
    ) -> None:
        super().__init__(event_size, **shared)
        self.transformer = transformer
        self.mask = coupling_mask(mask, self.event_size)
        self._unchanged = np.flatnonzero(self.mask)
        self._transformed = np.flatnonzero(~self.mask)
        # Where each coordinate of x is in the concatenation of x_a and x_b.
        self._order = np.argsort(np.concatenate([self._unchanged, self._transformed]))
        self._shape = (transformer.num_parameters, len(self._transformed))
        if conditioner is None:
            conditioner = self._network(
                len(self._unchanged),
                self._shape[0] * self._shape[1],
                hidden_units,
                activation,
                context_size=self.context_size,
                output_bias=np.repeat(transformer.initial_parameters(), self._shape[1]),
                seed=self.seed,
                dtype=self._network_dtype,
            )
        else:
            self._check_conditioner(conditioner)
        self.conditioner = conditioner
        self.unconditional = None
        if unconditional_transformer is not None:
            self.unconditional = Elementwise(len(self._unchanged), unconditional_transformer, dtype=self.dtype)

    def _forward_and_log_det(self, z, context):
        z_a, z_b = self._split(z)
        x_a, log_det_a = self.unconditional._forward_and_log_det(z_a, None) if self.unconditional else (z_a, 0.0)
        x_b, log_derivative = self.transformer.forward(z_b, self._theta(x_a, context))
        return self._join(x_a, x_b), log_det_a + tf.reduce_sum(log_derivative, -1)

    def _inverse_and_log_det(self, x, context):
        x_a, x_b = self._split(x)
        z_b, log_derivative = self.transformer.inverse(x_b, self._theta(x_a, context))
        z_a, log_det_a = self.unconditional._inverse_and_log_det(x_a, None) if self.unconditional else (x_a, 0.0)
        return self._join(z_a, z_b), log_det_a + tf.reduce_sum(log_derivative, -1)

    def _split(self, event):
        return take(event, self._unchanged), take(event, self._transformed)

    def _join(self, a, b):
        return take(tf.concat([a, b], -1), self._order)

    def _theta(self, a, context):
        """θ(a, c) as `[..., P, size of b]`."""
        parameters = tf.cast(call_conditioner(self.conditioner, a, context), self.dtype)
        return tf.reshape(parameters, tf.concat([tf.shape(parameters)[:-1], self._shape], 0))

    def _check_conditioner(self, layer):
        """Builds the user's own layer by calling it on one point, and checks the output."""
        point = tf.zeros([1, len(self._unchanged)], self.dtype)
        context = tf.zeros([1, self.context_size], self.dtype) if self.context_size else None
        output = call_conditioner(layer, point, context)
        if output.shape != (1, self._shape[0] * self._shape[1]):
            raise ValueError(
                f"`{self.name}` expected a conditioner that maps shape {tuple(point.shape)} to "
                f"(1, {self._shape[0]} * {self._shape[1]}), for {self._shape[0]} parameters per coordinate and "
                f"{self._shape[1]} coordinates. Received: output shape {tuple(output.shape)}"
            )
        if self.dtype == tf.float64 and output.dtype != tf.float64:
            raise ValueError(
                f'`{self.name}` expected a conditioner of dtype float64 (build it with dtype="float64"). '
                f"Received: output dtype {output.dtype.name}"
            )


def take(event, index):
    """The coordinates of `event` at `index`: a slice where they are contiguous, which is cheaper than a gather."""
    first, last = index[0], index[-1]
    if np.array_equal(index, np.arange(first, last + 1)):
        return event if last + 1 - first == event.shape[-1] else event[..., first : last + 1]
    return tf.gather(event, index, axis=-1)


class NICE(Coupling):
    """The additive coupling of NICE: `Coupling` with the transformer `Additive`; its log-determinant is 0.

    Forward: x_a = z_a, x_b = z_b + m(z_a, c). Inverse: z_a = x_a, z_b = x_b - m(x_a, c).
    Both directions cost one pass of m. The paper's diagonal scale after the last layer is a bijector of its own,
    `tfb.Scale`, in `tff.flows.nice`.

    Shapes, arguments and errors: see `Coupling`.

    Source: Dinh et al. 2014, arXiv 1410.8516, equations 8 and 9.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.NICE(3).inverse_log_det_jacobian(tf.ones([3])).numpy().item()
    0.0
    """

    def __init__(
        self, event_size: int, mask: str | Array = "half", conditioner: keras.layers.Layer | None = None, **shared: Any
    ) -> None:
        super().__init__(event_size, Additive(), mask=mask, conditioner=conditioner, **shared)


class RealNVP(Coupling):
    """The affine coupling of RealNVP: `Coupling` with the transformer `Affine`; with a context, that of a cINN.

    Forward: x_a = z_a, x_b = z_b exp(s(z_a, c)) + t(z_a, c), log-determinant Σ s.
    Inverse: z_a = x_a, z_b = (x_b - t(x_a, c)) exp(-s(x_a, c)), log-determinant -Σ s.
    Both directions cost one pass of the network that gives s and t.

    Shapes, arguments and errors: see `Coupling`; and
      log_scale_bound: |s| stays below it, see `tff.transformers.Affine`.

    Source: Dinh et al. 2017, arXiv 1605.08803, equations 7 to 9; cINN: Ardizzone et al. 2019, arXiv 1907.02392.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.RealNVP(3, context_size=2).forward(tf.ones([5, 3]), context=tf.ones([2])).shape
    TensorShape([5, 3])
    """

    def __init__(
        self,
        event_size: int,
        mask: str | Array = "half",
        conditioner: keras.layers.Layer | None = None,
        log_scale_bound: float = 3.0,
        **shared: Any,
    ) -> None:
        super().__init__(event_size, Affine(log_scale_bound), mask=mask, conditioner=conditioner, **shared)


class NeuralSplineCoupling(Coupling, keywords_of=RationalQuadratic):
    """The coupling of neural spline flows: `Coupling` with the transformer `RationalQuadratic`.

    Forward: x_a = z_a, x_b = g(z_b; θ(z_a, c)), log-determinant Σ log g'(z_b).
    Inverse: z_a = x_a, z_b = g⁻¹(x_b; θ(x_a, c)), log-determinant -Σ log g'(z_b).
    Both directions cost one pass of θ; g⁻¹ has a closed form.

    Shapes, arguments and errors: see `Coupling` and `tff.transformers.RationalQuadratic`; and
      unconditional: whether the coordinates a pass through splines of their own, x_a = u(z_a), with free parameters, as
        the paper has it as an option.

    Source: Durkan et al. 2019, arXiv 1906.04032, section 3.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> spline = tff.bijectors.NeuralSplineCoupling(3, num_bins=4, bound=2.0)
    >>> spline.forward(tf.constant([0.5, -1.0, 7.0])).numpy().round(5).tolist()
    [0.5, -1.0, 7.0]
    """

    def __init__(
        self,
        event_size: int,
        mask: str | Array = "half",
        conditioner: keras.layers.Layer | None = None,
        unconditional: bool = False,
        **shared: Any,
    ) -> None:
        settings, shared = split_keywords(RationalQuadratic, shared)
        spline = RationalQuadratic(**settings)
        super().__init__(
            event_size,
            spline,
            mask=mask,
            conditioner=conditioner,
            unconditional_transformer=spline if unconditional else None,
            **shared,
        )
