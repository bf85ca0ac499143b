"""The way of data through compositions: every container, inverted parts, contexts, and parts that start from data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

import tfp_flows as tff
from tfp_flows.context import ContextBijector, walk

X = np.random.default_rng(0).normal([5.0, -3.0], [2.0, 0.5], size=(200, 2)).astype("float32")


def walked(bijector, x, context=None):
    """The innermost parts, and what reaches the base."""
    parts, steps = [], walk(bijector, x, context)
    while True:
        try:
            part, reached, own_context, inverted = next(steps)
        except StopIteration as end:
            return parts, end.value
        if not isinstance(part, ContextBijector):
            parts.append((part, reached, own_context, inverted))


def affine(seed=None):
    made = tff.bijectors.DiagonalAffine(2)
    made.theta.assign(np.random.default_rng(seed).normal(size=(2, 2)))
    return made


COMPOSITIONS = {
    "chain": lambda: tfb.Chain([affine(0), tfb.Chain([affine(1), tfb.Exp()])]),
    "inverted chain": lambda: tfb.Invert(tfb.Chain([affine(0), tfb.Invert(affine(1)), tfb.Sinh()])),
    "blocks": lambda: tfb.Blockwise([tff.bijectors.ActNorm(1), tfb.Invert(tff.bijectors.ActNorm(1))]),
    "inverted blocks": lambda: tfb.Invert(tfb.Blockwise([tff.bijectors.MAF(1, seed=0), tfb.Softplus()])),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_what_reaches_the_base_is_the_inverse(name):
    bijector = COMPOSITIONS[name]()
    x = tf.constant(np.abs(X))
    parts, z = walked(bijector, x)
    np.testing.assert_allclose(z, bijector.inverse(tf.identity(x)), rtol=1e-5)
    # No container is among the parts: the walk goes inside of all of them.
    assert not any(hasattr(part, "bijectors") or hasattr(part, "bijector") for part, *_ in parts)


def test_a_joint_map_is_walked_part_by_part():
    bijector = tfb.JointMap({"a": tff.bijectors.ActNorm(2), "b": tfb.Exp()})
    x = {"a": tf.constant(X), "b": tf.constant(np.abs(X))}
    parts, z = walked(bijector, x)
    assert {type(part).__name__ for part, *_ in parts} == {"ActNorm", "Exp"}
    tf.nest.map_structure(np.testing.assert_allclose, z, bijector.inverse(x))


def test_parts_that_take_no_context_get_none():
    conditional = tff.bijectors.RealNVP(2, context_size=1, seed=0)
    parts, _ = walked(tfb.Chain([tff.bijectors.ActNorm(2), conditional, tfb.Exp()]), np.abs(X), np.ones([200, 1]))
    assert [own_context is None for _, _, own_context, _ in parts] == [True, False, True]


def test_inverted_parts_are_marked():
    one, other = affine(0), affine(1)
    parts, _ = walked(tfb.Invert(tfb.Chain([one, tfb.Invert(other)])), tf.constant(X))
    assert [(part, inverted) for part, _, _, inverted in parts] == [(other, False), (one, True)]


def test_a_part_in_a_block_or_behind_two_inversions_starts_from_its_own_data():
    block, inner = tff.bijectors.ActNorm(1), tff.bijectors.ActNorm(2)
    bijector = tfb.Chain([tfb.Invert(tfb.Invert(inner)), tfb.Blockwise([block, tfb.Exp()])])
    for part, reached, context, inverted in walk(bijector, tf.constant(X)):
        if hasattr(part, "adapt") and not inverted:
            part.adapt(reached, context)
        if part is block:  # Exp's block has to be positive
            break
    np.testing.assert_allclose(inner.shift, X.mean(0), rtol=1e-4)
    np.testing.assert_allclose(block.shift, 0.0, atol=1e-4)


def test_an_embedding_is_done_before_the_parts_inside_it():
    embedding = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    inner = tff.bijectors.DiagonalAffine(2, context_size=2)
    context = tf.constant(np.random.default_rng(1).normal(size=(200, 3)), tf.float32)
    ((part, _, own_context, _),), _ = walked(tff.bijectors.Embedded(inner, embedding), tf.constant(X), context)
    assert part is inner
    np.testing.assert_allclose(own_context, embedding(context))
