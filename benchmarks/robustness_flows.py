"""The flows that benchmarks/robustness.py tries: of every library the same four, with its own defaults.

Four layers of two hidden layers of 32 units; splines of 8 bins on [-3, 3] where the library lets one choose. A library
is a function that returns {flow: subject}, a subject has `train(x, steps)`, which gives the losses, `density(x)`, which
gives log p and its gradient, `sample(n)` and `weights()`, all in NumPy. Each imports what it needs.
"""

import functools

import numpy as np

DIMENSIONS, LAYERS, HIDDEN, BINS, BOUND, LEARNING_RATE = 5, 4, 32, 8, 3.0, 1e-3
FLOWS = ("affine coupling", "affine autoregressive", "spline coupling", "spline autoregressive")


class Ours:
    """A preset as it comes: `FlowModel.fit`, with the optimizer it compiles with.

    Its densities before training are those with which training begins: standardized by the data, as `fit` does it.
    """

    def __init__(self, preset):
        self.model, start = _model_and_start(preset)
        for variable, value in zip(_variables(self.model), start, strict=True):
            variable.assign(value)
        self.is_new = True

    def train(self, x, steps):
        return self.model.fit(x, epochs=steps, verbose=0).history["loss"]

    def density(self, x):
        import tensorflow as tf

        if self.is_new:
            self.model.adapt(x)
            self.is_new = False
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = self.model.log_prob(x)
        return log_prob.numpy(), tape.gradient(log_prob, x).numpy()

    def sample(self, n):
        return self.model.sample(n, seed=0).numpy()

    def weights(self):
        return self.model.get_weights()


@functools.cache
def _model_and_start(preset):
    """One model for all data, so that XLA compiles it once, and the values of its variables at the start."""
    import tfp_flows as tff

    sizes = {"num_layers": LAYERS, "hidden_units": (HIDDEN, HIDDEN)}
    model = tff.FlowModel(getattr(tff.flows, preset)(DIMENSIONS, seed=0, **sizes))
    model.compile()
    return model, [variable.numpy() for variable in _variables(model)]


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def ours():
    presets = ("realnvp", "maf", "neural_spline_coupling", "neural_spline_autoregressive")
    return {flow: functools.partial(Ours, preset) for flow, preset in zip(FLOWS, presets, strict=True)}


class TensorFlow:
    """Any TFP distribution, in the loop that TFP's own examples have."""

    def __init__(self, make):
        import tensorflow as tf
        import tf_keras

        tf_keras.utils.set_random_seed(0)
        self.distribution = make()
        self.distribution.log_prob(tf.zeros([1, DIMENSIONS]))  # makes the variables of networks
        self.optimizer = tf_keras.optimizers.Adam(LEARNING_RATE)

    def train(self, x, steps):
        import tensorflow as tf

        def step():  # ten steps take less time than a graph
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(self.distribution.log_prob(x))
            variables = self.distribution.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss

        return [float(step()) for _ in range(steps)]

    def density(self, x):
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = self.distribution.log_prob(x)
        return log_prob.numpy(), tape.gradient(log_prob, x).numpy()

    def sample(self, n):
        return self.distribution.sample(n, seed=0).numpy()

    def weights(self):
        return [variable.numpy() for variable in self.distribution.trainable_variables]


def tfp():
    """TFP's bijectors, with its `AutoregressiveNetwork` and with dense networks of tf_keras."""
    import tensorflow as tf
    import tf_keras
    from tensorflow_probability import bijectors as tfb
    from tensorflow_probability import distributions as tfd

    num_masked, num_parameters = DIMENSIONS // 2, 3 * BINS - 1

    def dense(size):
        layers = [tf_keras.layers.Dense(HIDDEN, "relu"), tf_keras.layers.Dense(HIDDEN, "relu")]
        return tf_keras.Sequential([*layers, tf_keras.layers.Dense(size)])

    def made(params):
        return tfb.AutoregressiveNetwork(params, hidden_units=[HIDDEN, HIDDEN], activation="relu")

    def spline(raw):
        """As the docstring of `RationalQuadraticSpline` makes one of the outputs of a network, `[..., D, P]`."""
        widths, heights, slopes = tf.split(raw, [BINS, BINS, BINS - 1], -1)
        widths, heights = (tf.math.softmax(part) * (2 * BOUND - BINS * 1e-2) + 1e-2 for part in (widths, heights))
        return tfb.RationalQuadraticSpline(widths, heights, tf.math.softplus(slopes) + 1e-2, range_min=-BOUND)

    def shift_and_log_scale(network):
        return lambda x, size: tf.split(network(x), 2, -1)

    def coupling_spline(network):
        return lambda x, size: spline(tf.reshape(network(x), [*x.shape[:-1], size, num_parameters]))

    def masked_spline(network):
        layer = tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x: spline(network(x)))
        layer.network = network  # where `trainable_variables` finds it
        return layer

    def chain(layer):
        parts = [part for _ in range(LAYERS) for part in (layer(), tfb.Permute(list(range(DIMENSIONS))[::-1]))]
        return tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros([DIMENSIONS])), tfb.Chain(parts))

    rest = DIMENSIONS - num_masked
    layers = (
        lambda: tfb.RealNVP(num_masked, shift_and_log_scale_fn=shift_and_log_scale(dense(2 * rest))),
        lambda: tfb.MaskedAutoregressiveFlow(made(2)),
        lambda: tfb.RealNVP(num_masked, bijector_fn=coupling_spline(dense(rest * num_parameters))),
        lambda: masked_spline(made(num_parameters)),
    )
    return {
        flow: functools.partial(TensorFlow, functools.partial(chain, layer))
        for flow, layer in zip(FLOWS, layers, strict=True)
    }


class Torch:
    """A module with `log_prob` and a function that samples, in the loop that the libraries' own examples have."""

    def __init__(self, make, draw):
        import torch

        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.flow, self.draw = make(), draw
        self.optimizer = torch.optim.Adam(self.flow.parameters(), LEARNING_RATE)

    def log_prob(self, x):
        return self.flow.log_prob(x)

    def train(self, x, steps):
        import torch

        x, losses = torch.tensor(x), []
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = -self.log_prob(x).mean()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def density(self, x):
        import torch

        x = torch.tensor(x, requires_grad=True)
        log_prob = self.log_prob(x)
        (gradient,) = torch.autograd.grad(log_prob.sum(), x)
        return log_prob.detach().numpy(), gradient.numpy()

    def sample(self, n):
        import torch

        with torch.no_grad():
            return self.draw(self.flow, n).numpy()

    def weights(self):
        return [parameter.detach().numpy().copy() for parameter in self.flow.parameters()]


class Zuko(Torch):
    def log_prob(self, x):
        return self.flow().log_prob(x)


def zuko():
    from zuko import flows

    sizes = {"transforms": LAYERS, "hidden_features": (HIDDEN, HIDDEN)}
    makers = (
        lambda: flows.RealNVP(DIMENSIONS, **sizes),
        lambda: flows.MAF(DIMENSIONS, **sizes),
        lambda: flows.NSF(DIMENSIONS, bins=BINS, passes=2, **sizes),
        lambda: flows.NSF(DIMENSIONS, bins=BINS, **sizes),
    )
    return {
        flow: functools.partial(Zuko, make, lambda flow, n: flow().sample((n,)))
        for flow, make in zip(FLOWS, makers, strict=True)
    }


def nflows():
    from nflows import distributions, flows, nn, transforms

    def coupling():
        return transforms.PiecewiseRationalQuadraticCouplingTransform(
            np.arange(DIMENSIONS) % 2,
            lambda inputs, outputs: nn.nets.ResidualNet(inputs, outputs, HIDDEN),
            num_bins=BINS,
            tails="linear",
            tail_bound=BOUND,
        )

    def autoregressive():
        return transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            DIMENSIONS, HIDDEN, num_bins=BINS, tails="linear", tail_bound=BOUND
        )

    def splines(layer):
        parts = [part for _ in range(LAYERS) for part in (layer(), transforms.ReversePermutation(DIMENSIONS))]
        return flows.Flow(transforms.CompositeTransform(parts), distributions.StandardNormal([DIMENSIONS]))

    makers = (
        lambda: flows.SimpleRealNVP(DIMENSIONS, HIDDEN, LAYERS, 2),
        lambda: flows.MaskedAutoregressiveFlow(DIMENSIONS, HIDDEN, LAYERS, 2),
        lambda: splines(coupling),
        lambda: splines(autoregressive),
    )
    return {
        flow: functools.partial(Torch, make, lambda flow, n: flow.sample(n))
        for flow, make in zip(FLOWS, makers, strict=True)
    }


def normflows():
    import normflows as nf

    num_masked = DIMENSIONS // 2
    network = (DIMENSIONS - num_masked, HIDDEN, HIDDEN, 2 * num_masked)

    def coupling():
        return nf.flows.AffineCouplingBlock(nf.nets.MLP(list(network), init_zeros=True))

    layers = (
        coupling,
        lambda: nf.flows.MaskedAffineAutoregressive(DIMENSIONS, HIDDEN),
        lambda: nf.flows.CoupledRationalQuadraticSpline(DIMENSIONS, 2, HIDDEN, num_bins=BINS, tail_bound=BOUND),
        lambda: nf.flows.AutoregressiveRationalQuadraticSpline(DIMENSIONS, 2, HIDDEN, num_bins=BINS, tail_bound=BOUND),
    )

    def chain(layer):
        parts = [part for _ in range(LAYERS) for part in (layer(), nf.flows.Permute(DIMENSIONS, mode="swap"))]
        return nf.NormalizingFlow(nf.distributions.base.DiagGaussian(DIMENSIONS), parts)

    return {
        flow: functools.partial(Torch, functools.partial(chain, layer), lambda flow, n: flow.sample(n)[0])
        for flow, layer in zip(FLOWS, layers, strict=True)
    }


LIBRARIES = {"tfp_flows": ours, "TFP": tfp, "nflows": nflows, "normflows": normflows, "zuko": zuko}
