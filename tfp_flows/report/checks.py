"""What is measured: draws against data, column by column, in pairs, and all together."""

import numpy as np

from tfp_flows.report.baselines import Marginal, mutual_information

MOST_PAIRS_OF = 40  # columns, beyond which pairs are too many to look at


def classifier_test(real, drawn, names, is_category, seed):
    """A classifier's success in telling drawn rows from real ones: 0.5 if they have one distribution, 1 if never alike.

    Gradient-boosted trees see half of the rows and judge the other half, and the other way round. A column's importance
    is what the success loses when the column is shuffled.

    Arguments:
      real, drawn: `[n, D]`, row by row for the same contexts.

    Returns: the area under the ROC curve with its standard error (Hanley and McNeil 1982, Radiology 143), and the
      columns by importance.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits

    # Trees take up to 255 categories; of more, each is an ordinary number.
    few = is_category & (np.nan_to_num(np.nanmax(np.concatenate([real, drawn]), 0)) < 250)
    half = np.random.default_rng(seed).permutation(len(real)) % 2 == 0

    def judge(seen, judged):
        trees = HistGradientBoostingClassifier(
            learning_rate=0.05, max_leaf_nodes=8, categorical_features=few, random_state=seed
        )
        trees.fit(np.concatenate([real[seen], drawn[seen]]), np.repeat([0, 1], np.sum(seen)))
        rows, labels = np.concatenate([real[judged], drawn[judged]]), np.repeat([0, 1], np.sum(judged))
        area = roc_auc_score(labels, trees.predict_proba(rows)[:, 1])
        shuffled = permutation_importance(
            trees, rows, labels, scoring="roc_auc", n_repeats=2, max_samples=min(len(rows), 2000), random_state=seed
        )
        return area, shuffled.importances_mean

    # Several threads would mostly wait for each other: the trees are small.
    with threadpool_limits(1):
        areas, importances = zip(judge(half, ~half), judge(~half, half), strict=True)
    area, n = float(np.mean(areas)), len(real)
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (one + two - 2 * area**2)) / n**2
    importance = np.mean(importances, 0)
    columns = [{"name": names[k], "importance": float(importance[k])} for k in np.argsort(-importance)]
    return {"auc": area, "standard_error": float(np.sqrt(max(variance, 0))), "columns": columns, "rows": n}


def compare_columns(data, drawn, names, is_category, reference):
    """Each column of draws beside the data's: where it differs, and values that the data never has.

    `distance` is the largest difference of distribution functions (Kolmogorov and Smirnov), for categories the total
    variation; `impossible` the share of draws that are negative, fractional or unknown where neither data
    nor `reference` ever is.
    """
    found = []
    for k, name in enumerate(names):
        one, other = data[:, k], drawn[:, k]
        row = {
            "name": name,
            "missing": [float(np.isnan(one).mean()), float(np.isnan(other).mean())],
            "distance": distance(one, other, is_category[k]),
        }
        one, other = one[~np.isnan(one)], other[~np.isnan(other)]
        if len(one) and len(other) and not is_category[k]:
            row["mean"] = [float(one.mean()), float(other.mean())]
            row["deviation"] = [float(one.std()), float(other.std())]
            row["range"] = [[float(values.min()), float(values.max())] for values in (one, other)]
        seen = np.concatenate([one, reference[:, k][~np.isnan(reference[:, k])]])
        row["impossible"], row["why"] = _impossible(seen, other, is_category[k])
        found.append(row)
    return found


def _impossible(data, drawn, is_category):
    """The largest share of draws that break a rule which all data keeps, and the rule's name."""
    if not len(data) or not len(drawn):
        return 0.0, ""
    shares = {}
    if not is_category and np.all(data == np.rint(data)):
        if len(np.unique(data)) <= 10:
            shares["none of the data's few values"] = np.mean(~np.isin(drawn, data))
        shares["fractional"] = np.mean(drawn != np.rint(drawn))
    if not is_category and data.min() >= 0:
        shares["negative"] = np.mean(drawn < 0)
    if is_category:
        shares["of a category that the data lacks"] = np.mean(~np.isin(drawn, data))
    why = max(shares, key=shares.get, default="")
    return (float(shares[why]), why) if why and shares[why] > 0 else (0.0, "")


def distance(one, other, is_category):
    """Between the distributions of two columns, from 0 to 1: Kolmogorov-Smirnov, for categories the total variation."""
    from scipy.stats import ks_2samp

    missing = abs(np.isnan(one).mean() - np.isnan(other).mean())
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    if not len(one) or not len(other):
        return float(missing)
    if is_category:
        values = np.union1d(one, other)
        shares = [np.array([np.mean(column == value) for value in values]) for column in (one, other)]
        return float(max(missing, 0.5 * np.abs(shares[0] - shares[1]).sum()))
    return float(max(missing, ks_2samp(one, other, method="asymp").statistic))


def expected_distance(n, m):
    """What `distance` exceeds for one in a thousand columns of one distribution."""
    return float(np.sqrt(-0.5 * np.log(0.001 / 2) * (1 / n + 1 / m)))


def correlations(data, drawn, names, is_category):
    """Rank correlations (Spearman) of the columns of numbers, in data and draws: matrices, and the largest differences.

    A difference is told with its standard error, which is that of two estimates.
    """
    chosen = np.flatnonzero(~is_category)[:MOST_PAIRS_OF]
    matrices = [_spearman(table[:, chosen]) for table in (data, drawn)]
    error = np.sqrt(sum((1 - matrix**2) ** 2 for matrix in matrices) / (len(data) - 1))
    pairs = [
        {
            "columns": [names[chosen[j]], names[chosen[k]]],
            "data": float(matrices[0][j, k]),
            "drawn": float(matrices[1][j, k]),
            "standard_error": float(error[j, k]),
        }
        for j in range(len(chosen))
        for k in range(j)
    ]
    pairs.sort(key=lambda pair: -abs(pair["data"] - pair["drawn"]))
    return {"names": [names[k] for k in chosen], "data": matrices[0], "drawn": matrices[1], "largest": pairs[:5]}


def _spearman(table):
    from scipy.stats import rankdata

    if not table.shape[1]:
        return np.zeros([0, 0])
    # Missing values in the middle, where they add nothing.
    filled = [np.where(np.isnan(column), np.nanmedian(column), column) for column in table.T]
    ranks = np.stack([rankdata(column) for column in filled], 1)
    ranks = ranks - ranks.mean(0)
    length = np.sqrt((ranks**2).sum(0))
    return (ranks.T @ ranks) / np.maximum(np.outer(length, length), 1e-12)  # a constant column correlates with nothing


def dependence(data, drawn, names, is_discrete):
    """Mutual information of every pair of columns, in data and draws, in nats: the largest differences."""
    groups = []
    for k in range(min(data.shape[1], MOST_PAIRS_OF)):
        marginal = Marginal(data[:, k], is_discrete[k])
        groups.append((marginal.groups(data[:, k]), marginal.groups(drawn[:, k])))
    pairs = [
        {
            "columns": [names[j], names[k]],
            "data": float(mutual_information(groups[j][0], groups[k][0])),
            "drawn": float(mutual_information(groups[j][1], groups[k][1])),
        }
        for j in range(len(groups))
        for k in range(j)
    ]
    pairs.sort(key=lambda pair: -abs(pair["data"] - pair["drawn"]))
    return pairs[:5]


def nearest(training, held_out, drawn, is_category, most=1000):
    """Whether draws lie nearer to training rows than held-out rows do: a sign that training rows were memorized.

    The distance is Euclidean, in standard deviations of each column; another category counts as one.

    Returns: the share of draws nearer than a held-out row, 0.5 if nothing was memorized, with its standard error; and
      the shares of draws and of held-out rows that are copies of a training row.
    """
    from sklearn.neighbors import NearestNeighbors

    scale = np.where(np.nanstd(training, 0) > 0, np.nanstd(training, 0), 1)
    center = np.nan_to_num(np.nanmean(training, 0))

    def points(table):
        numbers = np.nan_to_num((table - center) / scale)[:, ~is_category]
        indicators = [(table[:, [k]] == np.unique(training[:, k])) / np.sqrt(2) for k in np.flatnonzero(is_category)]
        return np.concatenate([numbers, *indicators], 1)

    search = NearestNeighbors(n_neighbors=1).fit(points(training))
    n = min(most, len(held_out), len(drawn))
    one, other = (search.kneighbors(points(table[:n]))[0][:, 0] for table in (drawn, held_out))
    nearer = np.mean(one[:, None] < other) + 0.5 * np.mean(one[:, None] == other)
    return {
        "nearer": float(nearer),
        "standard_error": float(np.sqrt(1 / (6 * n))),  # of a rank-sum statistic of two samples of n
        "copies": float(np.mean(one == 0)),
        "copies_held_out": float(np.mean(other == 0)),
        "rows": n,
    }


def worst_rows(log_prob, x, per_column, names, most=10):
    """The held-out rows of the lowest density, each with the column that is the most unusual by itself.

    Arguments:
      per_column: log p of every value under the independent columns, `[n, D]`.
    """
    unusual = per_column - np.median(per_column, 0)
    order = np.argsort(np.where(np.isnan(log_prob), -np.inf, log_prob))[:most]
    return [
        {"row": int(k), "log_prob": _finite(log_prob[k]), "column": names[int(np.argmin(unusual[k]))]} for k in order
    ]


def drift(reference, new, names, is_category, seed):
    """A new table against the one that the model was trained on: column by column, and by a classifier."""
    n = min(len(reference), len(new))
    columns = [
        {"name": name, "distance": distance(reference[:, k], new[:, k], is_category[k])} for k, name in enumerate(names)
    ]
    columns.sort(key=lambda row: -row["distance"])
    rng = np.random.default_rng(seed)
    shuffled = (table[rng.permutation(len(table))[:n]] for table in (reference, new))
    return {
        "columns": columns,
        "noise": expected_distance(len(reference), len(new)),
        "classifier": classifier_test(*shuffled, names, is_category, seed),
    }


def _finite(value):
    return float(value) if np.isfinite(value) else None
