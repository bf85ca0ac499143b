"""What distributions of a shape of their own share, those that no bijector makes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows._types import DType, Shape


class Distribution(tfd.Distribution):
    """A distribution of events of one shape, without a batch shape; draws have no gradient.

    A subclass gives `_log_prob` and `_sample_n`, as any of TFP's.

    Arguments:
      event_shape: the shape of an event.
      dtype: of draws.
      parameters: the constructor's arguments, by which TFP makes a copy.
      name: the distribution's name.
    """

    def __init__(self, event_shape: Shape, *, dtype: DType, parameters: dict[str, Any], name: str) -> None:
        self._shape_of_events = tf.TensorShape(event_shape)
        super().__init__(
            dtype=tf.as_dtype(dtype),
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    def _event_shape(self):
        return self._shape_of_events

    def _event_shape_tensor(self):
        return tf.constant(self._shape_of_events.as_list(), tf.int32)

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self, **kwargs):
        return tf.constant([], tf.int32)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}
