"""The common part of the bijectors that pass a context to the bijector inside them."""

from __future__ import annotations

import abc
from typing import Any

from tensorflow_probability import bijectors as tfb
from tensorflow_probability.python.internal import cache_util

from tfp_flows._types import Context, Structure
from tfp_flows.context.route import context_arguments


class ContextBijector(tfb.Bijector, abc.ABC):
    """A bijector around another one, to which it passes a context: the common part of `Conditioned` and `Embedded`.

    As in every bijector of ours, TFP's cache keeps the log-determinant beside the value. Both come from the public
    methods of the inner bijector, so that its own cache is used and its networks run once.

    Arguments:
      bijector: the inner bijector.
      parameters: the constructor's arguments, by name.
      name: the name of the outer bijector.
    """

    _cache = cache_util.BijectorCacheWithGreedyAttrs(forward_name="_cached_forward", inverse_name="_cached_inverse")

    def __init__(self, bijector: tfb.Bijector, parameters: dict[str, Any], name: str) -> None:
        self.bijector = bijector
        super().__init__(
            forward_min_event_ndims=bijector.forward_min_event_ndims,
            inverse_min_event_ndims=bijector.inverse_min_event_ndims,
            dtype=bijector.dtype,
            parameters=parameters,
            name=name,
        )

    @abc.abstractmethod
    def inner_context(self, context: Context | None) -> Structure | None:
        """The context of the inner bijector for the one that came from outside, or None."""

    def _arguments(self, context):
        return context_arguments(self.bijector, self.inner_context(context))

    def _cached_forward(self, z, context=None):
        arguments = self._arguments(context)
        return self.bijector.forward(z, **arguments), {"ildj": -self.bijector.forward_log_det_jacobian(z, **arguments)}

    def _cached_inverse(self, x, context=None):
        arguments = self._arguments(context)
        return self.bijector.inverse(x, **arguments), {"ildj": self.bijector.inverse_log_det_jacobian(x, **arguments)}

    def _forward_log_det_jacobian(self, z, context=None):
        return self.bijector.forward_log_det_jacobian(z, **self._arguments(context))

    def _inverse_log_det_jacobian(self, x, context=None):
        return self.bijector.inverse_log_det_jacobian(x, **self._arguments(context))

    def _forward_event_shape(self, shape):
        return self.bijector.forward_event_shape(shape)

    def _forward_event_shape_tensor(self, shape):
        return self.bijector.forward_event_shape_tensor(shape)

    def _inverse_event_shape(self, shape):
        return self.bijector.inverse_event_shape(shape)

    def _inverse_event_shape_tensor(self, shape):
        return self.bijector.inverse_event_shape_tensor(shape)

    def _forward_dtype(self, dtype, **kwargs):
        return self.bijector.forward_dtype(dtype)

    def _inverse_dtype(self, dtype, **kwargs):
        return self.bijector.inverse_dtype(dtype)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}

    def _get_parameterization(self):
        # TFP lets bijectors with equal arguments share a cache; the inner one has weights of its own.
        return id(self)

    def get_config(self) -> dict[str, Any]:
        return dict(self.parameters)
