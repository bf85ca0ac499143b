"""A residual flow on two_moons: nats above the entropy, the estimator's bias, the inverse, the Lipschitz constants.

    python benchmarks/residual.py --seconds 60 --layers 8

Seconds are of the process's CPU time on one thread, compiling left out, so that other work on the machine matters less.
"""

import argparse
import math
import time

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.bijectors.residual import _estimated_log_det

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=60.0)
parser.add_argument("--layers", type=int, default=8)
parser.add_argument("--learning-rate", type=float, default=4e-3)
parser.add_argument("--log-det", default="auto")
parser.add_argument("--no-act-norm", action="store_true")
arguments = parser.parse_args()
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

x = tff.datasets.two_moons(100_000, seed=0)
flow = tff.flows.residual(
    2, num_layers=arguments.layers, log_det=arguments.log_det, act_norm=not arguments.no_act_norm, seed=0
)
model = tff.FlowModel(flow)
model.adapt(x)
x = tf.constant(x, tf.float32)
variables = flow.trainable_variables
optimizer = keras.optimizers.Adam(global_clipnorm=5.0)
optimizer.build(variables)


@tf.function(jit_compile=True, autograph=False)
def step(seed, rate):
    rows = tf.random.stateless_uniform([256], seed, 0, len(x), tf.int32)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model(tf.gather(x, rows), training=True))
    optimizer.learning_rate.assign(rate)
    optimizer.apply(tape.gradient(loss, variables), variables)
    return loss


start = time.process_time()
step(tf.constant([0, 0]), tf.constant(0.0))
print(f"compiled in {time.process_time() - start:.0f} s", flush=True)
start, count, spent = time.process_time(), 0, 0.0
while spent < 1:
    rate = arguments.learning_rate * (1 + math.cos(math.pi * spent)) / 2
    loss = step(tf.constant([1, count]), tf.constant(rate, tf.float32))
    count += 1
    spent = (time.process_time() - start) / arguments.seconds
print(f"{count} steps of 256, {1e3 * arguments.seconds / count:.2f} ms each, last loss {float(loss):.4f}", flush=True)

test = tff.datasets.two_moons(20_000, seed=1).astype("float32")
differences = tff.datasets.two_moons.log_prob(test) - model.log_prob(test)
error = np.std(differences) / np.sqrt(len(test))
print(f"above the entropy: {np.mean(differences):.4f} ± {error:.4f} nats", flush=True)

z = model.inverse(test[:2000])
print(f"round trip: {np.abs(model.forward(z) - test[:2000]).max():.1e}", flush=True)

event = tf.constant(test[:256])
exact, estimates, norms = 0.0, [], []
layers, estimators = flow.bijector.bijectors, []
for part in layers:
    if isinstance(part, tff.bijectors.Residual):
        network = part.layer.network
        value, push = network.linearize(network.matrices(), event)
        jacobian = push(tf.eye(2))
        norms.append(np.linalg.norm(jacobian, 2, (1, 2)).max())
        exact += np.linalg.slogdet(np.eye(2) + jacobian)[1]
        estimator = tf.function(lambda seed, push=push, at=event: _estimated_log_det(push, at, seed), autograph=False)
        estimators.append(estimator)
        event = event + value
    else:
        event = part.inverse(event)
for k in range(200):
    estimates.append(sum(f(tf.constant([k, j], tf.int64)).numpy() for j, f in enumerate(estimators)))
means = np.mean(np.array(estimates) - exact, 1)
print(f"bias of the estimate: {means.mean():.1e} ± {means.std() / np.sqrt(len(means)):.1e}", end="; ")
print(f"spread per row {np.std(estimates, 0).mean():.3f}")
print("Lipschitz constants met:", np.round(norms, 3), f"of at most {network.lipschitz}")
