"""Published experiments by name: the flow, the optimizer and the schedule of a paper, and the figure it reports."""

import difflib
from collections.abc import Iterator, Mapping

from tfp_flows.experiments.experiment import Experiment, Figure, Training
from tfp_flows.experiments.ffjord import EXPERIMENTS as _FFJORD
from tfp_flows.experiments.glow import EXPERIMENTS as _GLOW
from tfp_flows.experiments.maf import EXPERIMENTS as _MAF
from tfp_flows.experiments.nsf import EXPERIMENTS as _NSF

__all__ = ["Experiment", "Figure", "Training", "experiments"]


class Experiments(Mapping):
    """Published experiments by name, "method/data": a read-only mapping from names to `Experiment`s.

    The methods are "made", "maf" and "maf-10" (Papamakarios et al. 2017, arXiv 1705.07057, table 1), "ffjord"
    (Grathwohl et al. 2019, arXiv 1810.01367, table 2), "nsf-c" and "nsf-ar" (Durkan et al. 2019, arXiv 1906.04032,
    table 1), each for the data "power", "gas", "hepmass", "miniboone" and "bsds300"; and "glow" (Kingma & Dhariwal
    2018, arXiv 1807.03039, table 2) for "cifar10", "imagenet32", "imagenet64", "lsun-bedroom", "lsun-tower" and
    "lsun-church".

    Raises: KeyError for an unknown name, with the names that are near.

    Example:

    >>> import tfp_flows as tff
    >>> experiment = tff.experiments["nsf-ar/power"]
    >>> experiment.reported.value, experiment.unit
    (0.66, 'nats')
    >>> [name for name in tff.experiments if name.endswith("/gas")]
    ['made/gas', 'maf/gas', 'maf-10/gas', 'ffjord/gas', 'nsf-c/gas', 'nsf-ar/gas']
    """

    def __init__(self, entries: list[Experiment]) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Experiment:
        if name not in self._entries:
            near = difflib.get_close_matches(str(name), self._entries, n=5, cutoff=0.5) or list(self._entries)
            raise KeyError(f"Expected the name of an experiment, such as {', '.join(near)}. Received: {name!r}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Experiments({', '.join(self._entries)})"


experiments = Experiments([*_MAF, *_FFJORD, *_NSF, *_GLOW])
