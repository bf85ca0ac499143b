"""The five tables that density estimators are compared on since Papamakarios et al. 2017."""

import dataclasses

# What `fit` expects: the arrays that the scripts of the paper make of the files.
_STANDARDIZED = (
    "standardized by the training and validation data, as the scripts of Papamakarios et al. 2017 (appendix D) make "
    "them of the files at doi 10.5281/zenodo.1161203"
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the benchmark: columns, rows of training, validation and test data, and what they are."""

    num_columns: int
    num_rows: tuple[int, int, int]
    data: str
    is_standardized: bool = True


TABLES = {
    "power": Table(
        6, (1_659_917, 184_435, 204_928), f"power consumption of a household, with noise below a digit, {_STANDARDIZED}"
    ),
    "gas": Table(
        8, (852_174, 94_685, 105_206), f"sensors in mixtures of gases, without correlated columns, {_STANDARDIZED}"
    ),
    "hepmass": Table(
        21, (315_123, 35_013, 174_987), f"collisions of particles, the signal of mass 1000, {_STANDARDIZED}"
    ),
    "miniboone": Table(43, (29_556, 3_284, 3_648), f"electron neutrinos among muon neutrinos, {_STANDARDIZED}"),
    "bsds300": Table(
        63,
        (1_000_000, 50_000, 250_000),
        "8x8 patches of grey photographs in [0, 1] with noise below a level, less the patch's mean, without the last "
        "pixel, as in the files at doi 10.5281/zenodo.1161203; not standardized",
        is_standardized=False,
    ),
}
