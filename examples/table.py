"""A table in, its density out: which of its rows are unlike the others, and rows that could be among them.

Breast cancer has 30 sizes of cell nuclei, which are positive, rounded and correlated, and a label. The example needs
scikit-learn, which brings the table: pip install '.[tables]'. With --csv it takes a table of yours.

python examples/table.py --output out
"""

import argparse
import pathlib

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

import tfp_flows as tff


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    parser.add_argument("--csv", type=pathlib.Path, help="a table of yours in place of breast cancer")
    parser.add_argument("--epochs", type=int, help="maximum number of passes over the data")
    parser.add_argument("--layers", type=int, default=5, help="layers of the flow")
    parser.add_argument("--rows", type=int, default=100_000, help="rows to take at most")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    frame = pd.read_csv(arguments.csv) if arguments.csv else load_breast_cancer(as_frame=True).frame
    frame = frame.sample(min(len(frame), arguments.rows), random_state=0)
    train, test = frame[: len(frame) * 4 // 5], frame[len(frame) * 4 // 5 :]

    # What each column is was found; `kinds=` and `bounds=` say otherwise.
    model = tff.TableModel.from_data(frame, num_layers=arguments.layers, seed=0)
    print(model.columns)
    model.fit(train, epochs=arguments.epochs, verbose=0)
    print(f"mean log p: training {-model.evaluate(train):.2f} nats, held out {-model.evaluate(test):.2f} nats")

    log_prob = model.log_prob(test)
    print(f"the held-out row that is least like the table, at {log_prob.min():.1f} nats:")
    print(test.iloc[np.argmin(log_prob)].to_string(max_rows=10))

    sample = model.sample(1000, seed=1)
    sample.to_csv(arguments.output / "sample.csv", index=False)
    numbers = frame.select_dtypes("number").columns
    difference = np.abs(sample[numbers].corr() - frame[numbers].corr()).max().max()
    print(f"correlations of 1000 sampled rows differ from the table's by at most {difference:.2f}")

    model.save(arguments.output / "table.keras")
    again = tff.TableModel.load(arguments.output / "table.keras")
    np.testing.assert_allclose(again.log_prob(test), log_prob, rtol=1e-4)
    print(f"wrote sample.csv and table.keras to {arguments.output}")


if __name__ == "__main__":
    main()
