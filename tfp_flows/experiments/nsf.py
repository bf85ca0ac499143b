"""Durkan et al. 2019, "Neural Spline Flows", arXiv 1906.04032: table 1, RQ-NSF (C) and RQ-NSF (AR).

The structure and the optimizer are those of section 5.1 and of the authors' script, github.com/bayesiains/nsf,
experiments/uci.py. Steps, widths, blocks, bins and dropout are still to be compared with appendix B.1.
"""

from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, conditioners
from tfp_flows._arguments import split_seed
from tfp_flows.experiments.experiment import Experiment, Figure, Training
from tfp_flows.experiments.tabular import TABLES
from tfp_flows.flows.flow import flow_of

# Test log-likelihoods, in nats, with two standard errors; rows per step, steps, learning rate; layers, residual blocks,
# their width, bins, dropout.
_COUPLING = {
    "power": (Figure(0.64, 0.01), 512, 400_000, 5e-4, 10, 2, 256, 8, 0.0),
    "gas": (Figure(13.09, 0.02), 512, 400_000, 5e-4, 10, 2, 256, 8, 0.1),
    "hepmass": (Figure(-14.75, 0.03), 256, 400_000, 5e-4, 20, 1, 128, 8, 0.2),
    "miniboone": (Figure(-9.67, 0.47), 128, 200_000, 3e-4, 10, 1, 32, 4, 0.2),
    "bsds300": (Figure(157.54, 0.28), 512, 400_000, 5e-4, 20, 1, 128, 8, 0.2),
}
_AUTOREGRESSIVE = {
    "power": (Figure(0.66, 0.01), 512, 400_000, 5e-4, 10, 2, 256, 8, 0.0),
    "gas": (Figure(13.09, 0.02), 512, 400_000, 5e-4, 10, 2, 256, 8, 0.1),
    "hepmass": (Figure(-14.01, 0.03), 512, 400_000, 5e-4, 10, 2, 256, 8, 0.2),
    "miniboone": (Figure(-9.22, 0.48), 64, 250_000, 3e-4, 10, 1, 64, 4, 0.2),
    "bsds300": (Figure(157.31, 0.28), 512, 400_000, 5e-4, 10, 2, 512, 8, 0.2),
}
_DIFFERENCES = (
    "Going from data to noise the inverse of a spline, and of a matrix P L U, is what the paper has as the spline and "
    "the matrix; the matrices come without a shift. Steps, widths, blocks, bins and dropout are still to be compared "
    "with the paper's appendix."
)


def _make_coupling(
    event_shape, seed, *, num_layers, hidden_units, num_bins, bound, dropout, unconditional
) -> tfd.Distribution:
    size = event_shape[0]

    def layer(k, *, dtype, seed, **shared):
        # Every other coordinate, from the first and from the second in turn.
        unchanged = [(i + k) % 2 == 1 for i in range(size)]
        network = conditioners.ResidualMLP(
            sum(unchanged),
            (3 * num_bins - 1) * (size - sum(unchanged)),
            hidden_units,
            dropout=dropout,
            seed=seed,
            dtype=dtype.name,
        )
        return bijectors.NeuralSplineCoupling(
            size,
            unchanged,
            network,
            unconditional=unconditional,
            num_bins=num_bins,
            bound=bound,
            dtype=dtype,
            seed=seed,
            name=f"coupling_{k}",
            **shared,
        )

    return _between_matrices(layer, size, num_layers, seed)


def _make_autoregressive(event_shape, seed, *, num_layers, hidden_units, num_bins, bound) -> tfd.Distribution:
    size = event_shape[0]

    def layer(k, **shared):
        return bijectors.NeuralSplineAutoregressive(
            size,
            num_bins=num_bins,
            bound=bound,
            residual=True,
            hidden_units=hidden_units,
            name=f"autoregression_{k}",
            **shared,
        )

    return _between_matrices(layer, size, num_layers, seed)


def _between_matrices(layer, size, num_layers, seed):
    """The flow of `num_layers` times a matrix and a layer, the k-th of `layer(k, ...)`, and a last matrix."""

    def layers(*, dtype, seed, **shared):
        *seeds, last_seed = split_seed(seed, num_layers + 1)
        parts = [
            [_linear(size, layer_seed, dtype, k), layer(k, dtype=dtype, seed=layer_seed, **shared)]
            for k, layer_seed in enumerate(seeds)
        ]
        return [*parts, [_linear(size, last_seed, dtype, num_layers)]]

    return flow_of(layers, size, standardize=False, seed=seed)


def _linear(size, seed, dtype, k):
    return bijectors.LULinear(size, permute=True, dtype=dtype, seed=seed, name=f"lu_{k}")


def _experiment(method, name):
    is_coupling = method == "nsf-c"
    rows = (_COUPLING if is_coupling else _AUTOREGRESSIVE)[name]
    reported, batch_size, num_steps, learning_rate, num_layers, num_blocks, width, num_bins, dropout = rows
    table = TABLES[name]
    settings = {
        "num_layers": num_layers,
        "hidden_units": (width,) * num_blocks,
        "num_bins": num_bins,
        "bound": 3.0,
    }
    differences = _DIFFERENCES
    if is_coupling:
        settings.update(dropout=dropout, unconditional=True)
    elif dropout:
        differences += f" The masked networks have no dropout; the paper's have {dropout}."
    return Experiment(
        name=f"{method}/{name}",
        paper=f"Durkan et al. 2019, arXiv 1906.04032, table 1: RQ-NSF ({'C' if is_coupling else 'AR'})",
        unit="nats",
        reported=reported,
        event_shape=(table.num_columns,),
        num_rows=table.num_rows,
        data=table.data,
        is_standardized=table.is_standardized,
        settings=settings,
        training=Training(batch_size, learning_rate, "cosine", num_steps, validation_steps=250, clip_norm=5.0),
        differences=differences,
        make=_make_coupling if is_coupling else _make_autoregressive,
    )


EXPERIMENTS = [_experiment(method, name) for method in ("nsf-c", "nsf-ar") for name in TABLES]
