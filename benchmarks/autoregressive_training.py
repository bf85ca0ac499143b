"""What autoregressive flows learn: rings in the plane, and the quakes compared with a Gaussian.

    python benchmarks/autoregressive_training.py

Prints the mean negative log-likelihood of held-out points, in nats, with the time of training, compiling included.
"""

import time

import keras
import numpy as np
from tensorflow_probability import distributions as tfd

import tfp_flows as tff


def rings(seconds=55.0):
    """`neural_spline_autoregressive` on `rings`, against the entropy, which no model undercuts."""
    x, held_out = tff.datasets.rings(512 * 2_000, seed=0), tff.datasets.rings(100_000, seed=1)
    flow = tff.flows.neural_spline_autoregressive(2, num_layers=2, num_bins=32, bound=2.5, standardize=True, seed=0)
    model = tff.FlowModel(flow)
    model.adapt(x[:100_000])
    epochs = 2
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, epochs * 2_000)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5.0))
    start = time.perf_counter()
    model.fit(x, batch_size=512, epochs=epochs, verbose=0, callbacks=[Until(seconds)])
    took, loss = time.perf_counter() - start, -np.mean(model.log_prob(held_out))
    entropy = tff.datasets.rings.entropy()
    exact = -np.mean(tff.datasets.rings.log_prob(held_out))
    print(f"rings: {loss:.3f} nats; entropy {entropy:.3f}, exact density on the same points {exact:.3f}")
    print(f"  above the entropy: {loss - entropy:.3f} after {took:.0f} s, {int(model.optimizer.iterations)} steps")


def quakes():
    """`maf` on the quakes, against the full-covariance Gaussian of the same training points."""
    x = np.asarray(tff.datasets.quakes(), np.float32)
    x = x[np.random.default_rng(0).permutation(len(x))]
    train, validation, held_out = np.split(x, [int(0.7 * len(x)), int(0.8 * len(x))])
    gaussian = tfd.MultivariateNormalTriL(train.mean(0), np.linalg.cholesky(np.cov(train.T)).astype(np.float32))
    model = tff.FlowModel(tff.flows.maf(x.shape[1], num_layers=5, standardize=True, seed=0))
    model.adapt(train)
    start = time.perf_counter()
    stop = keras.callbacks.EarlyStopping(patience=30, restore_best_weights=True)
    model.fit(train, batch_size=64, epochs=300, validation_data=(validation, None), verbose=0, callbacks=[stop])
    took = time.perf_counter() - start
    print(f"quakes, {len(train)} training points, {len(held_out)} held out, {x.shape[1]} columns")
    print(f"  Gaussian {-np.mean(gaussian.log_prob(held_out)):.3f} nats")
    print(f"  maf      {-np.mean(model.log_prob(held_out)):.3f} nats after {took:.0f} s")


class Until(keras.callbacks.Callback):
    """Stops after so many seconds."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = time.perf_counter() - self.start > self.seconds


if __name__ == "__main__":
    rings()
    quakes()
