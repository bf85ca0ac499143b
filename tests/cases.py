"""One table of constructors, awkward ones on purpose; tests/test_every_bijector.py runs every check over every line.

A line is a name and a `Case`: a constructor that takes `dtype` and `seed`, and what is special about it, with reasons.
"""

import dataclasses
import functools
import math
import random
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows import bijectors, transformers


@dataclasses.dataclass(frozen=True)
class Case:
    make: Callable  # (dtype, seed) -> bijector
    event_size: int | tuple  # of x, or its shape
    context_size: int | tuple = 0
    # The shape of z where it is another; as many numbers as x has.
    base_shape: tuple | None = None
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
    # Brings normal numbers to points that the bijector takes, where it does not take any.
    points: Callable = np.asarray
    # Whether they are unit vectors: Jacobians are then from tangent plane to tangent plane.
    unit_vectors: bool = False
    # Why no event is large, and where the extremes that there are are looked at.
    why_bounded: str = ""

    def __post_init__(self):
        if (self.room != 1.0) != bool(self.why_room) or bool(self.no_gradient) != bool(self.why_no_gradient):
            raise ValueError("Expected a reason beside every exception.")

    @property
    def event_shape(self):
        return _as_shape(self.event_size)

    @property
    def context_shape(self):
        return _as_shape(self.context_size)

    @property
    def num_coordinates(self):
        return math.prod(self.event_shape)

    def shape_for(self, method):
        """The shape of what one of TFP's methods takes: of z for the two that go forward, of x for the others."""
        return self.base_shape if self.base_shape and method.startswith("forward") else self.event_shape

    def given(self, x, method):
        """x in the shape of what the method takes."""
        batch = tf.shape(x)[: x.shape.rank - len(self.event_shape)]
        return tf.reshape(x, tf.concat([batch, self.shape_for(method)], 0)) if self.base_shape else x


def _as_shape(size):
    return (size,) if isinstance(size, int) else size


def own_conditioner(dtype):
    """A conditioner of the user's own, of plain Keras layers."""
    return keras.Sequential(
        [
            keras.Input((3,), dtype=dtype),
            keras.layers.Dense(16, "tanh", dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Dense(4, dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )


def own_velocity(dtype):
    """A velocity of two coordinates and the time, of plain Keras layers."""
    return keras.Sequential(
        [
            keras.Input((3,), dtype=dtype),
            keras.layers.Dense(4, "tanh", dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Dense(2, dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )


def prior(dtype):
    """Of an interval, a half line and the whole line."""
    zero, one = np.zeros([], dtype), np.ones([], dtype)
    return tfd.Blockwise([tfd.Uniform(-one, 3 * one), tfd.LogNormal(zero, one), tfd.Normal(zero, one)])


def tolerances(dtype):
    """Of a differential equation: what the dtype can have in a few steps."""
    return dict.fromkeys(("rtol", "atol"), 1e-5 if dtype == "float32" else 1e-9)


def embedding(dtype):
    """Any Keras network from a context of size 4 to one of size 2."""
    dense = keras.layers.Dense(2, "tanh", dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(3))
    return keras.Sequential([keras.Input((4,), dtype=dtype), dense])


def image_network(dtype):
    """A conditioner of images of the user's own, of plain Keras layers."""
    convolution = keras.layers.Conv2D(
        4, 3, padding="same", activation="tanh", dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(4)
    )
    return keras.Sequential([keras.Input((3, 2, 3), dtype=dtype), convolution])


def one_scale(image_shape, dtype, seed, **coupling):
    """A squeeze, an ActNorm, an invertible convolution and a coupling."""
    squeeze = bijectors.Squeeze(image_shape, dtype=dtype)
    shape = squeeze.base_shape
    return tfb.Chain(
        [
            squeeze,
            bijectors.ActNorm(shape, dtype=dtype),
            bijectors.InvertibleConvolution(shape, dtype=dtype, seed=seed),
            bijectors.ImageCoupling(
                shape, transformers.Affine(), "channel", hidden_channels=4, dtype=dtype, seed=seed, **coupling
            ),
        ]
    )


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


def angles(x):
    return 3 * np.tanh(x)


def unit_vectors(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def stack_of_turns(dtype, seed):
    """Turns of several layers, some with a context and some without, that differ in their permutations and orders."""
    # Four scales of exp(1) at most leave events of 1e15 a square that float32 holds.
    shared = {"context_size": 2, "hidden_units": (8,), "log_scale_bound": 1.0, "dtype": dtype}
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


def in_a_chart(dtype, seed):
    """A flow of the sphere as one of zenith and azimuth."""
    chart = bijectors.SphericalCoordinates(dtype=dtype)
    sphere = bijectors.SphereFlow(hidden_units=(8,), context_size=2, dtype=dtype, seed=seed)
    return tfb.Chain([tfb.Invert(chart), sphere, chart])


def blocks(dtype, seed):
    """A plane and an angle, given a point of it."""
    options = {"hidden_units": (8,), "dtype": dtype, "seed": seed}
    return bijectors.ConditionalBlocks(
        [
            bijectors.RealNVP(2, context_size=1, **options),
            bijectors.CircularAutoregressive(1, context_size=3, **options),
        ],
        "e2+c",
        context_size=1,
        dtype=dtype,
        seed=seed,
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
    "LinearRegression": Case(
        lambda dtype, seed: bijectors.LinearRegression(3, context_size=2, dtype=dtype, seed=seed), 3, 2
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
    "Residual": Case(
        lambda dtype, seed: bijectors.Residual(3, hidden_units=(16,), dtype=dtype, seed=seed),
        3,
        why_overflow="the steps of Newton that give the solved direction its gradient multiply numbers of 1e30",
    ),
    "Residual, one coordinate": Case(
        lambda dtype, seed: bijectors.Residual(1, lipschitz=0.9, hidden_units=(8, 8), dtype=dtype, seed=seed), 1
    ),
    "Residual, explicit forward, context": Case(
        lambda dtype, seed: bijectors.Residual(
            2, explicit="forward", log_det="roulette", context_size=2, hidden_units=(8, 8), dtype=dtype, seed=seed
        ),
        2,
        2,
        why_overflow="the steps of Newton that give the solved direction its gradient multiply numbers of 1e30",
    ),
    "Coupling, bumps, context": Case(
        lambda dtype, seed: bijectors.Coupling(
            3,
            transformers.Bump(num_components=4),
            context_size=2,
            hidden_units=(8,),
            activation="silu",
            dtype=dtype,
            seed=seed,
        ),
        3,
        2,
    ),
    "Bump, circle": Case(
        lambda dtype, seed: bijectors.Elementwise(
            2, transformers.Bump(num_components=5, circular=True), dtype=dtype, seed=seed
        ),
        2,
        starts_as_identity=False,  # but nearly: test_bump.py
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
        room=30.0,
        why_room="a distribution function between two distant components is flat, and its inverse steep",
    ),
    "Continuous, context": Case(
        lambda dtype, seed: bijectors.Continuous(
            3, hidden_units=(4, 4), context_size=2, dtype=dtype, seed=seed, **tolerances(dtype)
        ),
        3,
        2,
        room=100.0,
        why_room="the solver keeps errors to its tolerance, not to rounding",
        perturbation=0.1,
    ),
    "Continuous, own velocity, a step size for each row": Case(
        lambda dtype, seed: bijectors.Continuous(
            2, own_velocity(dtype), step_size="row", dtype=dtype, seed=seed, **tolerances(dtype)
        ),
        2,
        starts_as_identity=False,
        room=100.0,
        why_room="the solver keeps errors to its tolerance, not to rounding",
        perturbation=0.1,
    ),
    "CircularCoupling": Case(
        lambda dtype, seed: bijectors.CircularCoupling(3, num_bins=4, hidden_units=(8,), dtype=dtype, seed=seed),
        3,
        points=angles,
    ),
    "CircularAutoregressive, one angle": Case(
        lambda dtype, seed: bijectors.CircularAutoregressive(1, hidden_units=(8,), dtype=dtype, seed=seed),
        1,
        points=angles,
        no_gradient=("kernel", "bias_0"),
        why_no_gradient="No unit that counts may see the only angle.",
    ),
    "CircularAutoregressive, context": Case(
        lambda dtype, seed: bijectors.CircularAutoregressive(
            3, [2, 0, 1], num_bins=4, context_size=2, hidden_units=(16,), dtype=dtype, seed=seed
        ),
        3,
        2,
        points=angles,
    ),
    "SphereFlow": Case(
        lambda dtype, seed: bijectors.SphereFlow(hidden_units=(8,), dtype=dtype, seed=seed),
        3,
        points=unit_vectors,
        unit_vectors=True,
        why_bounded="tests/test_sphere.py looks at the poles",
    ),
    "SphereFlow, context": Case(
        lambda dtype, seed: bijectors.SphereFlow(4, 4.0, context_size=2, hidden_units=(8,), dtype=dtype, seed=seed),
        3,
        2,
        points=unit_vectors,
        unit_vectors=True,
        why_bounded="tests/test_sphere.py looks at the poles",
    ),
    "SphericalCoordinates": Case(in_a_chart, 2, 2, points=lambda x: np.array([1.5, 0.0]) + np.tanh(x)),
    "Simplex": Case(
        lambda dtype, seed: tfb.Chain(
            [tfb.Invert(bijectors.Simplex(2, dtype=dtype)), bijectors.Simplex(2, dtype=dtype)]
        ),
        2,
        why_bounded="shares are between 0 and 1; tests/test_product.py looks at these",
    ),
    "Support": Case(
        lambda dtype, seed: tfb.Chain([tfb.Invert(bijectors.Support(prior(dtype))), bijectors.Support(prior(dtype))]),
        3,
        why_bounded="a prior ends; tests/test_posterior.py looks at its ends",
    ),
    "ConditionalBlocks": Case(
        blocks,
        3,
        1,
        points=angles,
        no_gradient=("made/kernel_0",),
        why_no_gradient="In a block of one coordinate no unit may see it.",
    ),
    "StandardizedContext": Case(
        lambda dtype, seed: bijectors.StandardizedContext(
            bijectors.RealNVP(3, context_size=2, hidden_units=(8,), dtype=dtype, seed=seed)
        ),
        3,
        2,
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
    "ActNorm, image": Case(lambda dtype, seed: bijectors.ActNorm([3, 2, 2], dtype=dtype), (3, 2, 2)),
    "Squeeze": Case(
        lambda dtype, seed: bijectors.Squeeze([4, 2, 3], dtype=dtype),
        (4, 2, 3),
        base_shape=(2, 1, 12),
        starts_as_identity=False,
    ),
    "Squeeze, blocks of 3": Case(
        lambda dtype, seed: bijectors.Squeeze([3, 3, 1], 3, dtype=dtype),
        (3, 3, 1),
        base_shape=(1, 1, 9),
        starts_as_identity=False,
    ),
    "InvertibleConvolution": Case(
        lambda dtype, seed: bijectors.InvertibleConvolution([3, 2, 4], dtype=dtype, seed=seed),
        (3, 2, 4),
        starts_as_identity=False,
        perturbation=0.1,
    ),
    "InvertibleConvolution, one channel": Case(
        lambda dtype, seed: bijectors.InvertibleConvolution([1, 3, 1], dtype=dtype, seed=seed),
        (1, 3, 1),
        starts_as_identity=False,
    ),
    "ImageCoupling, checkerboard, odd sizes, one channel": Case(
        lambda dtype, seed: bijectors.ImageCoupling(
            [3, 5, 1], transformers.Affine(), hidden_channels=4, dtype=dtype, seed=seed
        ),
        (3, 5, 1),
        perturbation=0.1,
    ),
    "ImageCoupling, channels, odd number, context": Case(
        lambda dtype, seed: bijectors.ImageCoupling(
            [2, 3, 3], transformers.Affine(), "channel", hidden_channels=4, context_size=2, dtype=dtype, seed=seed
        ),
        (2, 3, 3),
        2,
        perturbation=0.1,
    ),
    "ImageCoupling, residual, weight normalization, context of twice the size": Case(
        lambda dtype, seed: bijectors.ImageCoupling(
            [2, 2, 2],
            transformers.Affine(),
            hidden_channels=4,
            residual=True,
            normalization="weight",
            context_shape=[4, 4, 1],
            dtype=dtype,
            seed=seed,
        ),
        (2, 2, 2),
        (4, 4, 1),
        perturbation=0.1,
    ),
    "ImageCoupling, splines, any mask, ActNorm inside": Case(
        lambda dtype, seed: bijectors.ImageCoupling(
            [2, 3, 2],
            transformers.RationalQuadratic(4),
            [[[True, False], [False, False], [True, True]], [[False, False], [True, False], [True, False]]],
            hidden_channels=4,
            normalization="act",
            dtype=dtype,
            seed=seed,
        ),
        (2, 3, 2),
        perturbation=0.1,
    ),
    "ImageCoupling, own conditioner, context": Case(
        lambda dtype, seed: bijectors.ImageCoupling(
            [3, 2, 4],
            transformers.Affine(),
            [True, False, False, True],
            conditioner=image_network(dtype),
            context_size=1,
            dtype=dtype,
            seed=seed,
        ),
        (3, 2, 4),
        1,
        starts_as_identity=False,
        perturbation=0.1,
    ),
    "MultiScale, context": Case(
        lambda dtype, seed: bijectors.MultiScale(
            [one_scale([4, 4, 1], dtype, seed, context_size=2), one_scale([2, 2, 2], dtype, seed, context_size=2)],
            seed=seed,
        ),
        (4, 4, 1),
        2,
        base_shape=(16,),
        starts_as_identity=False,
        perturbation=0.05,
    ),
    "MultiScale, one level": Case(
        lambda dtype, seed: bijectors.MultiScale([one_scale([2, 4, 1], dtype, seed)], seed=seed),
        (2, 4, 1),
        base_shape=(8,),
        starts_as_identity=False,
        perturbation=0.1,
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
    x = tf.constant(case.points(generator.normal(size=(*shape, *case.event_shape))), dtype)
    if not case.context_size:
        return x, None
    return x, tf.constant(generator.normal(size=(*shape, *case.context_shape)), dtype)
