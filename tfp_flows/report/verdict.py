"""Where a model can be trusted and where not, in three sentences. All rules are here."""

# The classifier's success below which draws pass for data, and above which they do not.
AUC_GOOD, AUC_BAD = 0.65, 0.8
# Standard errors by which a difference must exceed its noise.
CERTAIN = 3.0
# Share of draws with a value that the data never has, above which a column is named.
IMPOSSIBLE = 0.01
# Share of draws nearer to training rows than held-out rows are; 0.5 if nothing was memorized.
MEMORIZED = 0.55
# Difference of two correlations that matters.
CORRELATION = 0.1
# Distance of two distribution functions that matters.
DISTANCE = 0.1
# Share of held-out rows without a density, for a value that training data lacked, that is a small matter.
FEW_WITHOUT = 0.01
# Rows below which no check says much.
FEW_ROWS = 200


def verdict(numbers):
    """Three sentences: of the densities, of the draws, and of where the model fails.

    Arguments:
      numbers: what a report has measured, as in report.json.

    Returns: a list of three dictionaries with "grade", one of "good", "fair" and "bad", and "sentence".
    """
    return [_densities(numbers), _draws(numbers), _places(numbers)]


def _densities(numbers):
    infinite = numbers["log_likelihood"]["rows_without_density"]
    rows = numbers["held_out"]["used"]
    if infinite > FEW_WITHOUT * rows:
        return _sentence("bad", f"The densities cannot be trusted: {infinite} of {rows} held-out rows have none.")
    best = max(numbers["baselines"], key=lambda baseline: baseline["log_likelihood"])
    lead, error = best["lead"], best["standard_error"]
    beaten = f"the best simple model, {_article(best['name'])},"
    if lead < -CERTAIN * error:
        return _sentence(
            "bad", f"The densities cannot be trusted: {beaten} gives held-out rows {-lead:.2f} ± {error:.2f} nats more."
        )
    gain = f"held-out rows have {lead:.2f} ± {error:.2f} nats more than under {beaten}"
    coverage = numbers["coverage"]
    if not coverage["inside"]:
        excess = coverage["largest_excess"]
        fault = "too narrow" if excess < 0 else "too wide"
        off = f"the regions of given probability are off by up to {100 * abs(excess):.0f} points ({fault})"
        grade = "bad" if abs(excess) > 0.1 else "fair"
        trust = "cannot be trusted" if grade == "bad" else "can be trusted with care"
        return _sentence(grade, f"The densities {trust}: {gain} but {off}.")
    if lead < CERTAIN * error:
        return _sentence("fair", f"The densities are no better than simple ones: {gain} although coverage is right.")
    return _sentence("good", f"The densities can be trusted: {gain} and coverage is right at every level.")


def _draws(numbers):
    test = numbers["classifier"]
    area, error = test["auc"], test["standard_error"]
    told = f"a classifier tells them from data with AUC {area:.2f} (0.5 is chance, 1 is certainty)"
    columns = [f"`{column['name']}`" for column in test["columns"][:3] if column["importance"] > 0.01]
    by = f", mostly by {', '.join(columns)}" if columns and area > 0.5 + CERTAIN * error else ""
    if area <= AUC_GOOD:
        return _sentence("good", f"Its draws can stand for data: {told}{by}.")
    if area <= AUC_BAD:
        return _sentence("fair", f"Its draws resemble data: {told}{by}.")
    return _sentence("bad", f"Its draws cannot stand for data: {told}{by}.")


def _places(numbers):
    """Where not to trust the model: every finding that exceeds its noise."""
    found, rows = [], numbers["held_out"]["used"]
    impossible = [column for column in numbers["columns"] if column["impossible"] > IMPOSSIBLE]
    for column in sorted(impossible, key=lambda column: -column["impossible"]):
        found.append(f"`{column['name']}` ({100 * column['impossible']:.0f} % of draws are {column['why']})")
    named = {column["name"] for column in impossible}
    for column in sorted(numbers["columns"], key=lambda column: -column["distance"]):
        if column["distance"] > max(DISTANCE, numbers["noise"]) and column["name"] not in named:
            found.append(f"`{column['name']}` (its distribution is off by {100 * column['distance']:.0f} points)")
    for pair in numbers["correlations"]["largest"][:2]:
        difference = abs(pair["data"] - pair["drawn"])
        if difference > max(CORRELATION, CERTAIN * pair["standard_error"]):
            one, other = pair["columns"]
            found.append(f"`{one}` with `{other}` (correlation {pair['drawn']:.2f} instead of {pair['data']:.2f})")
    secret = numbers["nearest"]
    if secret and secret["nearer"] > max(MEMORIZED, 0.5 + CERTAIN * secret["standard_error"]):
        share = f"{100 * secret['nearer']:.0f} % of draws lie nearer to a training row than a held-out row does"
        found.append(f"privacy ({share})")
    infinite = numbers["log_likelihood"]["rows_without_density"]
    if infinite:
        found.append(f"rows with values that it calls impossible ({infinite} of {rows} held-out rows have no density)")
    drift = numbers["drift"]
    if drift and drift["classifier"]["auc"] > max(AUC_GOOD, 0.5 + CERTAIN * drift["classifier"]["standard_error"]):
        names = [f"`{column['name']}`" for column in drift["columns"][:2] if column["distance"] > drift["noise"]]
        found.append(f"the new table, which has drifted{' in ' + ' and '.join(names) if names else ''}")
    if rows < FEW_ROWS:
        found.append(f"anything finer than {rows} held-out rows can show")
    if not found:
        return _sentence("good", f"Nothing stood out in {rows} held-out rows: no column, no pair, no copied row.")
    grade = "bad" if len(found) > 3 or any(column["impossible"] > 0.1 for column in impossible) else "fair"
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return _sentence(grade, f"Do not trust it for {'; '.join(found[:4])}{more}.")


def _sentence(grade, sentence):
    return {"grade": grade, "sentence": sentence}


def _article(name):
    return name if name.startswith("independent") else f"a {name}"
