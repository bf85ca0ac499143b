"""Docstrings of this project as reStructuredText.

They are written to be read in a terminal: sections such as "Arguments:" with an indented line per entry, names in
single backticks, formulas in plain text. Every other character means itself.
"""

import re

SECTION = re.compile(r"^(\w[^.`:]{0,60}):(?: (.*))?$")
ENTRY = re.compile(r"^(\*{0,2}\w[\w.*]*(?:, \*{0,2}\w[\w.*]*)*|`[^`]+`): (.*)$")


def process(app, what, name, obj, options, lines):
    """Sphinx's event `autodoc-process-docstring`: changes `lines` in place."""
    lines[:] = converted(lines)


def converted(lines):
    """The lines of a docstring as reStructuredText."""
    blocks, block = [], []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            blocks.append(block)
            block = []
    result = []
    for block in blocks:
        result += [*_block(block), ""]
    return result


def _block(block):
    indents = [len(line) - len(line.lstrip()) for line in block]
    if block[0].lstrip().startswith(">>>"):
        return [line[indents[0] :] for line in block]
    if min(indents) > 0:  # a formula, or a table, that stands by itself
        return ["::", "", *(f"   {line[min(indents) :]}" for line in block)]
    items, last = [], None
    for line, indent in zip(block, indents, strict=True):
        text = line.strip()
        entry = ENTRY.match(text) if indent in (2, 4) and (last is None or indent <= last) else None
        if indent == 0 and (numbered := re.match(r"^(\d\.|-) (.*)$", text)):
            items.append([f"{'*' if numbered[1] == '-' else '#.'} ", numbered[2]])
            last = 4
        elif indent == 0 and items and items[-1][0] == "" and not _is_section(text):
            items[-1][1] += " " + text  # the same paragraph goes on
        elif indent == 0:
            items.append(["", text])
            last = None
        elif entry:
            items.append(["* ", f"`{entry[1].strip('`')}`: {entry[2]}"])
            last = indent
        else:
            items[-1][1] += " " + text
    result, before = [], None
    for mark, text in items:
        if before is not None and (mark == "" or before == ""):
            result.append("")
        before = mark
        heading = SECTION.match(text) if mark == "" and _is_section(text) else None
        if heading:
            rest = f" {_escaped(heading[2])}" if heading[2] else ""
            result.append(f"**{_escaped(heading[1])}**:{rest}")
        else:
            result.append(mark + _escaped(text))
    return result


def _is_section(text):
    names = (
        "Arguments",
        "Shapes",
        "Raises",
        "Returns",
        "Attributes",
        "Warns",
        "Source",
        "Example",
        "Forward",
        "Inverse",
    )
    return text.startswith(names) and SECTION.match(text) is not None


def _escaped(text):
    """Backticks as code, names of this package as links, and no other character with a meaning of its own."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(_code(part[1:-1]) if part[:1] == "`" and len(part) > 1 else _plain(part) for part in parts)


def _code(text):
    """Code, and where it names something of this package a link to it."""
    found = re.fullmatch(r"(?:tff|tfp_flows)\.([\w.]+)", text)
    if found:
        return f":py:obj:`{text} <tfp_flows.{found[1]}>`\\ "
    return f"``{text}``\\ " if text.strip() == text else _plain(text)


def _plain(text):
    return re.sub(r"([\\*|_`])", r"\\\1", text)
