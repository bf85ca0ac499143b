"""Papamakarios et al. 2017, "Masked Autoregressive Flow for Density Estimation", arXiv 1705.07057: table 1.

The settings are those of section 4 and of the authors' script, github.com/gpapamak/maf, run_experiments.py.
"""

from tensorflow_probability import distributions as tfd

from tfp_flows import flows
from tfp_flows.experiments.experiment import Experiment, Figure, Training
from tfp_flows.experiments.tabular import TABLES

# Test log-likelihoods, in nats, with two standard errors.
_FIGURES = {
    "power": {"MADE": (-3.08, 0.03), "MAF (5)": (0.14, 0.01), "MAF (10)": (0.24, 0.01)},
    "gas": {"MADE": (3.56, 0.04), "MAF (5)": (9.07, 0.02), "MAF (10)": (10.08, 0.02)},
    "hepmass": {"MADE": (-20.98, 0.02), "MAF (5)": (-17.70, 0.02), "MAF (10)": (-17.73, 0.02)},
    "miniboone": {"MADE": (-15.59, 0.50), "MAF (5)": (-11.75, 0.44), "MAF (10)": (-12.24, 0.45)},
    "bsds300": {"MADE": (148.85, 0.28), "MAF (5)": (155.69, 0.28), "MAF (10)": (154.93, 0.28)},
}
_WIDTHS = {"power": 100, "gas": 100, "hepmass": 512, "miniboone": 512, "bsds300": 512}
_METHODS = {"made": ("MADE", 1, 1e-3), "maf": ("MAF (5)", 5, 1e-4), "maf-10": ("MAF (10)", 10, 1e-4)}


def _make(event_shape, seed, *, num_layers, hidden_units, activation) -> tfd.Distribution:
    return flows.maf(
        event_shape[0],
        num_layers=num_layers,
        hidden_units=hidden_units,
        activation=activation,
        log_scale_bound=10.0,
        act_norm=num_layers > 1,
        standardize=False,
        seed=seed,
    )


def _experiment(method, name):
    label, num_layers, learning_rate = _METHODS[method]
    table, width = TABLES[name], _WIDTHS[name]
    widths = "512 and 1024 units" if name == "bsds300" else f"{width} units"
    differences = [
        f"The paper chooses between one and two hidden layers of {widths} by the validation data and does not say "
        f"which it took; here there are two of {width} units.",
        "The penalty 1e-6 |w|² is a decay beside Adam, not a term of the loss.",
        "Log-scales stay within ±10.",
    ]
    if num_layers > 1:
        differences.append("`ActNorm` stands before every layer where the paper has batch normalization after it.")
    return Experiment(
        name=f"{method}/{name}",
        paper=f"Papamakarios et al. 2017, arXiv 1705.07057, table 1: {label}",
        unit="nats",
        reported=Figure(*_FIGURES[name][label]),
        event_shape=(table.num_columns,),
        num_rows=table.num_rows,
        data=table.data,
        is_standardized=table.is_standardized,
        settings={
            "num_layers": num_layers,
            "hidden_units": (width, width),
            "activation": "tanh" if name == "gas" else "relu",
        },
        training=Training(batch_size=100, learning_rate=learning_rate, patience=30, weight_decay=1e-6),
        differences=" ".join(differences),
        make=_make,
    )


EXPERIMENTS = [_experiment(method, name) for method in _METHODS for name in TABLES]
