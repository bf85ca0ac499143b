"""MADE: a network whose parameters for a coordinate see only the coordinates before it."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_context_size, check_hidden_units, check_positive_integers, draw_seed, split_seed
from tfp_flows._math.products import product
from tfp_flows._types import Activation, Array
from tfp_flows.conditioners._initializers import hidden_bias, hidden_kernel
from tfp_flows.context.joining import gated


class Weights(typing.NamedTuple):
    """The weights of a `MADE`, one entry a matrix; the last matrix gives the output and takes no context."""

    kernels: list
    biases: list
    context_kernels: list
    context_biases: list


@keras.saving.register_keras_serializable("tfp_flows")
class MADE(keras.layers.Layer):
    """A masked network from x and a context to P parameters a coordinate: those of x_i see x_<i and the context.

    h₁ = (W₁ ⊙ M₁) x + b₁, hₖ = (Wₖ ⊙ Mₖ) φ(hₖ₋₁) + bₖ, output = (W ⊙ M) φ(h) + b, where W = 0 at the start.
    The coordinate that comes d-th has degree m = d, every hidden unit has a degree m between 1 and D - 1, and
    M[j, k] = 1 if m(j) ≥ m(k) for a hidden unit j, if m(j) > m(k) for an output j, else 0. The masks multiply in the
    forward pass, so that no optimizer can leak them.

    A context c enters every hidden layer: "add": hₖ + Vₖ c; "gated" (a gated linear unit): hₖ ⊙ σ(Vₖ c + vₖ). With a
    context there are units of degree 0 as well, which see nothing else: so the first coordinate depends on it too.

    Shapes: x `[..., D]`, context `[..., context_size]`, output `[..., P * D]`, parameter by parameter: a reshape of the
    last axis to `[P, D]` gives the parameters of a `tff.transformers.Transformer`. Batch shapes broadcast.

    Arguments:
      event_size: D, the number of coordinates.
      params: P, the number of parameters a coordinate.
      hidden_units: the widths of the hidden layers, each at least the number of degrees: D - 1, or D with a context.
      input_order: the order of the coordinates: "left-to-right", "right-to-left", "random" (drawn from the seed), or a
        permutation of 0 ... D - 1 that names the coordinate that comes first, the one that comes second, and so on.
      hidden_degrees: "equal": every degree equally often, side by side; "random": the same degrees, dealt to the units
        at random, from the seed. In both no dependency of an output on an earlier coordinate is lost.
      context_size: the length of a context vector; 0 for none.
      context_mode: "add" or "gated".
      residual: whether every entry of `hidden_units` is a block h + B φ(A φ(h) + a) + b after a first layer, all of one
        width; B = 0 at the start.
      num_masks: with random degrees, how many deals of them to average the output over; all have one input order, so
        that the average is autoregressive as well.
      activation: φ, anything elementwise that `keras.activations.get` takes.
      output_bias: the b to start from, `[P * D]`; zeros if None.
      seed: an integer that fixes every weight, order and degree; drawn if None.
      drawn_masks: the random order and degrees of another network, its `drawn_masks`, in place of a new draw: NumPy's
        generator may draw otherwise in another version.
      **kwargs: `name`, `dtype`, `trainable`, as every Keras layer has them.

    What is drawn is kept in weights that do not train: it is saved with the others, and `resample_masks` may change it
    between the steps of a compiled training loop. With `input_order="random"` that is the paper's order-agnostic
    training, with `hidden_degrees="random"` its connectivity-agnostic one.

    Raises: ValueError for sizes that are not positive integers, a hidden layer too narrow, residual blocks of several
    widths, an order that is no permutation, an unknown option, or several masks without random degrees.

    Source: Germain et al. 2015, arXiv 1502.03509, equations 8 to 13 and section 4; residual blocks: Durkan et al. 2019,
    arXiv 1906.04032, appendix B.1.

    Example: the parameters of x₀ see nothing, those of x₁ see x₀, those of x₂ see both.

    >>> import tensorflow as tf, tfp_flows as tff
    >>> made = tff.conditioners.MADE(3, params=2, seed=0)
    >>> made(tf.ones([5, 3])).shape
    TensorShape([5, 6])
    >>> made.order.tolist()
    [0, 1, 2]
    """

    def __init__(
        self,
        event_size: int,
        params: int = 2,
        hidden_units: Sequence[int] = (64, 64),
        input_order: str | Array = "left-to-right",
        hidden_degrees: str = "equal",
        context_size: int = 0,
        context_mode: str = "add",
        residual: bool = False,
        num_masks: int = 1,
        activation: Activation = "relu",
        output_bias: Array | None = None,
        seed: int | None = None,
        drawn_masks: list | None = None,
        **kwargs: Any,
    ) -> None:
        # Under a mixed policy x keeps its digits in the first layer; `call` casts what comes after.
        super().__init__(autocast=False, **kwargs)
        check_positive_integers(event_size=event_size, params=params, num_masks=num_masks)
        check_hidden_units(hidden_units)
        check_context_size(context_size)
        self.event_size = int(event_size)
        self.params = int(params)
        self.hidden_units = tuple(int(units) for units in hidden_units)
        self.input_order = _checked_order(input_order, event_size)
        self.hidden_degrees = _one_of("hidden_degrees", hidden_degrees, ("equal", "random"))
        self.context_size = int(context_size)
        self.context_mode = _one_of("context_mode", context_mode, ("add", "gated"))
        self.residual = bool(residual)
        self.num_masks = int(num_masks)
        self.activation = keras.activations.get(activation)
        self.output_bias = output_bias
        self.seed = draw_seed(seed)
        self._check_widths()

        # The widths of what the matrices take: x, then hidden layers; a residual block has two matrices.
        width = self.hidden_units[0]
        widths = [width] * (1 + 2 * len(self.hidden_units)) if self.residual else list(self.hidden_units)
        self.input_sizes = [self.event_size, *widths]
        mask_seed, *seeds = split_seed(self.seed, 1 + 2 * len(widths))
        self._make_weights([*self.input_sizes, self.params * self.event_size], seeds)
        self._make_masks(mask_seed, drawn_masks)
        self.built = True

    @property
    def num_positions(self) -> int:
        """The number of places in the order: D, where every coordinate has one of its own."""
        return self.event_size

    def _check_widths(self):
        if self.residual and len(set(self.hidden_units)) > 1:
            raise ValueError(
                "Expected residual blocks of one width, since each adds to the one before. "
                f"Received: hidden_units={self.hidden_units}"
            )
        # A first coordinate that depends on nothing needs no unit, one that depends on a context does.
        self._smallest_degree = 0 if self.context_size or self.num_positions == 1 else 1
        num_degrees = self.num_positions - self._smallest_degree
        if min(self.hidden_units) < num_degrees:
            raise ValueError(
                f"Expected hidden layers of at least {num_degrees} units for {self.num_positions} coordinates"
                f"{' and a context' if self.context_size else ''}: in narrower ones some coordinates would silently "
                f"not depend on all before them. Received: hidden_units={self.hidden_units}"
            )
        if self.num_masks > 1 and self.hidden_degrees != "random":
            raise ValueError(
                'Expected `hidden_degrees="random"` for several masks, which are all the same else. '
                f"Received: hidden_degrees={self.hidden_degrees!r}, num_masks={self.num_masks}"
            )

    def _make_weights(self, sizes, seeds):
        kernels, biases, context_kernels, context_biases = [], [], [], []
        last = len(sizes) - 2
        for k, (rows, columns) in enumerate(itertools.pairwise(sizes)):
            # The output, and the second matrix of a residual block, which comes at 2, 4, ..., start at zero.
            zero = k == last or (self.residual and k > 0 and k % 2 == 0)
            kernel = bias = "zeros"
            if not zero:
                kernel_seed, bias_seed = split_seed(seeds[2 * k], 2)
                kernel, bias = hidden_kernel(kernel_seed), hidden_bias(rows, bias_seed)
            kernels.append(self._weight(f"kernel_{k}", (rows, columns), kernel))
            biases.append(self._weight(f"bias_{k}", (columns,), bias))
            if self.context_size and k < last:
                shape, context_kernel = (self.context_size, columns), hidden_kernel(seeds[2 * k + 1])
                context_kernels.append(self._weight(f"context_kernel_{k}", shape, context_kernel))
                if self.context_mode == "gated":
                    context_biases.append(self._weight(f"context_bias_{k}", (columns,)))
        if self.output_bias is not None:
            biases[-1].assign(np.reshape(self.output_bias, biases[-1].shape))
        self.masked_weights = Weights(kernels, biases, context_kernels, context_biases)

    def _weight(self, name, shape, initializer="zeros"):
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def _make_masks(self, seed, drawn):
        # Floats count exactly far beyond any degree, and need no care on an accelerator, as integer variables do.
        kept = {"dtype": "float32", "trainable": False, "autocast": False, "initializer": "zeros"}
        if self.input_order == "random":
            self.positions = self.add_weight(name="positions", shape=(self.event_size,), **kept)
        else:
            self.positions = np.argsort(_named_order(self.input_order, self.event_size)).astype(np.float32)
        sizes = self.input_sizes[1:2] if self.residual else self.input_sizes[1:]
        if self.hidden_degrees == "random":
            self._degrees = [
                self.add_weight(name=f"degrees_{k}", shape=(self.num_masks, size), **kept)
                for k, size in enumerate(sizes)
            ]
        else:
            self._degrees = [self.sorted_degrees(size)[None] for size in sizes]
        if drawn is not None:
            for weight, values in zip(self._drawn(), drawn, strict=True):
                weight.assign(values)
        elif self._drawn():
            self.resample_masks(seed)

    def sorted_degrees(self, size: int) -> np.ndarray:
        """The degrees of a hidden layer of `size` units, ascending: each as often as any other, or once more."""
        num_degrees = self.num_positions - self._smallest_degree
        return (self._smallest_degree + np.arange(size) * num_degrees // size).astype(np.float32)

    def resample_masks(self, seed: int | None = None) -> None:
        """Draws the random order and degrees anew from a seed, as between the batches of order-agnostic training.

        The density of a flow averaged over orders is the mean of its densities over several calls of this.

        Raises: ValueError if neither the order nor the degrees are random.
        """
        if "random" not in (self.input_order, self.hidden_degrees):
            raise ValueError(
                'Expected `input_order` or `hidden_degrees` to be "random", to draw them anew. '
                f"Received: input_order={self.input_order!r}, hidden_degrees={self.hidden_degrees!r}"
            )
        random = np.random.default_rng(draw_seed(seed))
        if self.input_order == "random":
            self.positions.assign(random.permutation(self.event_size))
        if self.hidden_degrees == "random":
            for degrees in self._degrees:
                dealt = self.sorted_degrees(degrees.shape[-1])
                degrees.assign(np.stack([random.permutation(dealt) for _ in range(self.num_masks)]))

    def _drawn(self):
        """The weights that hold what was drawn: the positions, then the degrees of every hidden layer."""
        return [weight for weight in (self.positions, *self._degrees) if not isinstance(weight, np.ndarray)]

    @property
    def drawn_masks(self) -> list | None:
        """What was drawn, as lists of integers for the constructor's argument of this name; None if nothing was."""
        return [np.int64(keras.ops.convert_to_numpy(weight)).tolist() for weight in self._drawn()] or None

    @property
    def order(self) -> np.ndarray:
        """The coordinate that comes first, the one that comes second, and so on: `[D]` integers."""
        return np.argsort(keras.ops.convert_to_numpy(self.positions))

    def degrees(self, mask: str | Array = 0) -> list:
        """The degrees of what each matrix takes, and of the outputs: a number sees what has a degree not above its own.

        A coordinate at position p, counted from 0, has the degree p + 1 as an input, p as an output.
        """
        positions = _fixed_or_tensor(self.positions)
        hidden = [_fixed_or_tensor(degrees)[mask] for degrees in self._degrees]
        if self.residual:
            hidden *= len(self.input_sizes) - 1
        return [positions + 1, *hidden, keras.ops.tile(positions, [self.params])]

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        return self.evaluate(tf.nest.map_structure(tf.convert_to_tensor, self.masked_weights), x, context)

    def evaluate(self, weights: Weights, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """The layer as a pure function of its weights."""
        outputs = []
        for mask in range(self.num_masks):
            degrees = [tf.convert_to_tensor(numbers) for numbers in self.degrees(mask)]
            kernels = [
                tf.where(columns >= rows[:, None], kernel, tf.zeros([], kernel.dtype))
                for kernel, rows, columns in zip(weights.kernels, degrees[:-1], degrees[1:], strict=True)
            ]

            def linear(k, u, kernels=kernels):
                value = product(self.rounded(k, u), self.rounded(k, kernels[k]), _multiply)
                return self.after_product(k, value, weights.biases[k], self.context_term(weights, k, context))

            outputs.append(self.network(x, linear))
        return outputs[0] if self.num_masks == 1 else tf.add_n(outputs) / self.num_masks

    def network(self, x: tf.Tensor, linear: Callable[[int, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """The order of the layers, where `linear(k, u)` applies matrix k, its bias and the context to u."""
        last = len(self.input_sizes) - 1
        h = linear(0, x)
        if self.residual:
            for k in range(1, last, 2):
                h = h + tf.cast(linear(k + 1, self.activation(linear(k, self.activation(h)))), h.dtype)
        else:
            for k in range(1, last):
                h = linear(k, self.activation(h))
        return linear(last, self.activation(h))

    def context_term(self, weights: Weights, k: int, context: tf.Tensor | None) -> tf.Tensor | None:
        """Vₖ c, plus vₖ if gated; None where no context enters."""
        if k >= len(weights.context_kernels):
            return None
        term = product(context, weights.context_kernels[k], _multiply)
        return term + weights.context_biases[k] if weights.context_biases else term

    def rounded(self, k: int, array: tf.Tensor) -> tf.Tensor:
        """What matrix k multiplies, or the matrix, rounded to the dtype of computation behind the first layer.

        Products are summed in the dtype of the weights: under a mixed policy, where a sum in bfloat16 would depend on
        its order, the direction of one pass and that of one by one have to find the same parameters.
        """
        return array if k == 0 else tf.cast(tf.cast(array, self.compute_dtype), self.variable_dtype)

    def after_product(
        self, k: int, product: tf.Tensor, bias: tf.Tensor | None, context_term: tf.Tensor | None
    ) -> tf.Tensor:
        """Layer k of its matrix product, its bias and what the context has to say to it, None for nothing."""
        dtype = self.variable_dtype if k == 0 else self.compute_dtype
        h = tf.cast(product, dtype) + tf.cast(bias, dtype)
        if context_term is None:
            return h
        context_term = tf.cast(context_term, dtype)
        return gated(h, context_term) if self.context_mode == "gated" else h + context_term

    def compute_output_shape(
        self, input_shape: Sequence[int | None], context_shape: Sequence[int | None] | None = None
    ) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.params * self.event_size)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "event_size": self.event_size,
            "params": self.params,
            "hidden_units": self.hidden_units,
            "input_order": self.input_order,
            "hidden_degrees": self.hidden_degrees,
            "context_size": self.context_size,
            "context_mode": self.context_mode,
            "residual": self.residual,
            "num_masks": self.num_masks,
            "activation": keras.activations.serialize(self.activation),
            "output_bias": None if self.output_bias is None else np.asarray(self.output_bias).tolist(),
            "seed": self.seed,
            "drawn_masks": self.drawn_masks,
        }


def _multiply(u, kernel):
    # As `tf.matmul`, in a plain graph, TensorFlow 2.21 fails to fuse it with what follows, and says so at length.
    return tf.tensordot(u, kernel, 1)


def _checked_order(order, event_size):
    """A name of an order, or a permutation as a list."""
    if isinstance(order, str):
        return _one_of("input_order", order, ("left-to-right", "right-to-left", "random"), "or a permutation")
    array = np.asarray(order)
    if array.dtype.kind not in "iu" or not np.array_equal(np.sort(array, axis=None), np.arange(event_size)):
        raise ValueError(
            f"Expected `input_order` to be a name or a permutation of 0 ... {event_size - 1}. "
            f"Received: input_order={order!r}"
        )
    return array.tolist()


def _named_order(order, event_size):
    names = {"left-to-right": range(event_size), "right-to-left": range(event_size)[::-1]}
    return np.array(names[order] if isinstance(order, str) else order)


def _one_of(name, value, choices, more=""):
    if value not in choices:
        raise ValueError(f"Expected `{name}` to be one of {choices} {more}".strip() + f". Received: {name}={value!r}")
    return value


def _fixed_or_tensor(weight):
    """A weight as a tensor; what is fixed stays a NumPy array."""
    return weight if isinstance(weight, np.ndarray) else tf.convert_to_tensor(weight)
