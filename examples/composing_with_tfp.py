"""Our bijectors among TFP's own: a positive, bounded and shifted density, trained by Keras like any other.

python examples/composing_with_tfp.py
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tff


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60, help="passes over the data")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # The waiting time is positive, the duration between 1 and 6 minutes. A flow on the whole plane would put mass
    # outside these bounds; TFP's Exp and Sigmoid next to the data prevent that.
    x = tff.datasets.geyser(seed=0)
    support = tfb.Blockwise([tfb.Sigmoid(1.0, 6.0), tfb.Exp()])

    flow = tfd.TransformedDistribution(
        # A base with a trainable parameter, and heavier tails than the normal's.
        tfd.Sample(
            tfd.StudentT(df=tf.Variable(5.0, constraint=lambda df: tf.maximum(df, 2.0)), loc=0.0, scale=1.0), [2]
        ),
        tfb.Chain(
            [
                support,
                tff.bijectors.Standardize(2),
                tff.bijectors.RealNVP(2, mask=[True, False], name="first"),
                tff.bijectors.RealNVP(2, mask=[False, True], name="second"),
                tfb.Invert(tff.bijectors.RealNVP(2, mask=[True, False], name="third")),
                tfb.Shift(tf.Variable(tf.zeros(2), name="shift")),
            ]
        ),
    )

    model = tff.FlowModel(flow)
    model.adapt(x)
    model.summary()
    history = model.fit(x, epochs=arguments.epochs, batch_size=64, verbose=0).history
    print(f"negative log-likelihood: {history['loss'][0]:.3f} nats at the start, {history['loss'][-1]:.3f} at the end")

    # The distribution is TFP's own, so everything in TFP works on it.
    samples = flow.sample(1000, seed=(0, 1))
    inside = (samples[:, 0] > 1) & (samples[:, 0] < 6) & (samples[:, 1] > 0)
    degrees = flow.distribution.distribution.df.numpy()
    print(f"{np.mean(inside):.0%} of the samples lie inside the bounds; degrees of freedom: {degrees:.2f}")
    joint = tfd.JointDistributionSequential([flow, tfd.Exponential(1.0)])
    print(f"joint log-density of one point: {joint.log_prob([x[0], 1.0]):.3f}")


if __name__ == "__main__":
    main()
