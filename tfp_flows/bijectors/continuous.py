"""Continuous flows: points carried along by a velocity field, which a network gives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows._arguments import check_one_of, check_positive_integers
from tfp_flows._math import ode, random
from tfp_flows._types import Activation
from tfp_flows.bijectors.bijector import Bijector
from tfp_flows.conditioners.velocity import Velocity
from tfp_flows.context.joining import call_conditioner, concatenate

# Up to so many coordinates the exact trace by automatic differentiation is at most about five times an estimate's time.
EXACT_UP_TO = 16


class Continuous(Bijector):
    """A continuous flow: a neural ordinary differential equation from the base, at time 0, to the data, at time 1.

    Forward: dz/dt = v(z, t, c) from t = 0 to 1, z(0) = z, x = z(1); log|det ∂x/∂z| = ∫₀¹ ∇·v(z(t), t, c) dt.
    Inverse: the same equation from z(1) = x back to z(0); log|det ∂z/∂x| = -∫₀¹ ∇·v dt.
    Both directions cost the same: six evaluations of v for every step of the solver, a few steps for a new flow and
    twenty or so for a trained one. Forward takes the log-determinant only when it is asked for.

    The solver chooses its steps, for all rows of a batch together, so that no row's estimated error in a step is above
    the tolerance. A row's density then depends on its neighbours, to the tolerance; with step_size="row" it does not at
    all, at about twice the time. The gradient is exact for the steps that were taken. Densities have second
    derivatives: with relu in the network they are not those of a smooth function.

    The divergence of the default network has a closed form. That of any other layer is exact, by D derivatives, up to
    16 coordinates. Above, it is estimated (Hutchinson): eᵀ (∂v/∂z) e, with entries of e of mean 0 and variance 1. In
    training, as Keras knows it, each row has a new e in each call, so that the gradient has no bias; otherwise one e,
    which the seed fixes, serves every row, and log-densities are estimates that come out the same every time.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      velocity: v, any Keras layer from z and t, and c, concatenated, `[n, D + 1 (+ C)]`, to `[n, D]`. If its `call` has
        an argument `context` it gets the context there. None makes a `tff.conditioners.Velocity` of `hidden_units` and
        `activation`.
      trace: "exact", "hutchinson" or "auto".
      solver: "dormand_prince", which chooses its steps, or "euler", "midpoint" or "rk4" in `num_steps` equal ones: a
        flow trained by flow matching gives fair samples in ten or so. The two directions are then inverse to each other
        only up to the error of the solver.
      num_steps: the number of steps of a solver that does not choose them.
      rtol, atol: the tolerance, rtol |z| + atol in each step.
      max_steps: the maximum number of steps of the solver that chooses them.
      step_size: "batch", the same for all rows, or "row", one for each.
      noise: the distribution of e, "rademacher" or "normal".
      hidden_units, activation: of the default network. It should be smooth, for the solver's steps to be long.
      context_size, dtype, seed, validate_args, name: see `Bijector`. The network computes in this dtype under every
        policy of Keras's: rounding to bfloat16 would look like an error to the solver.

    Raises: ValueError for bad options and for a velocity whose output has the wrong size. On calls,
      InvalidArgumentError where `max_steps` do not suffice, with the time and the step size; under XLA, which knows no
      assertions, the results are NaN.

    Source: Chen et al. 2018, arXiv 1806.07366, equation 8; Grathwohl et al. 2019, arXiv 1810.01367, equation 7.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> flow = tff.bijectors.Continuous(3, context_size=2, seed=0)
    >>> flow.forward(tf.ones([3]), context=tf.zeros([2])).numpy().tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        event_size: int,
        velocity: keras.layers.Layer | None = None,
        trace: str = "auto",
        *,
        solver: str = "dormand_prince",
        num_steps: int = 10,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 256,
        step_size: str = "batch",
        noise: str = "rademacher",
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "silu",
        **shared: Any,
    ) -> None:
        super().__init__(event_size, **shared)
        check_one_of(("auto", "exact", "hutchinson"), trace=trace)
        check_one_of(tuple(ode.METHODS), solver=solver)
        check_one_of(("batch", "row"), step_size=step_size)
        check_one_of(("rademacher", "normal"), noise=noise)
        check_positive_integers(num_steps=num_steps, max_steps=max_steps)
        for option, value in (("rtol", rtol), ("atol", atol)):
            if not value > 0:
                raise ValueError(f"Expected `{option}` to be positive. Received: {option}={value!r}")
        adaptive = ode.METHODS[solver].error is not None
        self._options = {
            "method": solver,
            "rtol": rtol,
            "atol": atol,
            "max_steps": max_steps if adaptive else num_steps,
            "per_row": adaptive and step_size == "row",
        }
        if velocity is None:
            velocity = Velocity(
                self.event_size,
                hidden_units,
                activation,
                context_size=self.context_size,
                seed=self.seed,
                dtype=self.dtype.name,
            )
        self._field = velocity if isinstance(velocity, Velocity) else _Field(self, velocity)
        self.velocity = velocity
        if trace == "auto":
            exact = self.event_size <= EXACT_UP_TO or self._field.has_closed_divergence
            trace = "exact" if exact else "hutchinson"
        self.noise = _Noise(self.event_size, noise, self.seed, dtype=self.dtype.name) if trace == "hutchinson" else None
        self._costs = None
        self._solvers = self._no_dependency({})

    def with_solver(self, **options: Any) -> Continuous:
        """The same flow, with the same weights, solved in another way.

        Arguments: `solver`, `num_steps`, `rtol`, `atol`, `max_steps`, `step_size` and `trace`, as the class has them.
        """
        return type(self)(**{**self.parameters, "velocity": self.velocity, **options})

    def velocity_at(self, z: tf.Tensor, time: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """v(z, t, c): z `[n, D]`, time `[n, 1]` or `[1, 1]`, context `[n, C]`, v `[n, D]`. Flow matching trains it."""
        return self._field.value(z, time, self._field.constants(context))

    @contextlib.contextmanager
    def recorded_costs(self, seed: tf.Tensor) -> Iterator[list[tuple[tf.Tensor, tf.Tensor]]]:
        """Within it every solution notes what it cost, in the list this gives: (∫ |v|² dt, ∫ |eᵀ ∂v/∂z|² dt), `[...]`.

        Of the second, the mean over normal e, from the seed `[2]`, is that of the squared Frobenius norm of ∂v/∂z.
        """
        self._costs = self._no_dependency((seed, []))
        try:
            yield self._costs[1]
        finally:
            self._costs = None

    # Without the log-determinant: sampling has no use for it, and whoever has asks for it.
    def _cached_forward(self, z, context=None):
        z, context = self._checked(z, context, 1)
        return self._solve(z, context, 0.0, 1.0, with_log_det=False)[0], {}

    def _forward_and_log_det(self, z, context):
        return self._solve(z, context, 0.0, 1.0)

    def _inverse_and_log_det(self, x, context):
        return self._solve(x, context, 1.0, 0.0)

    def _solve(self, event, context, begin, end, with_log_det=True):
        """The event carried from one time to the other, and the log-determinant of that."""
        size, shape = self.event_size, tf.shape(event)
        z = tf.reshape(event, [-1, size])
        if context is not None:
            if context.shape.rank > 1:
                context = tf.broadcast_to(context, tf.concat([shape[:-1], [self.context_size]], 0))
            context = tf.reshape(context, [-1, self.context_size])
        rows = tf.shape(z)[0]
        if not z.shape[0]:  # loops and Jacobians of an empty batch have nothing to go by: a row of zeros is solved for
            room = [[0, tf.where(rows == 0, 1, 0)], [0, 0]]
            z = tf.pad(z, room)
            context = context if context is None or context.shape.rank == 1 else tf.pad(context, room)
        e = {}
        if self._costs is not None:
            e["of costs"] = random.normal(tf.shape(z), self._costs[0], dtype=self.dtype)
        if self.noise is not None and (with_log_det or e):
            e["of trace"] = self.noise(z)
        with_divergence = bool(with_log_det or e)
        state = tf.pad(z, [[0, 0], [0, with_divergence + 2 * ("of costs" in e)]])
        given = (self._field.constants(context), e)
        state = self._solver(begin, end, with_divergence, given)(state, tf.nest.flatten(given))
        state = state[:rows]
        if "of costs" in e:
            self._costs[1].append(tuple(tf.reshape(state[:, k], shape[:-1]) for k in (size + 1, size + 2)))
        z = tf.ensure_shape(tf.reshape(state[:, :size], shape), event.shape)
        return z, tf.reshape(state[:, size], shape[:-1]) if with_log_det else None

    def _solver(self, begin, end, with_divergence, given):
        """The solver of (z, log-determinant, costs); one for each structure of constants and noise."""
        key = (begin, with_divergence, len(given[0]), *given[1])
        if key not in self._solvers:
            direction = 1.0 if end > begin else -1.0
            structure = tf.nest.map_structure(lambda _: 0, given)

            def rates(time, state, given):
                constants, e = tf.nest.pack_sequence_as(structure, given)
                return self._rates(time, state, constants, e, with_divergence, direction)

            self._solvers[key] = ode.Solver(rates, begin, end, **self._options)
        return self._solvers[key]

    def _rates(self, time, state, constants, e, with_divergence, direction):
        """d/dt of z, of the log-determinant, and of the costs, which grow in either direction."""
        z = state[:, : self.event_size]
        if not with_divergence:
            return self._field.value(z, time, constants)
        if "of trace" in e:
            v, product = self._product(z, time, constants, e["of trace"])
            divergence = tf.reduce_sum(product * e["of trace"], -1)
        else:
            v, divergence = self._field.value_and_divergence(z, time, constants)
        rates = [v, divergence[:, tf.newaxis]]
        if "of costs" in e:
            _, product = self._product(z, time, constants, e["of costs"])
            rates += [direction * tf.reduce_sum(part**2, -1, keepdims=True) for part in (v, product)]
        return tf.concat(rates, -1)

    def _product(self, z, time, constants, e):
        """v and eᵀ ∂v/∂z."""
        with tf.GradientTape() as tape:
            tape.watch(z)
            v = self._field.value(z, time, constants)
        return v, tape.gradient(v, z, tf.broadcast_to(e, tf.shape(v)), unconnected_gradients="zero")


class _Field:
    """Any Keras layer as a velocity: the methods of `Velocity`, with its weights and the context for constants."""

    has_closed_divergence = False

    def __init__(self, bijector, layer):
        self.layer = layer
        size, context_size, dtype = bijector.event_size, bijector.context_size, bijector.dtype
        point = tf.zeros([1, size + 1], dtype)
        output = call_conditioner(layer, point, tf.zeros([1, context_size], dtype) if context_size else None)
        if output.shape != (1, size):
            raise ValueError(
                f"`{bijector.name}` expected a velocity that maps (1, {size} + 1), place and time"
                f"{f', and a context of size {context_size},' if context_size else ''} to (1, {size}). "
                f"Received: output shape {tuple(output.shape)}"
            )
        if output.dtype != dtype:
            raise ValueError(
                f'`{bijector.name}` expected a velocity of dtype {dtype.name} (build it with dtype="{dtype.name}"). '
                f"Received: output dtype {output.dtype.name}"
            )
        self.weights = layer.weights

    def constants(self, context):
        weights = [tf.convert_to_tensor(weight.value) for weight in self.weights]
        return weights if context is None else [*weights, context]

    def value(self, z, time, constants):
        count = len(self.weights)
        context = constants[count] if len(constants) > count else None
        # The weights as the solver has them, which differentiates by them.
        with keras.StatelessScope(zip(self.weights, constants[:count], strict=True)):
            return call_conditioner(self.layer, concatenate(z, time), context)

    def value_and_divergence(self, z, time, constants):
        with tf.GradientTape() as tape:
            tape.watch(z)
            v = self.value(z, time, constants)
        return v, tf.linalg.trace(tape.batch_jacobian(v, z, unconnected_gradients="zero"))


class _Noise(keras.layers.Layer):
    """Rows of random numbers of mean 0 and variance 1 in training, always the same row otherwise, as in Dropout."""

    def __init__(self, size, distribution, seed, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.distribution = distribution
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, z, training=False):
        if training:
            return self._draw((tf.shape(z)[0], self.size), tf.cast(self.seed_generator.next(), tf.int32))
        return self._draw((1, self.size), (self.seed, 0))

    def _draw(self, shape, seed):
        noise = random.normal(shape, seed, dtype=self.compute_dtype)
        return tf.sign(noise) if self.distribution == "rademacher" else noise
