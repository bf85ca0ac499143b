"""Shifts and scalings: the transformers of NICE, RealNVP, MAF and IAF."""

import dataclasses

import tensorflow as tf

from tfp_flows.transformers.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Additive(Transformer):
    """The shift y = x + t of NICE.

    Forward: y = x + t, log(dy/dx) = 0. Inverse: x = y - t.

    Source: Dinh et al. 2014, arXiv 1410.8516, equation 8.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> y, log_derivative = tff.transformers.Additive().forward(tf.ones([2]), tf.constant([[3.0, 4.0]]))
    >>> y.numpy().tolist(), log_derivative.numpy().tolist()
    ([4.0, 5.0], [0.0, 0.0])
    """

    @property
    def num_parameters(self) -> int:
        return 1

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        (shift,) = tf.unstack(parameters, axis=-2)
        y = x + shift
        return y, tf.zeros_like(y)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        (shift,) = tf.unstack(parameters, axis=-2)
        x = y - shift
        return x, tf.zeros_like(x)


@dataclasses.dataclass(frozen=True)
class Affine(Transformer):
    """The scale and shift y = exp(s) x + t of RealNVP, MAF and IAF, with a bounded log-scale.

    Forward: y = exp(s) x + t, log(dy/dx) = s. Inverse: x = (y - t) exp(-s), log(dx/dy) = -s.
    The log-scale is s = b tanh(a / b) for an unconstrained a: it stays between -b and b, so that no step of an
    optimizer makes a scale 0 or infinite, and is a itself near the start (the slope of tanh at 0 is 1).

    Arguments:
      log_scale_bound: b, in nats, a positive number.

    Parameters: t, then a. Zeros give the identity.

    Source: Dinh et al. 2017, arXiv 1605.08803, equations 7 and 8; their log-scales pass through tanh as well.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> affine = tff.transformers.Affine(log_scale_bound=2.0)
    >>> y, log_derivative = affine.forward(tf.ones([1]), tf.constant([[3.0], [1e9]]))
    >>> y.numpy().round(3).tolist(), log_derivative.numpy().tolist()
    ([10.388999938964844], [2.0])
    """

    log_scale_bound: float = 3.0

    def __post_init__(self):
        if not self.log_scale_bound > 0:
            raise ValueError(
                f"Expected `log_scale_bound` to be a positive number. Received: log_scale_bound={self.log_scale_bound}"
            )

    @property
    def num_parameters(self) -> int:
        return 2

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shift, log_scale = self._shift_and_log_scale(parameters)
        y = x * tf.exp(log_scale) + shift
        return y, tf.broadcast_to(log_scale, tf.shape(y))

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shift, log_scale = self._shift_and_log_scale(parameters)
        x = (y - shift) * tf.exp(-log_scale)
        return x, tf.broadcast_to(-log_scale, tf.shape(x))

    def _shift_and_log_scale(self, parameters):
        shift, log_scale = tf.unstack(parameters, axis=-2)
        return shift, self.log_scale_bound * tf.tanh(log_scale / self.log_scale_bound)
