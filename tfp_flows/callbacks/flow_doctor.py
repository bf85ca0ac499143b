"""FlowDoctor: training that survives non-finite steps, and reports where they came from."""

from __future__ import annotations

import logging

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._types import Array
from tfp_flows.callbacks._flow_callback import FlowCallback
from tfp_flows.callbacks._guard import Guard, inner
from tfp_flows.callbacks.diagnosis import diagnose
from tfp_flows.model import FlowModel


class FlowDoctor(FlowCallback):
    """Catches non-finite losses and gradients, reports the bijector and rows responsible, rolls back, and continues.

    It acts when the loss or the gradient of a step is non-finite, and when the held-out loss is, or rises more than
    `cliff` nats per dimension above its best. Then it

    1. logs the bijector with the first non-finite value or gradient, and the data rows;
    2. restores the weights and the optimizer's state from the end of the last good epoch, or from the start;
    3. multiplies the learning rate, or the whole schedule, by `factor`;
    4. continues with the next batch.

    A batch whose data is non-finite is skipped and nothing is restored: weights and learning rate are not to blame.

    The check runs inside the compiled step: a failed step changes no weight, whatever the optimizer. The host looks
    once per `steps_per_execution` batches, and only while `fit` runs.

    Arguments:
      factor: the factor of the learning rate, between 0 and 1.
      max_failures: failures to tolerate before raising.
      cliff: how far, in nats per dimension, the held-out loss may rise above its best.
      monitor: the name of the held-out loss in Keras's logs; without validation data there is none, and no cliff.
      data: the array given to `fit`, if rows are to be reported by their indices in it.

    Attributes:
      failures: the report of each failure, in order.

    Raises: ValueError for arguments out of range; RuntimeError, with all reports, when it gives up; TypeError for
    a model that is no `FlowModel`.

    Example:

    >>> import tfp_flows as tff
    >>> model = tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0))
    >>> doctor = tff.callbacks.FlowDoctor()
    >>> history = model.fit(tff.datasets.two_moons(512, seed=0), callbacks=[doctor], verbose=0)
    >>> doctor.failures
    []
    """

    acts_on_executions = True  # its checks are inside the compiled step

    def __init__(
        self,
        factor: float = 0.5,
        max_failures: int = 5,
        cliff: float = 1.0,
        monitor: str = "val_loss",
        data: Array | None = None,
    ) -> None:
        super().__init__()
        if not (0 < factor < 1 and max_failures >= 0 and cliff > 0):
            raise ValueError(
                "Expected factor between 0 and 1, max_failures of 0 or more, and cliff above 0. "
                f"Received: factor={factor}, max_failures={max_failures}, cliff={cliff}"
            )
        self.factor, self.max_failures, self.cliff, self.monitor = factor, max_failures, cliff, monitor
        self.data = None if data is None else np.asarray(data)
        self.failures = []
        self._guard: Guard | None = None

    def guard(self, model: FlowModel) -> Guard:
        """The steps for `FlowModel.fit` to run in place of Keras's."""
        if self._guard is None or self._guard.model is not model:
            self._guard = Guard(model)
        return self._guard

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.failures, self._epoch, self._best = [], 0, np.inf
        self._guard.reset()
        self._keep()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._guard.failures.numpy():
            self._treat(f"epoch {self._epoch + 1}, up to batch {batch + 1}: the loss or its gradient is non-finite")
            for metric in self.model.metrics:
                if metric.name != "loss":  # which leaves failed steps out
                    metric.reset_state()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        held_out = (logs or {}).get(self.monitor)
        limit = self._best + self.cliff * _event_size(self.model)
        if held_out is None:
            self._keep()
        elif np.isfinite(held_out) and held_out <= limit:
            self._best = min(held_out, self._best)
            self._keep()
        else:
            self._treat(f"epoch {epoch + 1}: {self.monitor} is {held_out:.4g}, its best was {self._best:.4g}")

    def _treat(self, event):
        is_data = self._guard.failures.numpy() > 0 and self._guard.faults.numpy() == 0
        finding, rows = self._examine()
        said = [event]
        if finding is not None:
            said.append(self._describe(finding, rows))
        said.append("skipped" if is_data else self._restore())
        self._guard.reset()
        self.failures.append("; ".join(said))
        if len(self.failures) > self.max_failures:
            raise RuntimeError(
                f"Expected at most {self.max_failures} failures in training. Received:\n" + "\n".join(self.failures)
            )
        logging.getLogger(__name__).warning("FlowDoctor: %s", self.failures[-1])

    def _examine(self):
        """The finding of `diagnose` on the kept rows, and the rows responsible."""
        inputs = self._guard.failed_rows()
        if inputs is None:
            return None, None
        context, x = inputs if self.model.is_conditional else (None, inputs)
        finding = diagnose(self.model, x, context)
        return finding, None if finding is None else tf.nest.map_structure(lambda leaf: leaf[finding.rows], x)

    def _describe(self, finding, rows):
        said = f"the first non-finite is the {finding}"
        if tf.nest.is_nested(rows):
            return said
        shown = np.array2string(rows[:3], precision=6, separator=", ").replace("\n", "")
        said += f", in {len(rows)} of the rows checked: {shown}{', ...' if len(rows) > 3 else ''}"
        return said + self._numbers(rows[:3])

    def _numbers(self, rows):
        if self.data is None:
            return ""
        same = (self.data[None] == rows[:, None]) | (np.isnan(self.data[None]) & np.isnan(rows[:, None]))
        numbers = np.flatnonzero(same.reshape(*same.shape[:2], -1).all(2).any(0))
        return f" (in the data: {', '.join(map(str, numbers))})" if numbers.size else ""

    def _keep(self):
        self._kept = [variable.numpy() for variable in self._variables()]

    def _restore(self):
        optimizer = inner(self.model.optimizer)
        is_number = isinstance(optimizer._learning_rate, keras.Variable)
        # Read before it is restored, so that a second failure lowers it again.
        rate = optimizer.learning_rate.numpy() if is_number else None
        for variable, value in zip(self._variables(), self._kept, strict=True):
            variable.assign(value)
        if is_number:
            optimizer.learning_rate = self.factor * float(rate)
            return f"weights restored, learning rate {rate:.3g} -> {self.factor * rate:.3g}"
        optimizer.learning_rate = _Scaled(optimizer._learning_rate, self.factor)
        self.model.make_train_function(force=True)  # the schedule is part of the compiled step
        return f"weights restored, learning rate schedule times {self.factor}"

    def _variables(self):
        """What is restored: weights and the optimizer's state, but neither its count of steps nor a loss scale.

        The count numbers the epochs of `tff.datasets.shuffled`, so that another order follows; and a scale that has
        overflowed would overflow again.
        """
        optimizer = inner(self.model.optimizer)
        kept = [variable for variable in optimizer.variables if variable is not optimizer._iterations]
        return [*self.model.weights, *kept]


@keras.saving.register_keras_serializable("tfp_flows")
class _Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a factor."""

    def __init__(self, schedule, factor):
        self.schedule, self.factor = schedule, factor

    def __call__(self, step):
        return self.factor * self.schedule(step)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "factor": self.factor}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["factor"])


def _event_size(model):
    return sum(shape.num_elements() or 1 for shape in tf.nest.flatten(model.data_spec.event_shape))
