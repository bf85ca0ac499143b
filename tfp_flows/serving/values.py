"""Strict JSON: text to arrays of a signature's dtypes and shapes, and arrays to JSON.

JSON has no NaN and no infinity. In answers infinities are the strings "Infinity" and "-Infinity", as in Protobuf's
JSON, and NaN is null. In requests every number must be finite; null is a missing value in inputs of one value per row,
as the columns of tables are.
"""

import json

import numpy as np

from tfp_flows.tables.export import MISSING


class Refused(Exception):
    """A request that gets no answer: an HTTP status, and a sentence for its sender."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


def decode(body):
    """The object that a request's bytes hold.

    Raises: Refused for what is no JSON object.
    """
    try:
        value = json.loads(body)
    except RecursionError:
        raise Refused(400, "Expected less deeply nested JSON.") from None
    except ValueError as error:  # syntax, encoding, and integers of thousands of digits
        # Only a syntax error's own text is about the request; its position helps.
        where = f" Received: {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(400, f"Expected a JSON object in UTF-8.{where}") from None
    if not isinstance(value, dict):
        raise Refused(400, f"Expected a JSON object. Received: {_kind(value)}")
    return value


def encode(value):
    """JSON as bytes; arrays are nested lists."""
    return json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":")).encode()


def number(value, name, low, high):
    """An integer within bounds.

    Raises: Refused for anything else.
    """
    if type(value) is not int or not low <= value <= high:
        received = value if type(value) in (int, float) and abs(value) < 1e15 else _kind(value)
        raise Refused(400, f"Expected `{name}` to be an integer from {low} to {high}. Received: {received}")
    return value


def rows(value, spec, name):
    """The rows of an input, as a signature's specification has them: `[B, ...]`, B at least 1.

    Raises: Refused for other shapes or types, ragged lists, and numbers that are non-finite in the dtype.
    """
    shape = tuple(spec.shape[1:])
    if not isinstance(value, list):
        raise Refused(400, f"Expected `{name}` as a list of rows. Received: {_kind(value)}")
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    absent = np.zeros(len(value), bool)
    if not shape and dtype.kind in "fiO":
        absent = np.array([part is None for part in value], bool)
        missing = {"f": 0.0, "i": 0, "O": MISSING}[dtype.kind]
        value = [missing if part is None else part for part in value]
    try:
        array = np.array(value)
    except ValueError:
        raise Refused(400, f"Expected `{name}` with rows of one shape, {list(shape)}. Received: ragged lists") from None
    if not len(array):
        raise Refused(400, f"Expected `{name}` with at least one row. Received: none")
    if array.ndim != 1 + len(shape) or any(
        size not in (None, got) for size, got in zip(shape, array.shape[1:], strict=True)
    ):
        received = list(array.shape[1:])
        raise Refused(400, f"Expected `{name}` with rows of shape {list(shape)}. Received: rows of shape {received}")
    kinds = {"f": "iuf", "i": "iuf", "u": "iuf", "b": "b", "O": "U"}[dtype.kind]
    # Among strings NumPy makes strings of numbers: hence the second look.
    if array.dtype.kind not in kinds or (kinds == "U" and not all(isinstance(text, str) for text in _flat(value))):
        what = {"f": "numbers", "i": "integers", "u": "integers", "b": "true or false", "O": "strings"}[dtype.kind]
        raise Refused(400, f"Expected `{name}` to hold {what} only. Received: {_strange(value, dtype.kind)}")
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused below
        cast = array.astype(dtype)
    wrong = ~np.isfinite(cast) if dtype.kind == "f" else cast != array
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise Refused(400, f"Expected `{name}` to hold numbers of {dtype.name}. Received: another one in row {row}")
    if absent.any() and dtype.kind != "O":
        cast[absent] = np.nan if dtype.kind == "f" else np.iinfo(dtype).min
    return cast


def _plain(value):
    """An array as nested lists; text for what JSON cannot hold."""
    value = np.asarray(value)
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        words = {"nan": None, "inf": "Infinity", "-inf": "-Infinity"}
        texts = value.astype(object)
        for place in np.argwhere(~np.isfinite(value)):
            texts[tuple(place)] = words[str(float(value[tuple(place)]))]
        return texts.tolist()
    if value.dtype.kind in "OS":
        return np.vectorize(lambda text: text.decode("utf-8", "replace"), otypes=[object])(value).tolist()
    return value.tolist()


def _flat(value):
    """The scalars of nested lists."""
    for part in value:
        if isinstance(part, list):
            yield from _flat(part)
        else:
            yield part


def _strange(value, kind):
    """The type of the first scalar that does not belong among those of a dtype's kind."""
    good = {"b": (bool,), "O": (str,)}.get(kind, (int, float))
    for part in _flat(value):
        if type(part) not in good:
            return _kind(part)
    return "integers of more than 64 bits"


def _kind(value):
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
