"""The presets: what they are made of."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff


def test_nice_is_four_couplings_and_a_scale_next_to_the_base():
    parts = tff.flows.nice(4, stack=False).bijector.bijectors
    assert [type(part).__name__ for part in parts if part.name.startswith("nice")] == ["NICE"] * 4
    assert isinstance(parts[-1], tfb.Scale) and parts[-1].trainable_variables


@pytest.mark.parametrize("mask", ["half", [True, False, False, True, False], [True, True, True, False, False]])
def test_a_coupling_moves_what_the_one_before_left(mask):
    parts = tff.flows.realnvp(5, num_layers=4, mask=mask, stack=False).bijector.bijectors
    orders = [np.array(part.permutation) for part in parts if isinstance(part, tff.bijectors.Permutation)]
    couplings = [part for part in parts if hasattr(part, "mask")]
    passed = couplings[0].mask
    for coupling in couplings:
        np.testing.assert_array_equal(coupling.mask, passed)
    np.testing.assert_array_equal(orders[0], np.arange(5))
    for order in orders[1::2]:
        # The coordinates in their old places that the next coupling transforms, after the exchange.
        transformed = set(np.flatnonzero(np.isin(order, np.flatnonzero(~passed))))
        left = set(np.flatnonzero(passed))
        assert left <= transformed or transformed <= left


def test_seeds_fix_weights_and_orders():
    def numbers(seed):
        flow = tff.flows.realnvp(6, num_layers=4, seed=seed, stack=False)
        parts = [part for part in flow.bijector.bijectors if isinstance(part, tff.bijectors.Permutation)]
        assert len(parts) == 4
        return [np.array(parts[2].permutation), *(variable.numpy() for variable in flow.variables)]

    for a, b in zip(numbers(1), numbers(1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(numbers(1)[0] != numbers(2)[0])
    assert any(np.any(a != b) for a, b in zip(numbers(1)[1:], numbers(2)[1:], strict=True))


def test_every_coordinate_depends_on_every_other():
    flow = tff.flows.realnvp(6, num_layers=6, seed=0)
    for variable in flow.trainable_variables:
        variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (1, 2)))
    z = tf.random.stateless_normal([4, 6], (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(z)
        x = flow.bijector.forward(z)
    jacobian = tape.batch_jacobian(x, z)
    assert np.all(np.any(np.array(jacobian) != 0, axis=0))


@pytest.mark.parametrize("preset", [tff.flows.nice, tff.flows.realnvp])
def test_bases_and_dtypes(preset):
    base = tfd.MultivariateNormalTriL(scale_tril=tf.eye(3, dtype=tf.float64))
    flow = preset(3, base=base, dtype=tf.float64)
    assert flow.distribution is base and flow.sample(2).dtype == tf.float64
    flow = preset(3, standardize=True, act_norm=True, context_size=2)
    assert flow.event_shape == [3] and flow.batch_shape == []


def test_works_as_a_part_of_tfp_distributions():
    flow = tff.flows.realnvp(2, num_layers=2)
    joint = tfd.JointDistributionSequential([flow, lambda x: tfd.Normal(x[..., 0], 1.0)])
    draws = joint.sample(5, seed=(0, 1))
    assert joint.log_prob(draws).shape == (5,)
    mixture = tfd.Mixture(tfd.Categorical(probs=[0.5, 0.5]), [flow, tff.flows.nice(2)])
    assert mixture.log_prob(tf.zeros([4, 2])).shape == (4,)
    assert tfd.kl_divergence(flow.distribution, flow.distribution) == 0.0


@pytest.mark.parametrize("method", ["mean", "stddev", "covariance", "entropy"])
def test_what_a_flow_does_not_know_points_to_where_it_is_estimated(method):
    with pytest.raises(NotImplementedError, match=r"`tff.inference.(moments|entropy)\(flow\)` estimates it by draws"):
        getattr(tff.flows.realnvp(2, num_layers=1), method)()
    name = "entropy" if method == "entropy" else "moments"
    assert callable(getattr(tff.inference, name))


@pytest.mark.parametrize("preset", ["neural_spline_coupling", "smooth"])
def test_mixing_by_lu_is_what_was_asked_for(preset):
    flow = getattr(tff.flows, preset)(3, num_layers=2, mixing="lu", stack=False, seed=0)
    kinds = [type(part) for part in flow.bijector.bijectors]
    assert kinds.count(tff.bijectors.LULinear) == 2 and tff.bijectors.Permutation not in kinds
