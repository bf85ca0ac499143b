"""Every preset and every bijector against hostile data: what is finite stays finite, or an error says what is wrong.

    python -m tests.test_adversarial

prints how many pairs of a flow and data were tried, survived, were refused with an error, and failed.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tests import checks
from tests.cases import CASES, Case, events
from tests.hostile import HOSTILE, hostile
from tfp_flows import bijectors, transformers
from tfp_flows.context import context_arguments

ROWS = 8
# Up to which size of the data float32 holds a density (a square of what a few layers made of it), and its gradient (a
# power more for every layer whose network sees it). Beyond, a density is only not NaN, and all is finite in float64.
LARGEST_VALUE, LARGEST_GRADIENT = 1e15, 1e7


@dataclasses.dataclass(frozen=True)
class Subject:
    make: Callable  # dtype -> distribution
    event_size: int = 5
    context_size: int = 0
    adapts: bool = False  # whether the flow is started from the data before it is trained
    is_new: bool = False  # whether the weights are those it starts with; else random numbers are added to them
    largest_value: float = LARGEST_VALUE  # below it where the map itself grows faster than its input


def preset(name, **arguments):
    return lambda dtype, event_size=5: getattr(tff.flows, name)(event_size, dtype=dtype, seed=0, **arguments)


def over_normal(case):
    """A case of the table of bijectors as a distribution, over a standard normal."""

    def make(dtype):
        base = tfd.Sample(tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype)), case.shape_for("forward"))
        return tfd.TransformedDistribution(base, case.make(dtype=dtype, seed=7))

    return make


SMALL = {"num_layers": 2, "hidden_units": (8,)}
PRESETS = {
    "nice": SMALL,
    "realnvp": SMALL,
    "neural_spline_coupling": SMALL,
    "neural_spline_autoregressive": SMALL,
    "maf": SMALL,
    "iaf": SMALL,
    "planar": {"num_layers": 2},
    "radial": {"num_layers": 2},
    "sylvester": {"num_layers": 2},
    "gaussianization": {"num_layers": 2},
    "gaussian": {},
}
SUBJECTS = {
    **{name: Subject(preset(name, **arguments)) for name, arguments in PRESETS.items()},
    "realnvp, new": Subject(preset("realnvp", **SMALL), is_new=True),
    "neural_spline_coupling, LU": Subject(preset("neural_spline_coupling", mixing="lu", **SMALL)),
    "maf, context": Subject(preset("maf", context_size=2, **SMALL), context_size=2),
    "gaussian, context": Subject(preset("gaussian", context_size=2, hidden_units=(8,)), context_size=2),
    "realnvp, adapted": Subject(preset("realnvp", standardize=True, act_norm=True, **SMALL), adapts=True),
    "maf, adapted": Subject(preset("maf", standardize=True, **SMALL), adapts=True),
    "gaussianization, adapted": Subject(preset("gaussianization", num_layers=2), adapts=True),
    **{
        f"bijectors: {name}": Subject(over_normal(case), case.event_size, case.context_size)
        for name, case in CASES.items()
        # Rows of any numbers; images, and points of circles, spheres and simplices, have tests of their own.
        if isinstance(case.event_size, int) and case.points is np.asarray and not case.why_bounded
    },
}
# The normal's tails to the logistic's: z goes with the square of x, and log p with the fourth power.
INVERTED = "bijectors: LogisticMixture, inverted"
SUBJECTS[INVERTED] = dataclasses.replace(SUBJECTS[INVERTED], largest_value=LARGEST_GRADIENT)


@functools.lru_cache(maxsize=2)
def model_of(name, dtype):
    """A model of the subject with weights away from their start, and the values of all its variables."""
    subject = SUBJECTS[name]
    model = tff.FlowModel(subject.make(dtype))
    model.compile(jit_compile=False, steps_per_execution=1)
    generator = np.random.default_rng(0)
    for weight in () if subject.is_new else model.trainable_weights:
        weight.assign_add(0.3 * generator.normal(size=weight.shape))
    return model, _state(model)


def _state(model):
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def _restore(model, state):
    for variable, value in zip((*model.variables, *model.optimizer.variables), state, strict=True):
        variable.assign(value)


def is_finite(*values):
    return all(np.isfinite(value).all() for value in values)


class Refused(Exception):
    """A clear error came before anything changed."""


def asked(model, method, *arguments, **options):
    """Calls a method that may refuse its data, which it must do in good words, and before it changes anything."""
    before = _state(model)
    try:
        return getattr(model, method)(*arguments, **options)
    except ValueError as error:
        assert "xpected" in str(error) and "Received: " in str(error), error
        for value, kept in zip(_state(model), before, strict=True):
            np.testing.assert_array_equal(value, kept)
        raise Refused(str(error)) from error


def densities(name, dtype, is_xla=False):
    """log p and its gradient at all hostile events, in one batch: {data: (x, log p, gradient)}."""
    subject = SUBJECTS[name]
    model, start = model_of(name, dtype)
    _restore(model, start)
    parts = {data: hostile(data, ROWS, subject.event_size).astype(dtype) for data in HOSTILE}
    x = tf.constant(np.concatenate(list(parts.values())))
    shape = [len(x), subject.context_size]
    context = tf.constant(np.random.default_rng(1).normal(size=shape), dtype) if subject.context_size else None

    def density_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = model.distribution.log_prob(x, **context_arguments(model.distribution, context))
        return log_prob, tape.gradient(log_prob, x)

    log_prob, gradient = (tf.function(density_and_gradient, jit_compile=True) if is_xla else density_and_gradient)(x)
    ends = np.cumsum([len(part) for part in parts.values()])[:-1]
    pieces = zip(*(np.split(array, ends) for array in (x.numpy(), log_prob.numpy(), gradient.numpy())), strict=True)
    return dict(zip(parts, pieces, strict=True))


def density_is_safe(x, log_prob, gradient, largest_value=LARGEST_VALUE):
    """Values and gradients are finite; rows that are not finite have no finite density, and spoil no other."""
    finite = np.isfinite(x).all(-1)
    assert not np.isfinite(log_prob[~finite]).any(), "a density of a row that is not finite"
    size = np.abs(x[finite]).max(initial=0)
    assert not np.isnan(log_prob[finite]).any(), "a density is NaN"
    if size <= largest_value or x.dtype == np.float64:
        assert is_finite(log_prob[finite]), "a density is infinite"
    if size <= LARGEST_GRADIENT or x.dtype == np.float64:
        assert is_finite(gradient[finite]), "a gradient"


def training_is_safe(name, x, context):
    """One step of `fit`, after `adapt` if the subject has it, and samples of what came out."""
    model, start = model_of(name, "float32")
    _restore(model, start)
    if SUBJECTS[name].adapts:
        asked(model, "adapt", x, context)
        assert is_finite(*_state(model)), "a weight after adapt"
    data = (x,) if context is None else (context, x)
    history = asked(model, "fit", *data, batch_size=ROWS, verbose=0, shuffle=False)
    assert is_finite(history.history["loss"]), "the loss"
    assert is_finite(*_state(model)), "a weight after a step"
    sample, log_prob = model.sample_and_log_prob(4, None if context is None else tf.zeros_like(context[0]), seed=0)
    assert is_finite(sample, log_prob), "a sample or its density"


def trained(name, data, is_context):
    """Trains on hostile events, or on hostile contexts of normal events."""
    subject = SUBJECTS[name]
    sizes = {"x": subject.event_size, "context": subject.context_size}
    wild = hostile(data, ROWS, sizes["context" if is_context else "x"])
    arrays = {part: np.random.default_rng(1).normal(size=(len(wild), size)) for part, size in sizes.items()}
    arrays["context" if is_context else "x"] = wild
    x, context = (array.astype("float32") for array in arrays.values())
    training_is_safe(name, x, context if subject.context_size else None)


def tally(name):
    """What became of a subject with each hostile data, as events and as contexts: survived, refused or failed."""
    outcomes = {}
    in_float32, in_float64 = densities(name, "float32"), densities(name, "float64")
    for data in HOSTILE:
        for where in ("events", "contexts") if SUBJECTS[name].context_size else ("events",):
            outcome = "survived"
            try:
                if where == "events":
                    density_is_safe(*in_float32[data], SUBJECTS[name].largest_value)
                    density_is_safe(*in_float64[data])
                trained(name, data, where == "contexts")
            except Refused as refusal:
                outcome = f"refused: {refusal}"
            except AssertionError as failure:
                outcome = f"failed: {failure}"
            outcomes[data, where] = outcome
    return outcomes


@pytest.mark.parametrize("name", SUBJECTS)
def test_hostile_data(name):
    failed = {pair: words for pair, words in tally(name).items() if words.startswith("failed")}
    assert not failed, failed


@pytest.mark.parametrize("name", ["realnvp", "neural_spline_autoregressive", "gaussianization", "radial"])
def test_hostile_data_under_xla(name):
    for found in densities(name, "float32", is_xla=True).values():
        density_is_safe(*found)


def test_cauchy_data_train():
    x = hostile("Cauchy", 1000, 5).astype("float32")
    model = tff.FlowModel(tff.flows.neural_spline_autoregressive(5, **SMALL, seed=0))
    model.compile(keras.optimizers.Adam(5e-3))
    losses = model.fit(x, epochs=5, verbose=0).history["loss"]
    assert is_finite(losses, *_state(model)) and losses[-1] < losses[0]


WIDE = {"neural_spline_autoregressive", "maf", "iaf"}


@pytest.mark.parametrize("name", PRESETS)
def test_500_dimensions(name):
    arguments = {**PRESETS[name], **({"hidden_units": (500,)} if name in WIDE else {})}
    if name == "neural_spline_autoregressive":
        arguments["num_bins"] = 3
    flow = getattr(tff.flows, name)(500, seed=0, **arguments)
    x = tf.constant(hostile("Cauchy", 2, 500), tf.float32)
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob(x)
    gradients = tape.gradient(log_prob, flow.trainable_variables)
    assert is_finite(log_prob, *(tf.convert_to_tensor(g) for g in gradients if g is not None))
    assert is_finite(flow.sample(2, seed=0))


@pytest.mark.parametrize("name", sorted(WIDE))
def test_500_dimensions_in_layers_too_narrow(name):
    with pytest.raises(ValueError, match=r"at least 499 units for 500 coordinates.*Received: hidden_units=\(64, 64\)"):
        getattr(tff.flows, name)(500)


@st.composite
def drawn_cases(draw):
    """A coupling or autoregressive layer of any size, mask, order, transformer and context."""
    size, context_size, seed = draw(st.integers(2, 7)), draw(st.integers(0, 2)), draw(st.integers(0, 10**6))
    transformer = draw(
        st.one_of(
            st.builds(transformers.Affine, st.floats(0.5, 3.0)),
            st.builds(
                transformers.RationalQuadratic,
                num_bins=st.integers(1, 9),
                bound=st.floats(0.5, 10.0),
                tails=st.sampled_from(["identity", "linear"]),
            ),
        )
    )
    arguments = {"context_size": context_size, "hidden_units": (8,), "seed": seed}
    if draw(st.booleans()):
        mask = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda m: 0 < sum(m) < size))
        make = functools.partial(bijectors.Coupling, size, transformer, mask, **arguments)
    else:
        order = draw(st.permutations(range(size)))
        make = functools.partial(bijectors.MaskedAutoregressive, size, transformer, input_order=order, **arguments)
    # A spline's steepest bins are a thousand times as steep as its flattest.
    return Case(lambda dtype, seed: make(dtype=dtype), size, context_size, room=100.0, why_room="any spline")


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    case=drawn_cases(),
    dtype=st.sampled_from(["float32", "float64"]),
    shape=st.lists(st.integers(1, 3), max_size=2),
    data=st.sampled_from(
        ["zeros", "denormals", "±1e7", "±1e15", "collinear columns", "whole numbers", "Cauchy, cubed"]
    ),
)
def test_drawn_layers(case, dtype, shape, data):
    bijector = case.make(dtype=dtype, seed=None)
    generator = np.random.default_rng(0)
    for variable in bijector.trainable_variables:
        variable.assign_add(0.3 * generator.normal(size=variable.shape).astype(dtype))
    checks.round_trip(case, bijector, dtype)
    checks.log_det_is_that_of_the_jacobian(case, bijector, dtype)
    x, context = events(case, dtype, tuple(shape))
    x = tf.reshape(tf.constant(hostile(data, math.prod(shape), case.event_size), dtype), x.shape)
    for method in checks.METHODS:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = checks.call(bijector, method, x, context)
        assert y.shape == (x.shape[:-1] if "log_det" in method else x.shape)
        gradients = tape.gradient(y, [x, *bijector.trainable_variables])
        assert is_finite(y, *(tf.convert_to_tensor(g) for g in gradients if g is not None)), method


def main():
    totals = collections.Counter()
    for name in SUBJECTS:
        outcomes = tally(name)
        counts = collections.Counter(words.split(":")[0] for words in outcomes.values())
        print(f"{name}: {_described(counts)}", flush=True)
        for (data, where), words in outcomes.items():
            if words.startswith("failed"):
                print(f"  {data} as {where}: {words}", flush=True)
        totals += counts
    print(_described(totals))


def _described(counts):
    words = ", ".join(f"{counts[word]} {word}" for word in ("survived", "refused", "failed"))
    return f"{counts.total()} tried, {words}"


if __name__ == "__main__":
    main()
