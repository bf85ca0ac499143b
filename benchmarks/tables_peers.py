"""A peer of TableModel on a table, in an environment that has sdv and ctgan; `benchmarks/tables.py --peers` runs it.

    python benchmarks/tables_peers.py ctgan train.csv sample.csv --seconds 60 --rows 5000

Writes a sample; prints the seconds of processor time and the epochs of the fit. CTGAN begins epochs until the seconds
are over; a Gaussian copula takes what it takes.
"""

import argparse
import itertools
import json
import time

import pandas as pd
from ctgan.synthesizers import ctgan
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer


def fit_ctgan(metadata, train, seconds):
    """A CTGAN of so many seconds, and its epochs."""
    end, finished = time.process_time() + seconds, []

    def epochs_in_time(epochs, **options):
        for epoch in itertools.takewhile(lambda epoch: time.process_time() < end, epochs):
            yield epoch
            finished.append(epoch)

    ctgan.tqdm = epochs_in_time  # what its training loop counts its epochs with
    synthesizer = CTGANSynthesizer(metadata, epochs=1_000_000, enable_gpu=False)
    synthesizer.fit(train)
    return len(finished), synthesizer


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
    epochs, start = None, time.process_time()
    if arguments.method == "ctgan":
        epochs, synthesizer = fit_ctgan(metadata, train, arguments.seconds)
    else:
        synthesizer = GaussianCopulaSynthesizer(metadata)
        synthesizer.fit(train)
    seconds = time.process_time() - start
    synthesizer.sample(arguments.rows)["table"].to_csv(arguments.sample, index=False)
    print(json.dumps({"seconds": seconds, "epochs": epochs}))


if __name__ == "__main__":
    main()
