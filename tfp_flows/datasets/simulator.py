"""An endless stream of simulated training data, in which no event comes twice."""

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_positive_integers, random_generator


def simulator(
    fn: Callable,
    batch_size: int = 256,
    seed: int | Sequence[int] | np.random.Generator | None = None,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """An endless `tf.data.Dataset` of batches drawn by a function, on which `FlowModel.fit` cannot overfit.

    `fit` then needs `steps_per_epoch`, since an epoch has no end of its own.

    There are two kinds of functions, told apart by the name of the first argument:
      `fn(seed, batch_size)`: TensorFlow's. It draws with `tf.random.stateless_*` from a seed, `[2]` int32, becomes part
        of the pipeline's graph and runs in parallel.
      `fn(rng, batch_size)`: NumPy's. It draws from a `numpy.random.Generator`, batch by batch, in one thread of Python.

    Either returns x, or (context, x), or (context, x, weight), where a context may be a dictionary; NumPy's float64
    becomes float32. The same seed gives the same batches in the same order, whatever runs in parallel; so training
    resumed from a backup sees the first ones again, unless its pipeline skips what the optimizer has counted.

    Arguments:
      fn: the function.
      batch_size: the number of rows it is asked for.
      seed: an integer; drawn if None.
      num_parallel_calls: how many batches of a TensorFlow function may be computed at once.

    Raises: ValueError for a `batch_size` that is no positive integer, or a function of other arguments; and, before
      anything is trained, where the first batch does not have `batch_size` rows.

    Example:

    >>> import tfp_flows as tff
    >>> def lines(rng, batch_size):
    ...     context = rng.normal(size=[batch_size, 1])
    ...     return context, 2 * context + rng.normal(size=[batch_size, 3])
    >>> data = tff.datasets.simulator(lines, batch_size=64, seed=0)
    >>> [part.shape for part in next(iter(data))]
    [TensorShape([64, 1]), TensorShape([64, 3])]
    """
    check_positive_integers(batch_size=batch_size)
    arguments = list(inspect.signature(fn).parameters)
    if arguments[:1] not in (["seed"], ["rng"]) or len(arguments) < 2:
        raise ValueError(f"Expected a function of (seed, batch_size) or (rng, batch_size). Received: {arguments}")
    seed = int(random_generator(seed).integers(2**31))
    make = _of_tensorflow if arguments[0] == "seed" else _of_numpy
    return make(fn, batch_size, seed, num_parallel_calls).prefetch(tf.data.AUTOTUNE)


def _of_tensorflow(fn, batch_size, seed, num_parallel_calls):
    def draw(step):
        # Every step has its own seed; stateless generators turn neighbouring seeds into independent numbers.
        return fn(tf.stack([seed, tf.cast(step, tf.int32)]), batch_size)

    _check_batch(draw(tf.constant(0, tf.int64)), batch_size)
    return tf.data.Dataset.counter().map(draw, num_parallel_calls, deterministic=True)


def _of_numpy(fn, batch_size, seed, num_parallel_calls):
    def batches():
        rng = np.random.default_rng(seed)
        while True:
            yield tf.nest.map_structure(_as_float32, fn(rng, batch_size))

    first = next(batches())
    _check_batch(first, batch_size)
    return tf.data.Dataset.from_generator(
        batches,
        output_signature=tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), first),
    )


def _as_float32(leaf):
    leaf = np.asarray(leaf)
    return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf


def _check_batch(batch, batch_size):
    shapes = [tuple(leaf.shape) for leaf in tf.nest.flatten(batch)]
    if any(shape[:1] != (batch_size,) for shape in shapes):
        raise ValueError(f"Expected a function that draws {batch_size} rows when asked to. Received: shapes {shapes}")
