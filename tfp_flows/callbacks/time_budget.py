"""Training for a time instead of a number of epochs."""

import math
import time
from collections.abc import Callable

import keras


class TimeBudget(keras.callbacks.Callback):
    """Ends the training after a time, over which the learning rate falls to 0 by half a cosine.

    At the start of every epoch the rate is η₀ (1 + cos(π t / T)) / 2, with the optimizer's rate η₀ at the start and the
    time t since the end of the first call of the compiled step, so that compiling it does not count; after the epoch in
    which t exceeds T = `seconds` the training ends. So epochs should be short: give `fit` many `epochs`, and
    `steps_per_epoch` where the data are large.

    Arguments:
      seconds: T.
      clock: a function that gives the time in seconds; `time.process_time` counts the processor's alone, which other
        work on the machine does not change.

    Raises: ValueError where `seconds` is not positive.

    Example:

    >>> import tfp_flows as tff
    >>> model = tff.FlowModel(tff.flows.realnvp(2, num_layers=1, seed=0))
    >>> budget = tff.callbacks.TimeBudget(seconds=0.1)
    >>> history = model.fit(tff.datasets.two_moons(256, seed=0), epochs=10_000, verbose=0, callbacks=[budget])
    >>> len(history.epoch) < 10_000
    True
    """

    acts_on_executions = (
        True  # it looks at the clock where a call of the compiled step ends, however many batches it had
    )

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        if not seconds > 0:
            raise ValueError(f"Expected a positive time. Received: seconds={seconds!r}")
        self.seconds, self.clock = seconds, clock

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.start = None
        self.learning_rate = float(self.model.optimizer.learning_rate)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        passed = min(self._passed() / self.seconds, 1.0)
        self.model.optimizer.learning_rate = self.learning_rate * (1 + math.cos(math.pi * passed)) / 2

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.start is None:
            self.start = self.clock()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._passed() > self.seconds:
            self.model.stop_training = True

    def _passed(self):
        return 0.0 if self.start is None else self.clock() - self.start
