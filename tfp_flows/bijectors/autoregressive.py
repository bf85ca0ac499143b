"""Autoregressive flows: each coordinate is transformed conditionally on the coordinates before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_one_of, split_keywords
from tfp_flows._types import Activation, Array
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.made_sequential import solve
from tfp_flows.transformers.affine import Affine
from tfp_flows.transformers.rational_quadratic import RationalQuadratic
from tfp_flows.transformers.transformer import Transformer


class MaskedAutoregressive(Bijector):
    """An autoregressive layer: a transformer of every coordinate, conditioned on the coordinates before it.

    With one_pass="inverse", as in MAF:
      Inverse: z_i = g⁻¹(x_i; θ_i(x_<i, c)), log|det ∂z/∂x| = -Σ log g'(z_i). Parallel: one pass of a `MADE`, θ.
      Forward: x_i = g(z_i; θ_i(x_<i, c)), log|det ∂x/∂z| = Σ log g'(z_i). Sequential, since θ_i needs x_<i.
    With one_pass="forward", as in IAF:
      Forward: x_i = g(z_i; θ_i(z_<i, c)), log|det ∂x/∂z| = Σ log g'(z_i). Parallel.
      Inverse: z_i = g⁻¹(x_i; θ_i(z_<i, c)), log|det ∂z/∂x| = -Σ log g'(z_i). Sequential.

    Sequential does not mean one pass per coordinate: every coordinate goes through the network once, which takes the
    arithmetic of little more than one pass and two to four times the time, for any number of coordinates (see
    tfp_flows/conditioners/made_sequential.py). Points are processed a thousand at a time, which bounds the memory.
    The gradient of this direction is that of the implicit function theorem: a triangular system, solved in the same way
    backwards. That takes two thirds of the time of running back through the loop, and keeps no loop's history. Second
    and third derivatives are exact too, but write out the Jacobian: they take the time and the memory of D passes.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates; 1 is allowed.
      transformer: g, a `tff.transformers.Transformer`.
      one_pass: the parallel direction, which costs one pass of the network: "inverse" or "forward".
      input_order, hidden_degrees, num_masks, residual, context_mode, drawn_masks: of the network, see
        `tff.conditioners.MADE`.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MADE`; hidden layers
        narrower than D - 1, with a context D, are refused.

    Raises: ValueError for a bad size, order or option.

    Source: Papamakarios et al. 2017, arXiv 1705.07057; Kingma et al. 2016, arXiv 1606.04934.

    Example: the first coordinate in the order is free, here the last.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.bijectors.MaskedAutoregressive(3, tff.transformers.Additive(), input_order="right-to-left", seed=0)
    >>> flow.forward(tf.ones([2, 3])).numpy().tolist()[0]
    [1.0, 1.0, 1.0]
    """

    _arrays = (("input_order", "conditioner.positions"),)

    def __init__(
        self,
        event_size: int,
        transformer: Transformer,
        one_pass: str = "inverse",
        *,
        input_order: str | Array = "left-to-right",
        hidden_degrees: str = "equal",
        num_masks: int = 1,
        residual: bool = False,
        context_mode: str = "add",
        drawn_masks: list | None = None,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        **shared: Any,
    ) -> None:
        super().__init__(event_size, **shared)
        check_one_of(("inverse", "forward"), one_pass=one_pass)
        self.transformer = transformer
        self.one_pass = one_pass
        self.conditioner = MADE(
            self.event_size,
            params=transformer.num_parameters,
            hidden_units=hidden_units,
            input_order=input_order,
            hidden_degrees=hidden_degrees,
            context_size=self.context_size,
            context_mode=context_mode,
            residual=residual,
            num_masks=num_masks,
            activation=activation,
            output_bias=np.repeat(transformer.initial_parameters(), self.event_size),
            seed=self.seed,
            drawn_masks=drawn_masks,
            dtype=self._network_dtype,
        )
        self._remember(drawn_masks=self.conditioner.drawn_masks)

    def _forward_and_log_det(self, z, context):
        if self.one_pass == "forward":
            return self._parallel(self.transformer.forward, z, context)
        return self._sequential(self.transformer.forward, self.transformer.inverse, z, context)

    def _inverse_and_log_det(self, x, context):
        if self.one_pass == "inverse":
            return self._parallel(self.transformer.inverse, x, context)
        return self._sequential(self.transformer.inverse, self.transformer.forward, x, context)

    def _parallel(self, transform, event, context):
        parameters = tf.cast(self.conditioner(event, context=context), self.dtype)
        shape = tf.concat([tf.shape(parameters)[:-1], [self.transformer.num_parameters, self.event_size]], 0)
        event, log_derivative = transform(event, tf.reshape(parameters, shape))
        return event, tf.reduce_sum(log_derivative, -1)

    def _sequential(self, transform, transform_back, event, context):
        shape = tf.shape(event)
        if context is not None and context.shape.rank > 1:
            context = tf.broadcast_to(context, tf.concat([shape[:-1], [self.context_size]], 0))
            context = tf.reshape(context, [-1, self.context_size])
        result, log_det = solve(
            self.conditioner, transform, transform_back, tf.reshape(event, [-1, self.event_size]), context
        )
        return tf.ensure_shape(tf.reshape(result, shape), event.shape), tf.reshape(log_det, shape[:-1])


class MAF(MaskedAutoregressive):
    """The masked autoregressive flow: `MaskedAutoregressive` with the transformer `Affine`.

    Inverse, parallel: z_i = (x_i - t_i) exp(-s_i), log|det ∂z/∂x| = -Σ s_i, with s and t from x_<i and the context.
    Forward, sequential: x_i = z_i exp(s_i) + t_i. So densities are cheap, and samples cost a few passes.

    Shapes, arguments and errors: see `MaskedAutoregressive`; and
      log_scale_bound: |s| stays below it, see `tff.transformers.Affine`.

    Source: Papamakarios et al. 2017, arXiv 1705.07057, equations 2 to 5; their μ and α are t and s.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.MAF(3, context_size=2).inverse(tf.ones([5, 3]), context=tf.ones([2])).shape
    TensorShape([5, 3])
    """

    def __init__(self, event_size: int, log_scale_bound: float = 3.0, **shared: Any) -> None:
        super().__init__(event_size, Affine(log_scale_bound), one_pass="inverse", **shared)


class IAF(MaskedAutoregressive):
    """The inverse autoregressive flow: a `MAF` with its directions exchanged.

    Forward, parallel: x_i = z_i exp(s_i) + t_i, log|det ∂x/∂z| = Σ s_i, with s and t from z_<i and the context.
    Inverse, sequential: z_i = (x_i - t_i) exp(-s_i). So samples, with their densities, are cheap, and the density of
    any other point costs a few passes: designed for variational inference.

    Shapes, arguments and errors: see `MaskedAutoregressive`; and
      log_scale_bound: |s| stays below it, see `tff.transformers.Affine`.

    Source: Kingma et al. 2016, arXiv 1606.04934, equation 10; their μ and log σ are t and s.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.IAF(3, seed=0).forward(tf.ones([3])).numpy().tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, event_size: int, log_scale_bound: float = 3.0, **shared: Any) -> None:
        super().__init__(event_size, Affine(log_scale_bound), one_pass="forward", **shared)


class NeuralSplineAutoregressive(MaskedAutoregressive, keywords_of=RationalQuadratic):
    """The autoregressive neural spline flow: `MaskedAutoregressive` with the transformer `RationalQuadratic`.

    Inverse, parallel: z_i = g⁻¹(x_i; θ_i), log|det ∂z/∂x| = -Σ log g'(z_i), with the knots θ from x_<i and the context.
    Forward, sequential: x_i = g(z_i; θ_i). So densities are cheap, and samples cost a few passes.

    Shapes, arguments and errors: see `MaskedAutoregressive`, and `tff.transformers.RationalQuadratic` for those of the
    spline.

    Source: Durkan et al. 2019, arXiv 1906.04032, section 3 ("RQ-NSF (AR)").

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> tff.bijectors.NeuralSplineAutoregressive(3, num_bins=4, seed=0).inverse(tf.ones([5, 3])).shape
    TensorShape([5, 3])
    """

    def __init__(self, event_size: int, **shared: Any) -> None:
        settings, shared = split_keywords(RationalQuadratic, shared)
        super().__init__(event_size, RationalQuadratic(**settings), one_pass="inverse", **shared)
