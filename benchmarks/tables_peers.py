"""A peer of TableModel on a table, in an environment that has sdv and ctgan; `benchmarks/tables.py --peers` runs it.

    python benchmarks/tables_peers.py ctgan train.csv sample.csv --seconds 60 --rows 5000

Writes a sample; prints the seconds of processor time and the epochs of the fit. CTGAN gets as many epochs as fit into
the seconds, by the time that its first ones take; a Gaussian copula takes what it takes.
"""

import argparse
import json
import time

import pandas as pd
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer


def ctgan(metadata, train, seconds):
    """A CTGAN of about so many seconds, and its epochs."""

    def fitted(epochs):
        synthesizer = CTGANSynthesizer(metadata, epochs=epochs, enable_gpu=False)
        start = time.process_time()
        synthesizer.fit(train)
        return synthesizer, time.process_time() - start

    one, three = fitted(1)[1], fitted(3)[1]
    per_epoch = max((three - one) / 2, 1e-3)
    epochs = max(1, int((seconds - (one - per_epoch)) / per_epoch))
    return epochs, fitted(epochs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=["gaussian_copula", "ctgan"])
    parser.add_argument("train", help="a CSV file")
    parser.add_argument("sample", help="the CSV file to write")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    train = {"table": pd.read_csv(arguments.train)}
    metadata = Metadata.detect_from_dataframes(train, infer_keys=None)
    if arguments.method == "ctgan":
        epochs, (synthesizer, seconds) = ctgan(metadata, train, arguments.seconds)
    else:
        epochs, synthesizer, start = None, GaussianCopulaSynthesizer(metadata), time.process_time()
        synthesizer.fit(train)
        seconds = time.process_time() - start
    synthesizer.sample(arguments.rows)["table"].to_csv(arguments.sample, index=False)
    print(json.dumps({"seconds": seconds, "epochs": epochs}))


if __name__ == "__main__":
    main()
