"""One table of constructors, awkward ones on purpose; tests/test_every_bijector.py runs every check over every line.

A line is a name and a `Case`: a constructor that takes `dtype` and `seed`, and what is special about it, with the reason.
"""

import dataclasses
import functools
import random
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

import tfp_flows as tff
from tfp_flows import bijectors, transformers


@dataclasses.dataclass(frozen=True)
class Case:
    make: Callable  # (dtype, seed) -> bijector
    event_size: int
    context_size: int = 0
    starts_as_identity: bool = True
    # Room beyond the contract's 1e-5 (float32) and 1e-10 (float64): a factor, and why it is needed.
    room: float = 1.0
    why_room: str = ""
    # The size of the random numbers added to the weights before the checks.
    perturbation: float = 0.3
    # Variables whose gradient is zero by construction, by name, and why.
    no_gradient: tuple = ()
    why_no_gradient: str = ""

    def __post_init__(self):
        if (self.room != 1.0) != bool(self.why_room) or bool(self.no_gradient) != bool(self.why_no_gradient):
            raise ValueError("Expected a reason beside every exception.")


def own_conditioner(dtype):
    """A conditioner of the user's own, of plain Keras layers."""
    return keras.Sequential(
        [
            keras.Input((3,), dtype=dtype),
            keras.layers.Dense(16, "tanh", dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Dense(4, dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )


def own_chain(dtype, seed):
    """Ours between TFP's own, nested and inverted."""
    return tfb.Chain(
        [
            bijectors.RealNVP(3, dtype=dtype, seed=seed, name="first"),
            tfb.Permute([2, 0, 1]),
            tfb.Chain([tfb.Shift(tf.Variable(tf.ones([3], dtype))), tfb.Invert(bijectors.NICE(3, dtype=dtype, seed=1))]),
        ]
    )


CASES = {
    "NICE, odd size": Case(lambda dtype, seed: bijectors.NICE(5, dtype=dtype, seed=seed), 5),
    "NICE, context": Case(lambda dtype, seed: bijectors.NICE(3, context_size=2, dtype=dtype, seed=seed), 3, 2),
    "RealNVP, smallest": Case(lambda dtype, seed: bijectors.RealNVP(2, dtype=dtype, seed=seed), 2),
    "RealNVP, alternate": Case(
        lambda dtype, seed: bijectors.RealNVP(5, mask="alternate", hidden_units=(8,), dtype=dtype, seed=seed), 5
    ),
    "RealNVP, any mask": Case(
        lambda dtype, seed: bijectors.RealNVP(
            5, mask=[False, True, True, False, True], activation="tanh", dtype=dtype, seed=seed
        ),
        5,
    ),
    "RealNVP, one transformed": Case(
        lambda dtype, seed: bijectors.RealNVP(4, mask=[True, True, False, True], dtype=dtype, seed=seed), 4
    ),
    "RealNVP, context": Case(
        lambda dtype, seed: bijectors.RealNVP(3, context_size=4, log_scale_bound=1.0, dtype=dtype, seed=seed), 3, 4
    ),
    "Coupling, residual": Case(
        lambda dtype, seed: bijectors.Coupling(
            4,
            transformers.Affine(),
            conditioner=tff.conditioners.ResidualMLP(2, 4, (8, 8), context_size=1, dtype=dtype, seed=seed),
            context_size=1,
            dtype=dtype,
            seed=seed,
        ),
        4,
        1,
    ),
    "Coupling, own conditioner": Case(
        lambda dtype, seed: bijectors.Coupling(
            4, transformers.Affine(), conditioner=own_conditioner(dtype), context_size=1, dtype=dtype, seed=seed
        ),
        4,
        1,
        starts_as_identity=False,
    ),
    "ActNorm": Case(lambda dtype, seed: bijectors.ActNorm(3, dtype=dtype), 3),
    "ActNorm, one coordinate": Case(lambda dtype, seed: bijectors.ActNorm(1, dtype=dtype), 1),
    "Standardize": Case(lambda dtype, seed: bijectors.Standardize(3, dtype=dtype), 3),
    "Chain of ours and TFP's": Case(own_chain, 3, starts_as_identity=False),
}


@functools.lru_cache(maxsize=None)
def built(name, dtype):
    """The case's bijector with its weights moved away from their start, the same for every check."""
    case = CASES[name]
    random.seed(0)
    bijector = case.make(dtype=dtype, seed=7)
    generator = np.random.default_rng(0)
    for variable in bijector.trainable_variables:
        variable.assign_add(case.perturbation * generator.normal(size=variable.shape).astype(dtype))
    return bijector


def events(case, dtype, shape=(4,), seed=1):
    """Normal events of batch shape `shape`, and a context of the same batch shape or None."""
    generator = np.random.default_rng(seed)
    x = tf.constant(generator.normal(size=(*shape, case.event_size)), dtype)
    context = tf.constant(generator.normal(size=(*shape, case.context_size)), dtype) if case.context_size else None
    return x, context
