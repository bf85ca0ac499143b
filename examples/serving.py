"""Use an exported flow in a process that has only TensorFlow.

python examples/quickstart.py --output out
python examples/serving.py out/quakes
"""

import argparse

import tensorflow as tf


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="a folder that `FlowModel.export` wrote")
    arguments = parser.parse_args()

    flow = tf.saved_model.load(arguments.path)
    samples, log_prob = flow.sample_and_log_prob(5, 1)  # five draws, from seed 1
    for row, value in zip(samples, log_prob, strict=True):
        print(f"{row.numpy().round(2)}  log p = {value:.3f}")

    # The same functions as signatures, as TensorFlow Serving calls them: arguments and results by name.
    served = flow.signatures["log_prob"](x=samples)["log_prob"]
    tf.debugging.assert_near(served, log_prob, atol=1e-3, rtol=1e-4)
    print("density and samples agree; any batch size works:", flow.log_prob(samples[:2]).shape)


if __name__ == "__main__":
    main()
