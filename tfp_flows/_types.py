"""A few names for what public functions take, so that their signatures stay short."""

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

if TYPE_CHECKING:
    import pandas

# What becomes one tensor: tensors, variables, NumPy's arrays, numbers, nested sequences of them, pandas frames.
Array: TypeAlias = tf.Tensor | tf.Variable | ArrayLike
# One array, or several by name, as a joint distribution has them.
Structure: TypeAlias = Array | Mapping[str, Array]
# A tensor, or a structure of tensors where a joint distribution has one.
Tensors: TypeAlias = Any
# What Keras computes of a model: a number, a list of them, or with `return_dict` a dictionary.
Metrics: TypeAlias = Any
# A distribution or bijector; where it is also what comes out, that is of the same class.
Part = TypeVar("Part", bound=tfd.Distribution | tfb.Bijector)
# What a conditional flow takes beside x: one array, or several by name where its embedding takes a dictionary.
Context: TypeAlias = Structure
# What `fit` takes: arrays, pairs (context, x) of them, and pipelines of batches.
Data: TypeAlias = Structure | Sequence[Structure] | tf.data.Dataset | keras.utils.PyDataset | Iterable
# What a table may be: a frame, columns by name, or the path of a CSV or Parquet file.
Table: TypeAlias = Union["pandas.DataFrame", Mapping[str, ArrayLike], np.ndarray, str, os.PathLike]
# A size, for vectors, or sizes.
Shape: TypeAlias = int | Sequence[int] | tf.TensorShape
DType: TypeAlias = tf.DType | np.dtype | type | str
# What `keras.activations.get` takes.
Activation: TypeAlias = str | Callable[[tf.Tensor], tf.Tensor]
# What TFP's samplers take: an integer, or the two integers of TensorFlow's stateless ones.
Seed: TypeAlias = int | Sequence[int] | tf.Tensor
# What `tfp_flows.context.walk` yields, part by part: (part, x, context, inverted); and what it returns.
Walk: TypeAlias = Generator[tuple[tfb.Bijector, tf.Tensor, Context | None, bool], None, tf.Tensor]
