"""A distribution on a product of spaces: positions, directions, angles and shares as one event."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability.python.distributions import transformed_distribution

from tfp_flows._types import Array, Context
from tfp_flows.bijectors.conditional_blocks import spaces_of
from tfp_flows.context import ContextBijector


# The class that `tfd.TransformedDistribution` gives where a part is no composite tensor, as flows with networks are.
@keras.saving.register_keras_serializable("tfp_flows")
class Product(transformed_distribution._TransformedDistribution):
    """A flow on a product of spaces, p(x|c) = Π_k p(x_k|x_<k, c); `tff.flows.product` makes it.

    The event is the parts side by side, `[D]`. The density is with respect to the product of the parts' measures:
    volume for Euclidean parts, intervals and angles, area for spheres, that of all but the last share for simplices.

    Arguments:
      distribution: the base, a `tfd.Blockwise` of one distribution for every part.
      bijector: a `tff.bijectors.ConditionalBlocks`, also inside a `StandardizedContext` or `Embedded`.
      product: the factors, as "e3+s2".
      name: the distribution's name.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> flow = tff.flows.product("e3+s2", num_layers=1, seed=0)
    >>> x = flow.sample(10, seed=(0, 1))
    >>> {name: part.shape for name, part in flow.split(x).items()}
    {'e3': TensorShape([10, 3]), 's2': TensorShape([10, 3])}
    >>> parts = flow.log_prob_parts(x)
    >>> bool(np.allclose(parts["e3"] + parts["s2"], flow.log_prob(x), atol=1e-4))
    True
    """

    def __init__(
        self, distribution: tfd.Distribution, bijector: tfb.Bijector, product: str, name: str = "product"
    ) -> None:
        parameters = dict(locals())
        self.spaces = spaces_of(product)
        super().__init__(distribution, bijector, parameters=parameters, name=name)

    def split(self, x: Array) -> dict[str, tf.Tensor]:
        """The parts of events `[..., D]`, by name."""
        blocks = tf.split(x, [space.event_size for space in self.spaces], -1)
        return {space.name: block for space, block in zip(self.spaces, blocks, strict=True)}

    def log_prob_parts(self, x: Array, context: Context | None = None) -> dict[str, tf.Tensor]:
        """log p(x_k|x_<k, c) for every part, by name, in nats, `[...]`; their sum is log p(x|c)."""
        logs = {}
        for space, base, (z, log_det) in self._base_parts(x, context):
            logs[space.name] = base.log_prob(z) + log_det
        return logs

    def base_parts(self, x: Array, context: Context | None = None) -> dict[str, tf.Tensor]:
        """z_k = f_k⁻¹(x_k; x_<k, c) for every part, by name."""
        return {space.name: z for space, _, (z, _) in self._base_parts(x, context)}

    def _base_parts(self, x, context):
        x = tf.identity(tf.convert_to_tensor(x, self.dtype))
        bijector = self.bijector
        while isinstance(bijector, ContextBijector):
            context = bijector.inner_context(context)
            bijector = bijector.bijector
        x, context = bijector._checked(x, context, 1)
        bases = self.distribution.parameters["distributions"]
        return zip(self.spaces, bases, bijector.inverse_parts(x, context), strict=True)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)  # `product` has no batch shape

    def get_config(self) -> dict[str, Any]:
        return dict(self.parameters)
