"""Simple densities that a model should beat: a Gaussian, independent columns, a tree of pairs."""

import numpy as np

GROUPS = 8  # into which the tree cuts a column


class Marginal:
    """The distribution of one column: atoms, and between them a histogram.

    An atom a has the probability P(x = a). Everywhere else the density is that of a histogram: its bins have equal
    probabilities and quantiles of the data as edges, and its two outer bins are exponential tails.

    Arguments:
      values: `[n]` floats; NaN, for a missing value, is an atom.
      is_discrete: whether every value is an atom.
      atoms: the values that are.
      unit: of the density's numbers, in one of `values`: 86,400 for a density per second of values in days; and for
        values of a step h, which have the probabilities of their cells, 1 / h.
    """

    def __init__(self, values, is_discrete=False, atoms=(), unit=1.0):
        self.log_unit = np.log(unit)
        missing = np.isnan(values)
        self.atoms = np.unique(values[~missing]) if is_discrete else np.unique(np.asarray(atoms, np.float64))
        on_atom = self._on_atom(values)
        # Half a row more for each atom, for missing values and for all that was never seen: no probability is 0.
        counts = np.array([np.sum(on_atom == k) for k in range(len(self.atoms))], np.float64)
        total = len(values) + 0.5 * (len(self.atoms) + 2)
        self.log_atoms = np.log((counts + 0.5) / total)
        self.log_missing = np.log((missing.sum() + 0.5) / total)
        rest = values[(on_atom < 0) & ~missing]
        self.log_rest = np.log((len(rest) + 0.5) / total)
        self.edges, self.log_density, self.tails = _histogram(rest)
        self.cuts = np.unique(self.edges[:: max(1, len(self.edges) // GROUPS)])

    def _on_atom(self, values):
        """The number of the atom that each value is; -1 for none."""
        if not len(self.atoms):
            return np.full(len(values), -1)
        place = np.clip(np.searchsorted(self.atoms, values), 0, len(self.atoms) - 1)
        return np.where(self.atoms[place] == values, place, -1)

    def log_prob(self, values):
        """log p, `[n]`: of probabilities at atoms, of densities elsewhere."""
        inside = np.clip(np.searchsorted(self.edges, values, side="right"), 0, len(self.edges))
        below, above = self.edges[0] - values, values - self.edges[-1]
        log_density = self.log_density[inside]
        log_density = log_density - np.maximum(below, 0) / self.tails[0] - np.maximum(above, 0) / self.tails[1]
        on_atom = self._on_atom(values)
        found = self.log_rest + log_density - self.log_unit
        if len(self.atoms):
            found = np.where(on_atom >= 0, self.log_atoms[on_atom], found)
        return np.where(np.isnan(values), self.log_missing, found)

    def groups(self, values):
        """The number of the group that each value is in: its atom, a piece of the histogram, or missing, `[n]`."""
        pieces = len(self.cuts) + 1
        on_atom = self._on_atom(values)
        found = np.where(on_atom >= 0, pieces + on_atom, np.searchsorted(self.cuts, values, side="right"))
        return np.where(np.isnan(values), pieces + len(self.atoms), found)

    def log_groups(self):
        """The log-probability of each group, `[G]`."""
        width = np.diff(self.edges)
        mass = np.exp(self.log_density) * np.concatenate([self.tails[:1], width, self.tails[1:]])
        piece = np.searchsorted(self.cuts, [-np.inf, *self.edges], side="right")
        pieces = np.bincount(piece, mass, len(self.cuts) + 1)
        with np.errstate(divide="ignore"):  # no piece is asked for that holds nothing
            return np.concatenate([self.log_rest + np.log(pieces), self.log_atoms, [self.log_missing]])


def _histogram(values):
    """Edges `[K + 1]`, log-densities `[K + 3]` of the bins and of the tails at their edges, scales of the two tails."""
    if not len(values):
        return np.array([0.0]), np.full(2, -np.log(2.0)), np.ones(2)
    bins = int(np.clip(2 * len(values) ** (1 / 3), 2, 200))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    # No tail shorter than this, so that data with a hard end has no infinite density there.
    shortest = 1e-3 * (np.ptp(values) or abs(values[0]) or 1.0)
    below, above = values[values < edges[0]], values[values >= edges[-1]]
    tails = np.array([_mean(edges[0] - below), _mean(above - edges[-1])]).clip(shortest)
    between = np.histogram(values[(values >= edges[0]) & (values < edges[-1])], edges)[0] if len(edges) > 1 else []
    counts = np.array([len(below), *between, len(above)]) + 0.5
    widths = np.array([tails[0], *np.diff(edges), tails[1]])
    return edges, np.log(counts / counts.sum() / widths), tails


def _mean(values):
    return values.mean() if len(values) else 0.0


class Independent:
    """Every column independently of all others, and of the context.

    Arguments:
      contexts: `[n, C]`, unused.
      x: `[n, D]`.
      marginal: called with a column's values and its number, gives its `Marginal`.
    """

    name = "independent columns"

    def __init__(self, contexts, x, marginal):
        self.marginals = [marginal(column, k) for k, column in enumerate(x.T)]

    def per_column(self, x):
        """log p of every value, `[n, D]`."""
        return np.stack([m.log_prob(column) for m, column in zip(self.marginals, x.T, strict=True)], 1)

    def log_prob(self, contexts, x):
        return self.per_column(x).sum(1)


class Tree(Independent):
    """Every column given one other, its parent: a context or a column before it.

    p(x | c) = Π_j p_j(x_j) P(g_j | g_parent(j)) / P(g_j), where g is the group, one of about eight, that a value is in.
    The tree has the largest sum of mutual informations between groups: Chow and Liu 1968, IEEE Trans. Inf. Theory 14.
    """

    name = "tree of pairs (Chow-Liu)"

    def __init__(self, contexts, x, marginal):
        super().__init__(contexts, x, marginal)
        self.context_marginals = [Marginal(column) for column in contexts.T]
        groups = self._groups(contexts, x)
        sizes = [len(m.log_groups()) for m in (*self.context_marginals, *self.marginals)]
        reached = list(range(contexts.shape[1])) or [0]
        self.edges = []  # (child, parent, log P(child's group | parent's)), columns of contexts first
        missing = [k for k in range(len(groups)) if k not in reached]
        information = {
            (j, k): mutual_information(groups[j], groups[k]) for j in missing for k in range(len(groups)) if j != k
        }
        while missing:
            child, parent = max(((j, k) for j in missing for k in reached), key=information.get)
            counts = np.zeros([sizes[parent], sizes[child]])
            np.add.at(counts, (groups[parent], groups[child]), 1)
            # Rows of the table are smoothed towards the child's own distribution, with the weight of a few rows.
            prior = np.exp(self._marginal(child).log_groups())
            table = (counts + 4 * prior) / (counts.sum(1, keepdims=True) + 4 * prior.sum())
            self.edges.append((child, parent, table))
            reached.append(child)
            missing.remove(child)

    def _marginal(self, k):
        return [*self.context_marginals, *self.marginals][k]

    def _groups(self, contexts, x):
        columns = [*contexts.T, *x.T]
        return [self._marginal(k).groups(column) for k, column in enumerate(columns)]

    def log_prob(self, contexts, x):
        total = super().log_prob(contexts, x)
        groups = self._groups(contexts, x)
        for child, parent, table in self.edges:
            own = self._marginal(child).log_groups()[groups[child]]
            total = total + np.log(table[groups[parent], groups[child]]) - own
        return total


class Gaussian:
    """A normal distribution of all columns; with contexts, a linear regression on them.

    Columns with atoms, such as categories, are taken as independent.
    """

    name = "Gaussian"

    def __init__(self, contexts, x, marginal):
        marginals = [marginal(column, k) for k, column in enumerate(x.T)]
        self.is_normal = np.array(
            [not len(m.atoms) and not np.isnan(c).any() for m, c in zip(marginals, x.T, strict=True)]
        )
        self.others = [(k, marginals[k]) for k in np.flatnonzero(~self.is_normal)]
        self.log_units = sum(marginals[k].log_unit for k in np.flatnonzero(self.is_normal))
        self.context_fill = np.nan_to_num(np.nanmean(contexts, 0)) if contexts.shape[1] else None
        joint = self._joint(contexts, x)
        self.mean, self.scale = joint.mean(0), np.where(joint.std(0) > 0, joint.std(0), 1)
        covariance = np.cov((joint - self.mean) / self.scale, rowvar=False).reshape(joint.shape[1], joint.shape[1])
        self.covariance = covariance + 1e-6 * np.eye(len(covariance))  # columns may be multiples of each other

    def _joint(self, contexts, x):
        contexts = np.where(np.isnan(contexts), self.context_fill, contexts) if contexts.shape[1] else contexts
        return np.concatenate([contexts, x[:, self.is_normal]], 1)

    def log_prob(self, contexts, x):
        joint, size = (self._joint(contexts, x) - self.mean) / self.scale, contexts.shape[1]
        total = self._normal(joint) - self._normal(joint[:, :size]) - np.log(self.scale[size:]).sum()
        return total - self.log_units + sum(marginal.log_prob(x[:, k]) for k, marginal in self.others)

    def _normal(self, standardized):
        """The log-density of the first columns."""
        size = standardized.shape[1]
        if not size:
            return np.zeros(len(standardized))
        factor = np.linalg.cholesky(self.covariance[:size, :size])
        z = np.linalg.solve(factor, standardized.T)
        return -0.5 * (z**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * size * np.log(2 * np.pi)


def mutual_information(one, other):
    """The mutual information of two columns of group numbers, in nats, less what independent columns would show."""
    _, one = np.unique(one, return_inverse=True)
    _, other = np.unique(other, return_inverse=True)
    joint = np.zeros([one.max() + 1, other.max() + 1])
    np.add.at(joint, (one, other), 1 / len(one))
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    found = np.sum(joint[seen] * np.log(joint[seen] / independent[seen]))
    # Miller and Madow: on average n independent rows show (rows - 1)(columns - 1) / 2n.
    return found - (joint.shape[0] - 1) * (joint.shape[1] - 1) / (2 * len(one))


def compare(log_prob, train, test, marginal):
    """How held-out rows fare under each baseline, beside the model.

    Arguments:
      log_prob: the model's, `[n]`.
      train: (contexts, x) to fit the baselines to; None to fit them to one half of the held-out rows, score the other,
        and the other way round.
      test: (contexts, x), the held-out rows.
      marginal: as in `Independent`.

    Returns: a list of dictionaries: the name, the mean, and the model's lead with its standard error, in nats per row.
    """
    contexts, x = test
    found = []
    for baseline in (Gaussian, Independent, Tree):
        if train is not None:
            values = baseline(*train, marginal).log_prob(contexts, x)
        else:
            values = np.empty(len(x))
            halves = np.arange(len(x)) % 2 == 0
            for fitted, scored in ((halves, ~halves), (~halves, halves)):
                model = baseline(contexts[fitted], x[fitted], marginal)
                values[scored] = model.log_prob(contexts[scored], x[scored])
        lead = (log_prob - values)[np.isfinite(log_prob)]
        found.append(
            {
                "name": baseline.name,
                "log_likelihood": float(values.mean()),
                "lead": float(lead.mean()),
                "standard_error": float(lead.std(ddof=1) / np.sqrt(len(lead))),
            }
        )
    return found
