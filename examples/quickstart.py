"""Fit a flow to 1000 earthquakes off Fiji, compare it with a Gaussian, draw from it, save it, serve it.

python examples/quickstart.py --output out
"""

import argparse
import pathlib

import keras
import matplotlib
import numpy as np
import tensorflow as tf

import tfp_flows as tff

matplotlib.use("Agg")


def gaussian_nll(train, test):
    """The mean negative log-likelihood, in nats, of the best Gaussian with a full covariance."""
    residual = np.float64(test) - train.mean(0)
    covariance = np.cov(np.float64(train).T)
    squares = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual)
    return np.mean(squares + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    parser.add_argument("--epochs", type=int, default=300, help="maximum number of passes over the data")
    parser.add_argument("--layers", type=int, default=8, help="couplings of the flow")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    # Five columns in different units; a fifth of the rows is held out. `fit` standardizes them.
    x = np.random.default_rng(0).permutation(tff.datasets.quakes(seed=0))
    train, test = x[:800], x[800:]

    flow = tff.flows.realnvp(event_size=5, num_layers=arguments.layers, activation="tanh", seed=0)
    model = tff.FlowModel(flow)
    model.summary()
    model.fit(
        train,
        batch_size=64,
        epochs=arguments.epochs,
        validation_split=0.2,
        verbose=0,
        callbacks=[keras.callbacks.EarlyStopping(patience=40, restore_best_weights=True)],
    )
    flow_nll = model.evaluate(test, verbose=0)
    print(f"held-out negative log-likelihood: flow {flow_nll:.3f} nats, Gaussian {gaussian_nll(train, test):.3f} nats")

    tff.plotting.corner(x, model.sample(10_000, seed=1), tff.datasets.quakes.columns).savefig(
        arguments.output / "quakes.png", dpi=80
    )

    # Reload with Keras, and with only TensorFlow.
    model.save(arguments.output / "quakes.keras")
    model.export(arguments.output / "quakes")
    log_prob = model.log_prob(test)
    again = keras.models.load_model(arguments.output / "quakes.keras").log_prob(test)
    served = tf.saved_model.load(str(arguments.output / "quakes"))
    np.testing.assert_allclose(again, log_prob, rtol=1e-5)
    np.testing.assert_allclose(served.log_prob(test), log_prob, rtol=1e-5)
    print("model, .keras file and SavedModel agree on the held-out densities")
    print(f"wrote quakes.png, quakes.keras and quakes/ to {arguments.output}")


if __name__ == "__main__":
    main()
