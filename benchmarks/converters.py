"""TFLite and ONNX from an exported SavedModel: what converts, and how far log p differs from the SavedModel's.

    pip install . tf2onnx onnxruntime
    python benchmarks/converters.py
    python benchmarks/converters.py --signature forward

Five columns of earthquakes and flows of four layers of 2x32 units, trained for three epochs, so that no layer is the
identity. `loop` is what the presets make, one `tff.bijectors.Stack` of equal layers; `chain` is `stack=False`. TFLite
is asked for its own operations alone, and for TensorFlow's beside them (Flex). The batch size stays open. The table has
the greatest difference over 1000 rows, the size of the file and the Flex operations in it, or "no" where a converter or
its interpreter failed, with the reason below; each conversion has a process of its own, since converters end some.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

FLOWS = ("realnvp", "neural_spline_coupling", "maf")
CONVERTERS = ("TFLite", "TFLite, Flex", "ONNX")
PACKAGES = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
ROWS = 1000


def export(preset, stack, folder):
    """Trains a flow for a moment and exports it."""
    import keras

    import tfp_flows as tff

    keras.utils.set_random_seed(0)
    make = getattr(tff.flows, preset)
    model = tff.FlowModel(make(5, num_layers=4, hidden_units=(32, 32), seed=0, stack=stack))
    model.fit(tff.datasets.quakes(seed=0), epochs=3, verbose=0)
    model.export(folder)


def inputs(signature):
    """The arguments of a signature, by name."""
    import tfp_flows as tff

    if signature == "sample":
        return {"n": np.int32(ROWS), "seed": np.int32(1)}
    if signature == "forward":
        return {"z": np.random.default_rng(0).normal(size=[ROWS, 5]).astype(np.float32)}
    return {"x": tff.datasets.quakes(seed=0)}


def tflite(folder, signature, arguments, flex):
    """(what the converted model answers, its size in bytes, the operations that it leaves to TensorFlow)."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[signature])
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    content = converter.convert()
    runner = tf.lite.Interpreter(model_content=content).get_signature_runner(signature)
    left = {name.decode() for name in re.findall(rb"Flex[A-Z]\w+", content)}
    return next(iter(runner(**arguments).values())), len(content), sorted(left)


def onnx(folder, signature, arguments):
    """(what the converted model answers, its size in bytes, nothing)."""
    import onnxruntime

    path = pathlib.Path(folder).with_suffix(".onnx")
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", folder, "--signature_def", signature]
    subprocess.run([*command, "--opset", "17", "--output", path], check=True)
    session = onnxruntime.InferenceSession(path)
    return session.run(None, arguments)[0], path.stat().st_size, []


def compare(folder, signature, converter):
    """The result of a conversion, in the process that makes it."""
    import tensorflow as tf

    arguments = inputs(signature)
    if converter == "ONNX":
        answer, size, left = onnx(folder, signature, arguments)
    else:
        answer, size, left = tflite(folder, signature, arguments, "Flex" in converter)
    served = tf.saved_model.load(folder)
    tensors = {name: tf.constant(value) for name, value in arguments.items()}
    expected = next(iter(served.signatures[signature](**tensors).values())).numpy()
    assert answer.shape == expected.shape, (answer.shape, expected.shape)
    return {
        "difference": float(np.abs(answer - expected).max()),
        "greatest": float(np.abs(expected).max()),
        "kilobytes": round(size / 1000),
        "left": left,
    }


def failure(text):
    """The first operation that a converter or an interpreter has complained about, or the last line of its errors."""
    patterns = (
        r"error: (?:loc.*: )?'tf\.(\w+)' op ([^\n]*)",
        r"\((Flex\w+)\) (failed to prepare)",
        r"Tensorflow op \[[^:\]]*: (\w+)\] (is not supported)",
    )
    found = [match for pattern in patterns if (match := re.search(pattern, text))]
    return " ".join(found[0].groups()) if found else text.strip().splitlines()[-1][:200]


def run(*arguments):
    """This program in a process of its own: (whether it ended well, its standard output, its standard error)."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=1800)
    return done.returncode == 0, done.stdout, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signature", choices=("log_prob", "forward", "sample"), default="log_prob")
    parser.add_argument("--flows", nargs="+", choices=FLOWS, default=FLOWS)
    parser.add_argument("--export", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--convert", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        preset, layers, folder = arguments.export
        export(preset, layers == "loop", folder)
        return
    if arguments.convert:
        print(json.dumps(compare(*arguments.convert)))
        return
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    print(f"\n| flow | layers | {' | '.join(CONVERTERS)} | largest value |\n|---|---|{'---|' * (len(CONVERTERS) + 1)}")
    reasons = {}
    with tempfile.TemporaryDirectory() as folder:
        for preset in arguments.flows:
            for layers in ("loop", "chain"):
                path, cells, greatest = f"{folder}/{preset}_{layers}", [], "-"
                good, _, text = run("--export", preset, layers, path)
                assert good, text
                for converter in CONVERTERS:
                    good, out, text = run("--convert", path, arguments.signature, converter)
                    if good:
                        found = json.loads(out.splitlines()[-1])
                        cells.append(
                            ", ".join([f"{found['difference']:.1e}", f"{found['kilobytes']} kB", *found["left"]])
                        )
                        greatest = f"{found['greatest']:.1f}"
                    else:
                        cells.append("no")
                        reasons.setdefault(f"{converter}: {failure(text)}", []).append(f"{preset}, {layers}")
                print(f"| {preset} | {layers} | {' | '.join(cells)} | {greatest} |", flush=True)
    for reason, where in reasons.items():
        print(f"\n{reason}\n    {'; '.join(where)}")


if __name__ == "__main__":
    main()
