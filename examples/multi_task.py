"""A flow as one head of a larger Keras model: a class and a density, from one embedding that was trained before.

python examples/multi_task.py --output out

Each event is a short noisy signal. The model tells which of two kinds it is, and the joint density of its amplitude and
phase: p(class | signal) and p(amplitude, phase | signal). The embedding of the signal is trained first, by the class
alone, and then frozen; the flow and the head are trained together.
"""

import argparse
import pathlib

import keras
import numpy as np

import tfp_flows as tff


def signals(rows, seed):
    """Signals `[n, 32]`, their kind (sine or sawtooth) `[n, 1]`, and their amplitude and phase `[n, 2]`."""
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, 2, size=(rows, 1)).astype("float32")
    amplitude, phase = generator.uniform(1, 3, size=(rows, 1)), generator.uniform(-1, 1, size=(rows, 1))
    angle = np.linspace(0, 4 * np.pi, 32) + phase
    wave = np.where(kind == 1, np.sin(angle), angle / np.pi % 2 - 1)
    signal = amplitude * wave + 0.3 * generator.normal(size=(rows, 32))
    return signal.astype("float32"), kind, np.concatenate([amplitude, phase], 1).astype("float32")


def negative(_, log_prob):
    """-log p, the flow's loss; it has no target."""
    return -log_prob


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=10_000)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    signal, kind, x = signals(arguments.rows, seed=0)

    # One embedding for both outputs, trained by the class.
    inputs = keras.Input((32,), name="signal")
    embedding = keras.Sequential(
        [keras.Input((32,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(8, "tanh")], name="embedding"
    )
    classifier = keras.layers.Dense(1, "sigmoid", name="kind")(embedding(inputs))
    first = keras.Model(inputs, classifier)
    first.compile("adam", "binary_crossentropy")
    first.fit(signal, kind, epochs=arguments.epochs, batch_size=256, verbose=0)

    # Then frozen. The flow is a layer: of (context, x) it gives log p(x | context).
    embedding.trainable = False
    events = keras.Input((2,), name="x")
    flow = tff.FlowModel(tff.flows.neural_spline_coupling(2, num_layers=2, context_size=8, seed=0), name="log_prob")
    flow.adapt(x, context=embedding.predict(signal, verbose=0))  # `fit` of another model does not
    outputs = {"kind": classifier, "log_prob": flow((embedding(inputs), events))}
    model = keras.Model({"signal": inputs, "x": events}, outputs)
    losses = {"kind": "binary_crossentropy", "log_prob": negative}
    model.compile(keras.optimizers.Adam(2e-3, global_clipnorm=5.0), losses)
    data, targets = {"signal": signal, "x": x}, {"kind": kind, "log_prob": np.zeros(len(x))}
    before = embedding.get_weights()
    model.fit(data, targets, epochs=arguments.epochs, batch_size=256, verbose=0)
    for now, then in zip(embedding.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)

    # Each loss is what it says, and their sum is the loss.
    signal, kind, x = signals(1000, seed=1)
    data, targets = {"signal": signal, "x": x}, {"kind": kind, "log_prob": np.zeros(len(x))}
    results = model.evaluate(data, targets, batch_size=1000, verbose=0, return_dict=True)
    nll = -np.mean(flow.log_prob(x, embedding.predict(signal, verbose=0)))
    np.testing.assert_allclose(results["log_prob_loss"], nll, rtol=1e-4)
    np.testing.assert_allclose(results["loss"], results["kind_loss"] + nll, rtol=1e-4)
    print(f"held out: -log p(amplitude, phase | signal) {nll:.3f} nats, of the class {results['kind_loss']:.3f} nats")

    # Saved and loaded as any Keras model; the flow in it draws from the posterior of one signal.
    model.save(arguments.output / "multi_task.keras")
    loaded = keras.models.load_model(arguments.output / "multi_task.keras", compile=False)
    again = loaded.predict(data, verbose=0)
    for name, value in model.predict(data, verbose=0).items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-4)
    context = loaded.get_layer("embedding")(signal[:1])[0]
    draws = loaded.get_layer("log_prob").sample(1000, context, seed=0)
    for name, mean, std, true in zip(["amplitude", "phase"], np.mean(draws, 0), np.std(draws, 0), x[0], strict=True):
        print(f"{name}: {mean:.2f} ± {std:.2f}, true {true:.2f}")


if __name__ == "__main__":
    main()
