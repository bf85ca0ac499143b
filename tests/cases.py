"""One table of constructors, awkward ones on purpose; tests/test_every_bijector.py runs every check over every line.

A line is a name and a `Case`: a constructor that takes `dtype` and `seed`, and what is special about it, with reasons.
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
    # Why the gradient at events of 1e30 is too large for float32; it is not asked for then, the values are.
    why_overflow: str = ""
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


def embedding(dtype):
    """Any Keras network from a context of size 4 to one of size 2."""
    dense = keras.layers.Dense(2, "tanh", dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(3))
    return keras.Sequential([keras.Input((4,), dtype=dtype), dense])


def own_chain(dtype, seed):
    """Ours between TFP's own, nested and inverted."""
    return tfb.Chain(
        [
            bijectors.RealNVP(3, dtype=dtype, seed=seed, name="first"),
            tfb.Permute([2, 0, 1]),
            tfb.Chain(
                [tfb.Shift(tf.Variable(tf.ones([3], dtype))), tfb.Invert(bijectors.NICE(3, dtype=dtype, seed=1))]
            ),
        ]
    )


def stack_of_turns(dtype, seed):
    """Turns of several layers, some with a context and some without, that differ in their permutations and orders."""
    shared = {"context_size": 2, "hidden_units": (8,), "dtype": dtype}
    return bijectors.Stack(
        [
            [
                bijectors.RealNVP(4, seed=seed + k, **shared),
                bijectors.Permutation(4, seed=seed + k, dtype=dtype),
                bijectors.MAF(4, input_order=order, seed=seed + k, **shared),
            ]
            for k, order in enumerate(("left-to-right", "right-to-left"))
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
    "MAF, context": Case(lambda dtype, seed: bijectors.MAF(5, context_size=2, dtype=dtype, seed=seed), 5, 2),
    "MAF, one coordinate": Case(
        lambda dtype, seed: bijectors.MAF(1, dtype=dtype, seed=seed),
        1,
        no_gradient=("kernel_0",),
        why_no_gradient="No unit may see the only coordinate.",
    ),
    "MAF, one coordinate and a context": Case(
        lambda dtype, seed: bijectors.MAF(1, context_size=3, context_mode="gated", dtype=dtype, seed=seed),
        1,
        3,
        no_gradient=("kernel_0",),
        why_no_gradient="No unit may see the only coordinate.",
    ),
    "IAF, gated residual": Case(
        lambda dtype, seed: bijectors.IAF(
            4,
            input_order=[2, 0, 3, 1],
            residual=True,
            context_mode="gated",
            context_size=2,
            hidden_units=(8,),
            activation="tanh",
            dtype=dtype,
            seed=seed,
        ),
        4,
        2,
    ),
    "NeuralSplineAutoregressive": Case(
        lambda dtype, seed: bijectors.NeuralSplineAutoregressive(
            3, num_bins=4, input_order="right-to-left", hidden_units=(8, 8), dtype=dtype, seed=seed
        ),
        3,
    ),
    "MaskedAutoregressive, drawn masks": Case(
        lambda dtype, seed: bijectors.MaskedAutoregressive(
            9,
            transformers.Additive(),
            input_order="random",
            hidden_degrees="random",
            num_masks=2,
            hidden_units=(16, 11),
            dtype=dtype,
            seed=seed,
        ),
        9,
    ),
    "NeuralSplineCoupling": Case(
        lambda dtype, seed: bijectors.NeuralSplineCoupling(5, num_bins=4, hidden_units=(8,), dtype=dtype, seed=seed), 5
    ),
    "NeuralSplineCoupling, unconditional half, linear tails, context": Case(
        lambda dtype, seed: bijectors.NeuralSplineCoupling(
            3, unconditional=True, tails="linear", context_size=2, hidden_units=(8,), dtype=dtype, seed=seed
        ),
        3,
        2,
        why_overflow="in linear tails x multiplies the slope's gradient, 1000 at most, and enters the network too",
    ),
    "ActNorm": Case(lambda dtype, seed: bijectors.ActNorm(3, dtype=dtype), 3),
    "ActNorm, one coordinate": Case(lambda dtype, seed: bijectors.ActNorm(1, dtype=dtype), 1),
    "Standardize": Case(lambda dtype, seed: bijectors.Standardize(3, dtype=dtype), 3),
    "Elementwise": Case(lambda dtype, seed: bijectors.Elementwise(3, transformers.Affine(), dtype=dtype), 3),
    "DiagonalAffine, context": Case(
        lambda dtype, seed: bijectors.DiagonalAffine(3, context_size=2, dtype=dtype, seed=seed), 3, 2
    ),
    "LULinear": Case(lambda dtype, seed: bijectors.LULinear(4, dtype=dtype, seed=seed), 4),
    "LULinear, one coordinate": Case(lambda dtype, seed: bijectors.LULinear(1, dtype=dtype, seed=seed), 1),
    "LULinear, permutation and context": Case(
        lambda dtype, seed: bijectors.LULinear(3, permute=True, context_size=2, dtype=dtype, seed=seed),
        3,
        2,
        starts_as_identity=False,
    ),
    "TriangularAffine": Case(lambda dtype, seed: bijectors.TriangularAffine(4, dtype=dtype, seed=seed), 4),
    "TriangularAffine, context": Case(
        lambda dtype, seed: bijectors.TriangularAffine(3, context_size=2, dtype=dtype, seed=seed), 3, 2
    ),
    "Householder": Case(lambda dtype, seed: bijectors.Householder(5, dtype=dtype, seed=seed), 5),
    "Householder, odd number": Case(
        lambda dtype, seed: bijectors.Householder(2, num_reflections=3, dtype=dtype, seed=seed),
        2,
        starts_as_identity=False,
    ),
    "Householder, context": Case(
        lambda dtype, seed: bijectors.Householder(3, context_size=2, dtype=dtype, seed=seed), 3, 2
    ),
    "Planar": Case(lambda dtype, seed: bijectors.Planar(3, dtype=dtype, seed=seed), 3),
    "Planar, softplus": Case(lambda dtype, seed: bijectors.Planar(1, "softplus", dtype=dtype, seed=seed), 1),
    "Planar, leaky ReLU": Case(lambda dtype, seed: bijectors.Planar(3, "leaky_relu", dtype=dtype, seed=seed), 3),
    "Planar, context": Case(lambda dtype, seed: bijectors.Planar(2, context_size=2, dtype=dtype, seed=seed), 2, 2),
    "Radial": Case(lambda dtype, seed: bijectors.Radial(3, dtype=dtype, seed=seed), 3),
    "Radial, one coordinate": Case(lambda dtype, seed: bijectors.Radial(1, dtype=dtype, seed=seed), 1),
    "Radial, context": Case(lambda dtype, seed: bijectors.Radial(3, context_size=2, dtype=dtype, seed=seed), 3, 2),
    "Sylvester": Case(lambda dtype, seed: bijectors.Sylvester(4, num_units=3, dtype=dtype, seed=seed), 4),
    "Sylvester, one unit": Case(lambda dtype, seed: bijectors.Sylvester(3, 1, "softplus", dtype=dtype, seed=seed), 3),
    "Sylvester, context": Case(
        lambda dtype, seed: bijectors.Sylvester(3, 2, context_size=2, dtype=dtype, seed=seed), 3, 2
    ),
    "Permutation": Case(
        lambda dtype, seed: bijectors.Permutation(4, dtype=dtype, seed=seed), 4, starts_as_identity=False
    ),
    "Stack": Case(
        lambda dtype, seed: bijectors.Stack([bijectors.Planar(3, dtype=dtype, seed=seed + k) for k in range(3)]), 3
    ),
    "Stack of couplings, permutations and orders, context": Case(stack_of_turns, 4, 2, starts_as_identity=False),
    "LogisticMixture, inverted": Case(
        lambda dtype, seed: tfb.Invert(
            bijectors.Elementwise(2, transformers.LogisticMixture(), dtype=dtype, seed=seed)
        ),
        2,
        starts_as_identity=False,
    ),
    "Gaussianization": Case(
        lambda dtype, seed: bijectors.Gaussianization(3, num_components=5, dtype=dtype, seed=seed),
        3,
        starts_as_identity=False,
    ),
    "Gaussianization, context": Case(
        lambda dtype, seed: bijectors.Gaussianization(2, 3, 1, context_size=2, dtype=dtype, seed=seed),
        2,
        2,
        starts_as_identity=False,
        room=10.0,
        why_room="a distribution function between two distant components is flat, and its inverse steep",
    ),
    "Embedded": Case(
        lambda dtype, seed: bijectors.Embedded(
            tfb.Chain(
                [
                    bijectors.RealNVP(3, context_size=2, hidden_units=(8,), dtype=dtype, seed=seed, name="first"),
                    tfb.Permute([2, 0, 1]),
                    tfb.Invert(bijectors.MAF(3, context_size=2, hidden_units=(8,), dtype=dtype, seed=seed)),
                ]
            ),
            embedding(dtype),
        ),
        3,
        4,
        starts_as_identity=False,
    ),
    "Chain of ours and TFP's": Case(own_chain, 3, starts_as_identity=False),
}


@functools.cache
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
