"""The signatures of a SavedModel, called with named arrays, several requests at a time."""

import contextlib
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from tfp_flows.model.export import DRAWN
from tfp_flows.serving import values


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of one call of a signature.

    Attributes:
      signature: a `Signature`.
      n: the number of draws; None for a signature that does not draw.
      seed: None for a new one.
      rows: arrays by name, `[B, ...]`.
    """

    signature: "Signature"
    n: int | None
    seed: int | None
    rows: dict

    @property
    def batch(self):
        """B, or None without rows."""
        return next((len(array) for array in self.rows.values()), None)

    @property
    def size(self):
        """How many rows the answer has."""
        return (self.n or 1) * (self.batch or 1)

    @property
    def key(self):
        """Equal for requests that one call of the signature can answer together.

        Draws from a seed depend on how many are drawn at once, so a request with a seed is answered alone.
        """
        if self.seed is not None:
            return id(self)
        return self.signature.name, self.n if self.rows else None


class Signature:
    """A signature of a SavedModel: named inputs and outputs with their dtypes and shapes.

    Inputs are the scalars `n` and `seed`, or have rows: their first size is open.
    """

    def __init__(self, name, function):
        self.name, self.function = name, function
        self.inputs = dict(sorted(function.structured_input_signature[1].items()))
        self.outputs = dict(sorted(function.structured_outputs.items()))
        self.row_inputs = {key: spec for key, spec in self.inputs.items() if spec.shape.rank}
        self.draws = "n" in self.inputs

    @property
    def numbers_per_row(self):
        """How many numbers one row of the answer has."""
        return sum(int(np.prod([size for size in spec.shape if size is not None])) for spec in self.outputs.values())

    def request(self, arguments):
        """A `Request` of a JSON object's members.

        Raises: values.Refused for missing, unexpected and wrong ones.
        """
        optional = {"n", "seed"} & set(self.inputs)
        missing = sorted(set(self.inputs) - optional - set(arguments))
        unexpected = sorted(set(arguments) - set(self.inputs))
        if missing or unexpected:
            received = "nothing" if not arguments else ", ".join(f"`{name[:40]}`" for name in sorted(arguments)[:20])
            expected = ", ".join(f"`{name}`" for name in self.inputs)
            raise values.Refused(400, f"Expected the inputs {expected}. Received: {received}")
        n = seed = None
        if self.draws:
            n = values.number(arguments.get("n", 1), "n", 1, 2**31 - 1)
            if arguments.get("seed") is not None:
                seed = values.number(arguments["seed"], "seed", -(2**31) + 1, 2**31 - 1)
        rows = {name: values.rows(arguments[name], spec, name) for name, spec in self.row_inputs.items()}
        if len({len(array) for array in rows.values()}) > 1:
            counts = ", ".join(f"{len(array)} in `{name}`" for name, array in rows.items())
            raise values.Refused(400, f"Expected as many rows in every input. Received: {counts}")
        return Request(self, n, seed, rows)

    def warm_up(self):
        """Runs the signature once, so that the first request need not wait for TensorFlow's preparations."""
        rows = {}
        for name, spec in self.row_inputs.items():
            value = "" if spec.dtype == tf.string else 0
            rows[name] = np.full([size or 1 for size in spec.shape], value, spec.dtype.as_numpy_dtype)
        # Zeros are an arbitrary row, which a model may refuse.
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            self.answer([Request(self, 1 if self.draws else None, None, rows)])

    def answer(self, requests):
        """The outputs, by name, of each of several requests of one key, from one call.

        Calls are padded to a power of two: TensorFlow prepares its kernels for each size that it has not seen.
        """
        first = requests[0]
        counts = [request.batch if request.rows else request.n for request in requests]
        padded = sum(counts) if first.seed is not None else 1 << (sum(counts) - 1).bit_length()
        arguments = {}
        for name in first.rows:
            arrays = [request.rows[name] for request in requests]
            # Copies of a good row: zeros may lie outside the support.
            arguments[name] = np.concatenate([*arrays, np.repeat(arrays[-1][-1:], padded - sum(counts), 0)])
        if self.draws:
            arguments["n"] = np.int32(first.n if first.rows else padded)
        if "seed" in self.inputs:
            arguments["seed"] = np.int32(DRAWN if first.seed is None else first.seed)
        tensors = {name: tf.constant(value, self.inputs[name].dtype) for name, value in arguments.items()}
        outputs = {name: tensor.numpy() for name, tensor in self.function(**tensors).items()}
        axis = 1 if self.draws and first.rows else 0  # draws for contexts are `[n, B, ...]`
        ends = np.cumsum(counts)
        parts = {name: np.split(array, ends, axis)[:-1] for name, array in outputs.items()}
        return [{name: part[k] for name, part in parts.items()} for k in range(len(requests))]


class ServedModel:
    """A SavedModel in the memory of this process.

    Arguments:
      path: the folder that `FlowModel.export` wrote.
      name: of the model, in addresses; None for the folder's.

    Raises: ValueError for a folder that is no SavedModel, or has no signatures.
    """

    def __init__(self, path, name=None):
        path = pathlib.Path(path)
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"Expected a folder that `export` wrote, with a saved_model.pb. Received: {path}")
        self.name = name or path.resolve().name
        try:
            self.module = tf.saved_model.load(str(path))  # it holds the variables of the signatures
        except Exception as error:
            raise ValueError(
                f"Expected a SavedModel that this TensorFlow can read. Received: {path}, {error}"
            ) from error
        functions = getattr(self.module, "signatures", {})
        self.signatures = {name: Signature(name, function) for name, function in sorted(functions.items())}
        if not self.signatures:
            raise ValueError(
                f"Expected a SavedModel with signatures, which events and contexts of one tensor have. Received: {path}"
            )

        for signature in self.signatures.values():
            signature.warm_up()

    def signature(self, name):
        """A signature by name.

        Raises: values.Refused for a name that no signature has.
        """
        if not isinstance(name, str) or name not in self.signatures:
            known = ", ".join(f'"{known}"' for known in self.signatures)
            received = f'"{name[:40]}"' if isinstance(name, str) else "no string"
            raise values.Refused(400, f"Expected a signature_name among {known}. Received: {received}")
        return self.signatures[name]
