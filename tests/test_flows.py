"""The presets: what they are made of."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff


def test_nice_is_four_couplings_and_a_scale_next_to_the_base():
    parts = tff.flows.nice(4).bijector.bijectors
    assert [type(part).__name__ for part in parts if part.name.startswith("nice")] == ["NICE"] * 4
    assert isinstance(parts[-1], tfb.Scale) and parts[-1].trainable_variables


def test_masks_alternate_and_every_coordinate_moves():
    couplings = [part for part in tff.flows.realnvp(5, num_layers=4).bijector.bijectors if hasattr(part, "mask")]
    for one, next_one in zip(couplings[::2], couplings[1::2], strict=True):
        np.testing.assert_array_equal(one.mask, ~next_one.mask)
    mask = [True, False, False, True, False]
    first = next(part for part in tff.flows.realnvp(5, mask=mask).bijector.bijectors if hasattr(part, "mask"))
    np.testing.assert_array_equal(first.mask, mask)


def test_seeds_fix_weights_and_orders():
    def numbers(seed):
        flow = tff.flows.realnvp(6, num_layers=4, seed=seed)
        orders = [
            np.array(part.permutation)
            for part in flow.bijector.bijectors
            if isinstance(part, tff.bijectors.Permutation)
        ]
        assert len(orders) == 1
        return [*orders, *(variable.numpy() for variable in flow.variables)]

    for a, b in zip(numbers(1), numbers(1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(numbers(1), numbers(2), strict=True))


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
