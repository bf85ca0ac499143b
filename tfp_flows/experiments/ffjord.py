"""Grathwohl et al. 2019, "FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models".

arXiv 1810.01367: table 2. The settings are those of the table of tabular models in the appendix and of the authors'
script, github.com/rtqichen/ffjord, train_tabular.py; the errors, over three runs, are in table 1 of Durkan et al. 2019,
arXiv 1906.04032, too.
"""

import functools

from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, flows
from tfp_flows._arguments import split_seed
from tfp_flows.experiments.experiment import Experiment, Figure, Training
from tfp_flows.experiments.tabular import TABLES
from tfp_flows.flows.flow import flow_of

# Test log-likelihoods, in nats; activation, hidden layers, their width in units of D, equations, rows per step.
_TABLE = {
    "power": (Figure(0.46, 0.01), "tanh", 3, 10, 5, 10_000),
    "gas": (Figure(8.59, 0.12), "tanh", 3, 20, 5, 1_000),
    "hepmass": (Figure(-14.92, 0.08), "softplus", 2, 10, 10, 10_000),
    "miniboone": (Figure(-10.43, 0.04), "softplus", 2, 20, 1, 1_000),
    "bsds300": (Figure(157.40, 0.19), "softplus", 3, 20, 2, 10_000),
}


def _make(event_shape, seed, *, num_flows, hidden_units, activation, rtol, atol) -> tfd.Distribution:
    size = event_shape[0]

    def layers(*, seed, **shared):
        return [
            [
                bijectors.Continuous(
                    size,
                    trace="hutchinson",
                    noise="normal",
                    hidden_units=hidden_units,
                    activation=activation,
                    rtol=rtol,
                    atol=atol,
                    seed=layer_seed,
                    name=f"continuous_{k}",
                    **shared,
                )
            ]
            for k, layer_seed in enumerate(split_seed(seed, num_flows))
        ]

    return flow_of(layers, size, standardize=False, seed=seed)


def _experiment(name):
    reported, activation, num_hidden, multiple, num_flows, batch_size = _TABLE[name]
    table = TABLES[name]
    return Experiment(
        name=f"ffjord/{name}",
        paper="Grathwohl et al. 2019, arXiv 1810.01367, table 2: FFJORD",
        unit="nats",
        reported=reported,
        event_shape=(table.num_columns,),
        num_rows=table.num_rows,
        data=table.data,
        is_standardized=table.is_standardized,
        settings={
            "num_flows": num_flows,
            "hidden_units": (multiple * table.num_columns,) * num_hidden,
            "activation": activation,
            "rtol": 1e-5,
            "atol": 1e-5,
        },
        training=Training(batch_size, 1e-3, schedule="plateau", validation_steps=200, patience=30, weight_decay=1e-6),
        differences=(
            "The time enters every hidden layer by cosines, and not every layer as a number or a gate. "
            "Each equation runs from 0 to 1, and not to a time that is trained. "
            "Gradients are those of the solver's steps, and not of the adjoint equation. "
            "Validation during training uses one draw of the noise; `evaluate` uses the exact trace."
        ),
        make=_make,
        exact=functools.partial(flows.with_solver, trace="exact"),
    )


EXPERIMENTS = [_experiment(name) for name in TABLES]
