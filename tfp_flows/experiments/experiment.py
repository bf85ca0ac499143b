"""An experiment of a paper: its flow, its training, and the figure that it reports."""

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType

import keras
import numpy as np
from tensorflow_probability import distributions as tfd

from tfp_flows._arguments import check_one_of, check_positive_integers
from tfp_flows.model import FlowModel


class Figure(typing.NamedTuple):
    """A test figure and its error, None where none is known: see `Experiment.evaluate` for what it is."""

    value: float
    error: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.error is None else f"{self.value:.2f} ± {self.error:.2f}"


@dataclasses.dataclass(frozen=True)
class Training:
    """How a paper trains.

    Arguments:
      batch_size: rows per step.
      learning_rate: η₀.
      schedule: "constant"; "cosine", η₀ (1 + cos(π t / T)) / 2 after t of T steps; "warm-up", a linear rise to η₀ in
        the first `warm_up_steps`; or "plateau", a tenth of the rate whenever a third of `patience` has passed.
      num_steps: T; None to train until the patience ends.
      validation_steps: steps between two evaluations of the validation data; None for an epoch.
      patience: evaluations without improvement after which training stops; None for no early stopping. The weights
        that are kept are those of the best evaluation in either case.
      optimizer: "adam" or "adamax".
      clip_norm: the norm of the whole gradient is at most this; None for any.
      weight_decay: λ; every step takes η λ w from a weight w. None for none.
      warm_up_steps: see `schedule`.
      beta_2: the decay of the optimizer's second moment.

    Raises: ValueError for an unknown schedule or optimizer, and where neither `num_steps` nor `patience` ends it.

    Example:

    >>> from tfp_flows.experiments import Training
    >>> Training(512, 5e-4, "cosine", num_steps=400_000).batch_size
    512
    """

    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    num_steps: int | None = None
    validation_steps: int | None = None
    patience: int | None = None
    optimizer: str = "adam"
    clip_norm: float | None = None
    weight_decay: float | None = None
    warm_up_steps: int = 0
    beta_2: float = 0.999

    def __post_init__(self):
        check_positive_integers(batch_size=self.batch_size)
        check_one_of(("constant", "cosine", "warm-up", "plateau"), schedule=self.schedule)
        check_one_of(("adam", "adamax"), optimizer=self.optimizer)
        if self.num_steps is None and (self.patience is None or self.schedule == "cosine"):
            raise ValueError(
                f"Expected `num_steps`, or a `patience` and no cosine, to end the training. Received: {self}"
            )

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer, with its learning rate or schedule."""
        rate = self.learning_rate
        if self.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, self.num_steps)
        elif self.schedule == "warm-up":
            rate = keras.optimizers.schedules.PolynomialDecay(0.0, self.warm_up_steps, rate)
        kind = {"adam": keras.optimizers.Adam, "adamax": keras.optimizers.Adamax}[self.optimizer]
        return kind(rate, beta_2=self.beta_2, global_clipnorm=self.clip_norm, weight_decay=self.weight_decay)

    def make_callbacks(self) -> list[keras.callbacks.Callback]:
        """What keeps the best weights, stops early, and lowers the rate on a plateau."""
        patience = 10**9 if self.patience is None else self.patience
        callbacks = [keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)]
        if self.schedule == "plateau":
            callbacks.append(keras.callbacks.ReduceLROnPlateau(patience=max(1, patience // 3), factor=0.1))
        return callbacks


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment of a paper: what is fitted, how, to which data, and the figure that the paper reports.

    The figure, of test data x of D coordinates, is the mean of log p(x) in nats, which is better the greater it is; for
    images it is the mean of -log₂ P(x) / D, bits per dimension, which is better the smaller it is.

    Attributes:
      name: "method/data".
      paper: authors, arXiv number, and the table of the figure.
      unit: "nats" or "bits per dimension".
      reported: the paper's `Figure`.
      event_shape: `[D]`, or `[H, W, C]`.
      num_rows: of the paper's training, validation and test data; None where they are not known.
      data: what `fit` expects.
      is_standardized: whether the columns of the training data have mean 0 and variance 1, which `fit` then checks.
      settings: of the flow; `flow`, `model` and `fit` take others in their place as keywords.
      training: a `Training`.
      differences: what is done in another way than in the paper.
      make: (event_shape, seed, **settings) -> a `tfd.Distribution`.
      exact: of a distribution whose densities are estimates, the same one with exact densities; None for the same.

    Example: a small flow, four steps, and data of no meaning.

    >>> import numpy as np, tfp_flows as tff
    >>> experiment = tff.experiments["maf/power"]
    >>> print(experiment.reported, experiment.unit, "-", experiment.paper)
    0.14 ± 0.01 nats - Papamakarios et al. 2017, arXiv 1705.07057, table 1: MAF (5)
    >>> dict(experiment.settings)
    {'num_layers': 5, 'hidden_units': (100, 100), 'activation': 'relu'}
    >>> x = np.random.default_rng(0).normal(size=(512, 6))
    >>> model = experiment.fit(x, num_steps=4, seed=0, num_layers=1, verbose=0)
    >>> type(experiment.evaluate(model, x)).__name__
    'Figure'
    """

    name: str
    paper: str
    unit: str
    reported: Figure
    event_shape: tuple[int, ...]
    num_rows: tuple[int, int, int] | None
    data: str
    is_standardized: bool
    settings: Mapping[str, object]
    training: Training
    differences: str
    make: Callable[..., tfd.Distribution] = dataclasses.field(repr=False)
    exact: Callable[[tfd.Distribution], tfd.Distribution] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        check_one_of(("nats", "bits per dimension"), unit=self.unit)
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.name}: {self.paper}",
                f"reported: {self.reported} {self.unit}",
                f"data: {self.data}",
                f"flow: {', '.join(f'{name}={value!r}' for name, value in self.settings.items())}",
                f"training: {_told(self.training)}",
                f"differences: {self.differences}",
            ]
        )

    def flow(self, seed: int | None = None, **changes) -> tfd.Distribution:
        """The paper's flow, untrained.

        Arguments:
          seed: an integer that fixes every weight; drawn if None.
          **changes: settings in place of the paper's, e.g. `num_layers=2` for a small one.

        Raises: ValueError for a setting that the experiment does not have.
        """
        unknown = sorted(set(changes) - set(self.settings))
        if unknown:
            raise ValueError(f"Expected settings among {list(self.settings)}. Received: {unknown}")
        return self.make(self.event_shape, seed, **{**self.settings, **changes})

    def model(self, num_steps: int | None = None, seed: int | None = None, **changes) -> FlowModel:
        """A `FlowModel` of the flow, compiled with the paper's optimizer.

        Arguments:
          num_steps: the steps over which a cosine falls, in place of the paper's.
          seed, **changes: see `flow`.
        """
        return self._compiled(self._training(num_steps), seed, changes)

    def fit(
        self,
        x,
        validation_data=None,
        *,
        num_steps: int | None = None,
        seed: int | None = None,
        callbacks=(),
        verbose="auto",
        **changes,
    ) -> FlowModel:
        """The trained model: the paper's flow, its optimizer, its schedule, its batches, its early stopping.

        Arguments:
          x: the training data, `[n, *event_shape]`, prepared as `data` says.
          validation_data: by which the best weights are chosen, of the shape of x; None to hold out a tenth of x.
          num_steps: a smaller budget than the paper's: training ends, and a cosine reaches 0, after as many steps.
          seed: of the initial weights.
          callbacks: more callbacks.
          verbose: as in `keras.Model.fit`.
          **changes: settings in place of the paper's.

        Returns: a `FlowModel` with the best weights; `history` is an attribute of it, as of every Keras model.

        Raises: ValueError for other columns than the paper's, fewer than 10 rows, data that should be standardized and
          are not, and a setting that the experiment does not have.
        """
        x = self._checked(x, "x")
        if self.is_standardized:
            _check_standardized(x)
        if validation_data is None:
            held_out = {"validation_split": 0.1}
            if len(x) < 10:
                raise ValueError(f"Expected at least 10 rows, to hold out a tenth of them. Received: {len(x)} rows")
            rows = len(x) - len(x) // 10
        else:
            held_out = {"validation_data": self._checked(validation_data, "validation_data")}
            rows = len(x)
        training = self._training(num_steps)
        epoch = math.ceil(rows / training.batch_size)
        steps, epochs = training.validation_steps or epoch, 10**9
        if training.num_steps is not None:
            steps = min(steps, training.num_steps)
            epochs = math.ceil(training.num_steps / steps)
            steps = math.ceil(training.num_steps / epochs)
        model = self._compiled(training, seed, changes)
        model.fit(
            x,
            batch_size=training.batch_size,
            epochs=epochs,
            steps_per_epoch=None if steps == epoch else steps,
            callbacks=[*training.make_callbacks(), *callbacks],
            verbose=verbose,
            **held_out,
        )
        return model

    def evaluate(self, model: FlowModel, x, batch_size: int = 1024) -> Figure:
        """The figure of test data, in the unit of the paper, with two standard errors of the mean over the rows.

        Arguments:
          model: what `fit` returns.
          x: the test data, `[n, *event_shape]`, prepared as the training data.
          batch_size: rows that are evaluated at once.

        Raises: ValueError for other columns than the paper's.
        """
        x = self._checked(x, "x")
        if self.exact is not None:
            model = FlowModel(self.exact(model.distribution))
        log_prob = np.concatenate(
            [model.log_prob(x[start : start + batch_size]).numpy() for start in range(0, len(x), batch_size)]
        ).astype(np.float64)
        if self.unit == "bits per dimension":
            log_prob = -log_prob / (math.prod(self.event_shape) * math.log(2))
        return Figure(float(log_prob.mean()), float(2 * log_prob.std() / math.sqrt(len(log_prob))))

    def _compiled(self, training, seed, changes):
        model = FlowModel(self.flow(seed, **changes))
        model.compile(training.make_optimizer())
        return model

    def _training(self, num_steps):
        if num_steps is None:
            return self.training
        check_positive_integers(num_steps=num_steps)
        return dataclasses.replace(self.training, num_steps=num_steps)

    def _checked(self, x, name):
        x = np.asarray(x)
        if x.shape[1:] != tuple(self.event_shape) or not len(x):
            shape = ", ".join(map(str, self.event_shape))
            raise ValueError(f"Expected `{name}` of shape [n, {shape}] for {self.name!r}. Received: shape {x.shape}")
        return x


def _check_standardized(x):
    """Raises ValueError for a column whose mean and standard deviation are far from 0 and 1."""
    mean, deviation = x.mean(0), x.std(0)
    wrong = np.flatnonzero(~((np.abs(mean) < 0.5) & (deviation > 0.5) & (deviation < 2)))
    if wrong.size:
        k = wrong[0]
        raise ValueError(
            "Expected columns of mean 0 and standard deviation 1, since the paper's figure is of such: "
            f"(x - x.mean(0)) / x.std(0), test data with the numbers of the training data. "
            f"Received: column {k} with mean {mean[k]:.3g} and standard deviation {deviation[k]:.3g}"
        )


def _told(training):
    """The fields of a training that are not at their defaults."""
    fields = dataclasses.fields(training)
    return ", ".join(
        f"{field.name}={getattr(training, field.name)!r}"
        for field in fields
        if getattr(training, field.name) != field.default
    )
