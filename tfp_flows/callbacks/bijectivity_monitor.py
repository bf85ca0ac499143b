"""BijectivityMonitor: do both directions still invert each other, and are the log-determinants right?"""

from __future__ import annotations

import tensorflow as tf

from tfp_flows._types import Array, Context
from tfp_flows.callbacks._flow_callback import FlowCallback
from tfp_flows.context import context_arguments


class BijectivityMonitor(FlowCallback):
    """Logs, at the end of each epoch, the maximum round-trip error and the maximum error of the log-determinant.

    With z = f⁻¹(x), over the given points,

        round_trip_error = max |f(z) - x| / (1 + |x|)          log_det_error = max |log|det J| - log|det ∂z/∂x||  (nats)

    where the first log-determinant is the bijector's own and the second that of the Jacobian by automatic
    differentiation, which takes D backward passes. For a sound flow both stay near the rounding error of its dtype;
    above 1e-2 its densities and its samples no longer belong to one distribution.

    They are part of Keras's logs, and so of `History` and TensorBoard's scalars; callbacks later in the list can
    monitor them by name.

    Arguments:
      x: the points, `[n, D]`; some tens of rows of the data are enough.
      context: `[n, C]`, for a conditional flow.

    Raises: TypeError for a model that is no `FlowModel`, and for a distribution without a bijector.

    Example:

    >>> import tfp_flows as tff
    >>> x = tff.datasets.two_moons(512, seed=0)
    >>> model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0))
    >>> history = model.fit(x, callbacks=[tff.callbacks.BijectivityMonitor(x[:32])], verbose=0)
    >>> history.history["round_trip_error"][0] < 1e-5
    True
    """

    def __init__(self, x: Array, context: Context | None = None) -> None:
        super().__init__()
        self.x, self.context = x, context

    def on_train_begin(self, logs: dict | None = None) -> None:
        bijector = self.model.methods.bijector
        self._x = self.model.data_spec.event(self.x)
        context = self.model.methods.context(self.context)
        arguments = context_arguments(bijector, context)
        ndims = self.model.distribution.event_shape.rank

        def errors(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                z = tf.identity(bijector.inverse(x, **arguments))
                columns = tf.reshape(z, [tf.shape(z)[0], -1])
            size = self.model.distribution.event_shape.num_elements()
            jacobian = tape.batch_jacobian(columns, x, experimental_use_pfor=False)
            expected = tf.linalg.slogdet(tf.reshape(jacobian, [-1, size, size])).log_abs_determinant
            log_det = bijector.inverse_log_det_jacobian(tf.identity(x), ndims, **arguments)
            back = bijector.forward(z, **arguments)
            return {
                "round_trip_error": tf.reduce_max(tf.abs(back - x) / (1 + tf.abs(x))),
                "log_det_error": tf.reduce_max(tf.abs(log_det - expected)),
            }

        self._errors = tf.function(errors, autograph=False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        found = {name: float(value) for name, value in self._errors(self._x).items()}
        if logs is not None:
            logs.update(found)
