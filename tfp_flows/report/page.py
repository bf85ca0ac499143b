"""The page: measured numbers and pictures as one HTML file that needs nothing else."""

import html
import re

import numpy as np

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --good: #2a9d4a; --fair: #c98a00; --bad: #d43c3c; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; margin: 0 auto; max-width: 60rem;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 1rem 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .4rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
p { margin: .5rem 0; max-width: 46rem; }
.quiet { opacity: .72; font-size: .9rem; }
.verdict { list-style: none; padding: 0; margin: 1rem 0; }
.verdict li { border-left: .35rem solid; padding: .5rem .9rem; margin: .6rem 0; background: var(--soft);
  border-radius: 0 .4rem .4rem 0; }
.good { border-color: var(--good) !important; } .fair { border-color: var(--fair) !important; }
.bad { border-color: var(--bad) !important; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number, th.number { text-align: right; }
th { font-weight: 600; }
summary { cursor: pointer; margin: .5rem 0; }
img { max-width: 100%; height: auto; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 45%), 1fr)); gap: .6rem; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e8e8e8; }
  img { filter: invert(1) hue-rotate(180deg); } img.colours { filter: none; background: white; } }
@media print { h2 { break-after: avoid; } img { break-inside: avoid; } }
"""


def page(numbers, pictures):
    """The HTML of a report.

    Arguments:
      numbers: what is in report.json.
      pictures: data URIs by name; "marginals" is a list of (name, URI).
    """
    sections = [
        _likelihood(numbers),
        _coverage(numbers, pictures),
        _classifier(numbers),
        _columns(numbers, pictures),
        _pairs(numbers, pictures),
        _nearest(numbers),
        _worst(numbers),
        _curve(pictures),
        _drift(numbers),
        _description(numbers),
    ]
    verdict = "".join(f'<li class="{part["grade"]}">{_code(part["sentence"])}</li>' for part in numbers["verdict"])
    held_out = numbers["held_out"]
    rows = f"{held_out['rows']} held-out rows"
    if held_out["used"] < held_out["rows"]:
        rows = f"{held_out['used']} of {rows}, drawn at random"
    title, count = _text(numbers["title"]), len(numbers["columns"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n"
        f'<h1>{title}</h1><p class="quiet">{_text(rows)}; {count} columns; seed {numbers["seed"]}</p>\n'
        f'<ul class="verdict">{verdict}</ul>\n' + "\n".join(filter(None, sections)) + "\n</body></html>\n"
    )


def _likelihood(numbers):
    own = numbers["log_likelihood"]
    rows = [["this model", _number(own["mean"]), ""]]
    for baseline in sorted(numbers["baselines"], key=lambda row: -row["log_likelihood"]):
        rows.append(
            [
                baseline["name"],
                _number(baseline["log_likelihood"]),
                f"{_number(baseline['lead'])} ± {_number(baseline['standard_error'], 2)}",
            ]
        )
    words = (
        f"Held-out rows have {_number(own['mean'])} ± {_number(own['standard_error'], 2)} nats on average. The simple "
        f"models are fitted to {numbers['baselines_fitted_to']}; the lead of this model over each, with "
        "its standard error, is a mean over rows."
    )
    if own["rows_without_density"]:
        words += f" {own['rows_without_density']} rows have no finite density and are left out of the means."
    return _section(
        "Held-out likelihood",
        _paragraph(words) + _table(["", "nats per row", "lead"], rows, numeric=(1, 2)),
    )


def _coverage(numbers, pictures):
    found = numbers["coverage"]
    words = (
        f"Regions that should hold a given share of held-out rows, against the share they hold: {found['regions']}. "
        f"The curve of a right density stays in the {100 * found['confidence']:g} % band: this one is "
        f"{'inside' if found['inside'] else 'outside'}."
    )
    return _section("Coverage", _paragraph(words) + _image(pictures["coverage"], "coverage"))


def _classifier(numbers):
    test = numbers["classifier"]
    words = (
        f"Gradient-boosted trees tell {test['rows']} draws from as many held-out rows with an area under the ROC curve "
        f"of {test['auc']:.3f} ± {test['standard_error']:.3f}: 0.5 is chance, 1 is certainty. A column's importance is "
        "what that loses when the column is shuffled."
    )
    rows = [[column["name"], _number(column["importance"])] for column in test["columns"][:8]]
    return _section("Can a classifier tell?", _paragraph(words) + _table(["column", "importance"], rows, numeric=(1,)))


def _columns(numbers, pictures):
    words = (
        "Data in the colour of this text, draws in orange. The distance is the largest difference of the distribution "
        f"functions, of categories the total variation; by chance it is below {numbers['noise']:.3f}. Impossible are "
        "values that the data never has: negative, fractional, unknown."
    )
    rows = []
    for column in sorted(numbers["columns"], key=lambda column: -max(column["distance"], column["impossible"])):
        impossible = f"{100 * column['impossible']:.1f} % {column['why']}" if column["impossible"] else "none"
        means, deviations = column.get("mean"), column.get("deviation")
        if column["is_date"]:
            means = [str(np.datetime64(round(mean), "D")) for mean in means]
            deviations = [f"{deviation:.0f} days" for deviation in deviations]
        pairs = [f"{_number(means[k])} ± {_number(deviations[k], 3)}" if means else "" for k in (0, 1)]
        rows.append([column["name"], _number(column["distance"]), *pairs, impossible])
    images = "".join(_image(uri, f"distributions of {name}") for name, uri in pictures["marginals"])
    content = _paragraph(words) + f'<div class="small">{images}</div>'
    if len(pictures["marginals"]) < len(numbers["columns"]):
        content += _paragraph(f"Shown are the {len(pictures['marginals'])} columns of the largest distance.", "quiet")
    names = ["column", "distance", "data", "draws", "impossible draws"]
    content += _table(names, rows[:10], numeric=(1,))
    if len(rows) > 10:
        content += f"<details><summary>The other columns</summary>{_table(names, rows[10:], numeric=(1,))}</details>"
    if pictures.get("corner"):
        content += _image(pictures["corner"], "corner plot of data and draws")
    return _section("Column by column", content)


def _pairs(numbers, pictures):
    correlations, dependence = numbers["correlations"]["largest"], numbers["dependence"]
    if not dependence:
        return ""
    content = _paragraph(
        "Rank correlations of columns of numbers, and the mutual information, in nats, of columns of any kind, "
        "contexts among them: the pairs of the largest differences."
    )
    if pictures.get("matrices"):
        content += _image(pictures["matrices"], "correlations of data, draws, and their difference", "colours")
    rows = [
        [*p["columns"], f"{p['data']:.2f}", f"{p['drawn']:.2f}", f"± {p['standard_error']:.2f}"] for p in correlations
    ]
    content += _table(["correlation of", "with", "data", "draws", ""], rows, numeric=(2, 3, 4))
    rows = [[*p["columns"], f"{p['data']:.3f}", f"{p['drawn']:.3f}"] for p in dependence]
    content += _table(["information of", "about", "data", "draws"], rows, numeric=(2, 3))
    return _section("Pair by pair", content)


def _nearest(numbers):
    found = numbers["nearest"]
    if not found:
        return _section(
            "Was training data memorized?", _paragraph("Not looked at: the training rows were not given.", "quiet")
        )
    words = (
        f"{100 * found['nearer']:.1f} ± {100 * found['standard_error']:.1f} % of draws lie nearer to a training row "
        "than a held-out row does; 50 % where nothing was memorized. "
        f"{100 * found['copies']:.1f} % of draws are copies of a training row; of held-out rows, "
        f"{100 * found['copies_held_out']:.1f} %."
    )
    return _section("Was training data memorized?", _paragraph(words))


def _worst(numbers):
    found = numbers["worst"]
    names = list(found[0]["values"]) if found else []
    rows = [
        [row["row"], _number(row["log_prob"]), row["column"], *(_number(row["values"][name]) for name in names)]
        for row in found
    ]
    words = "The held-out rows of the lowest density, with the column that is the most unusual by itself."
    return _section(
        "Worst-scored rows", _paragraph(words) + _table(["row", "log p", "unusual", *names], rows, numeric=(0, 1))
    )


def _curve(pictures):
    return _section("Training", _image(pictures["curves"], "loss per epoch")) if pictures.get("curves") else ""


def _drift(numbers):
    found = numbers["drift"]
    if not found:
        return ""
    test = found["classifier"]
    words = (
        f"A classifier tells the new table from the one before with an area of {test['auc']:.3f} ± "
        f"{test['standard_error']:.3f}. By chance a column's distance stays below {found['noise']:.3f}. Its mean "
        f"log-likelihood is {_number(found['log_likelihood'])} nats."
    )
    rows = [[column["name"], _number(column["distance"])] for column in found["columns"][:10]]
    return _section("Drift of the new table", _paragraph(words) + _table(["column", "distance"], rows, numeric=(1,)))


def _description(numbers):
    found = numbers["description"]
    if not found:
        return ""
    names = list(found[0])
    return _section("What was done to each column", _table(names, [[row[name] for name in names] for row in found]))


def _section(title, content):
    return f"<section><h2>{_text(title)}</h2>{content}</section>"


def _paragraph(words, kind=""):
    return f'<p class="{kind}">{_text(words)}</p>' if kind else f"<p>{_text(words)}</p>"


def _image(uri, words, kind=""):
    return f'<img src="{uri}" alt="{_text(words)}" class="{kind}">'


def _table(names, rows, numeric=()):
    def line(cells, tag):
        kinds = (' class="number"' if k in numeric else "" for k in range(len(cells)))
        return (
            "<tr>"
            + "".join(f"<{tag}{kind}>{_text(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
            + "</tr>"
        )

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table><thead>{line(names, "th")}</thead><tbody>{body}</tbody></table></div>'


def _number(value, digits=4):
    """A number with about so many digits; words as they are."""
    if value is None:
        return "none"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.{digits}g}"


def _text(words):
    return html.escape(str(words))


def _code(words):
    """Text in which `names` are set apart."""
    return re.sub("`(.*?)`", r"<code>\1</code>", _text(words))
