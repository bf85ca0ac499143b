"""Hostile data: what flows are fed by accident, one table for the suite of tests and for the benchmark of libraries.

A line is a name and a function of a NumPy generator, a number of rows and a number of columns. NumPy only, so that an
environment without TensorFlow can read it.
"""

import numpy as np


def _normal(generator, rows, columns):
    return generator.normal(size=(rows, columns))


def _signs(generator, rows, columns):
    return np.sign(_normal(generator, rows, columns))


def _with(values, **places):
    """Normal rows but for `values` in some places."""

    def make(generator, rows, columns):
        x = _normal(generator, rows, columns)
        x[tuple(places.values())] = values
        return x

    return make


def _collinear(generator, rows, columns):
    return _normal(generator, rows, 1) * np.linspace(1, 2, columns)


def _rotated_cauchy(generator, rows, columns):
    """Independent standard Cauchy variables, rotated: dependent, and without a mean in any direction."""
    rotation, _ = np.linalg.qr(_normal(generator, columns, columns))
    return generator.standard_cauchy((rows, columns)) @ rotation


EVERY_ROW = slice(None)

HOSTILE = {
    "zeros": lambda generator, rows, columns: np.zeros((rows, columns)),
    "denormals": lambda *size: 1e-40 * _normal(*size),
    "±1e7": lambda *size: 1e7 * _signs(*size),
    "±1e15": lambda *size: 1e15 * _signs(*size),
    "±1e30": lambda *size: 1e30 * _signs(*size),
    "one value of 1e30": _with(1e30, row=2, column=-1),
    "columns of 1e-8 to 1e8": lambda *size: _normal(*size) * np.logspace(-8, 8, size[-1]),
    "constant column": _with(3.0, row=EVERY_ROW, column=0),
    "constant column of 1e6": _with(1e6, row=EVERY_ROW, column=-1),
    "collinear columns": _collinear,
    "one row over and over": lambda *size: np.repeat(_normal(*size)[:1], size[1], 0),
    "rows twice": lambda *size: np.repeat(_normal(*size), 2, 0)[: size[1]],
    "whole numbers": lambda *size: np.round(5 * _normal(*size)),
    "Cauchy": _rotated_cauchy,
    "Cauchy, cubed": lambda *size: _rotated_cauchy(*size) ** 3,
    "one row": lambda *size: _normal(*size)[:1],
    "NaN row": _with(np.nan, row=2),
    "one NaN": _with(np.nan, row=2, column=-1),
    "±infinity": _with([np.inf, -np.inf], row=[1, 2], column=[0, -1]),
}


def hostile(name, rows, columns, seed=0):
    """The data of that name, `[rows, columns]` in float64; "one row" has one."""
    return HOSTILE[name](np.random.default_rng(seed), rows, columns)
