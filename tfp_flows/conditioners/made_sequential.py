"""A `MADE` evaluated coordinate after coordinate, at about the price of evaluating it once."""

import math

import numpy as np
import tensorflow as tf

from tfp_flows._math.gradients import plain_gradients
from tfp_flows.conditioners.made_implicit import second_derivatives

# D coordinates are solved for in √(BLOCKS D) blocks: few enough for wide matrix products, and at 8 the work inside the
# blocks is an eighth of the work between them. Measured from 2 to 16, with D from 8 to 512.
BLOCKS = 8
# So many points are solved for at a time: enough for full speed, and the memory has a bound.
ROWS = 1024


def solve(made, step, step_back, w, context=None):
    """Finds the v with v_i = step(w_i; θ_i(v_<i, c)) for every i, where θ is the network of `made`.

    The coordinates, in their order, are cut into blocks of B = √(D / 8), and two things alternate. One matrix product a
    layer brings all that is known to the sums of the units that need no coordinate beyond this block: over all blocks,
    one pass of the network. Then the block's own coordinates follow one by one, each with an evaluation of the part of
    the network inside the block: B evaluations of (B/D)² of the network in each of D/B blocks, an eighth of a pass.
    Units stand on the first axis and points on the last, so that a block is contiguous, and the vector unit runs along
    the points however small the block.

    The gradient is that of the implicit function theorem: with J = ∂w/∂v, the derivative by w of a function of v is
    J⁻ᵀ times that by v. J is triangular, so it is solved for in the same way, last block first. Higher derivatives
    are right too, but cost D passes: see `made_implicit.py`. `tf.autodiff.ForwardAccumulator` is refused in eager mode.

    Shapes: w and v `[n, D]`, context `[n, C]` or `[C]`, the sum of log-derivatives `[n]`.

    Arguments:
      made: a `MADE`.
      step: takes w_i and θ_i, `[..., P, n]` for w_i of shape `[..., n]`, and gives v_i and log(∂v_i/∂w_i).
      step_back: takes v_i and θ_i, and gives w_i and log(∂w_i/∂v_i).
      w, context: the givens.

    Returns: v, and log|det ∂v/∂w|.
    """
    if not w.shape[0]:  # TensorFlow sets no part of an empty array
        n = tf.shape(w)[0]
        room = [[0, tf.where(n == 0, 1, 0)], [0, 0]]
        context = context if context is None or context.shape.rank == 1 else tf.pad(context, room)
        v, log_det = _solve_rows(made, step, step_back, tf.pad(w, room), context)
        return v[:n], log_det[:n]
    return _solve_rows(made, step, step_back, w, context)


def _solve_rows(made, step, step_back, w, context):
    """`solve` of at least one row."""
    weights = tf.nest.map_structure(tf.convert_to_tensor, made.masked_weights)
    given = (weights, () if context is None else context)

    @tf.custom_gradient
    def solution(*inputs):
        # Constants in and out: tapes would differentiate the loops as well, to no use, and what XLA cannot compile.
        w, *flat = map(tf.stop_gradient, inputs)
        weights, context = tf.nest.pack_sequence_as(given, flat)
        networks = [_BlockedNetwork(made, weights, mask) for mask in range(made.num_masks)]
        context = None if isinstance(context, tuple) else context
        results = _in_chunks(lambda w, context: _solve(made, networks, step, w, context), w, context)
        v, log_det = map(tf.stop_gradient, results)

        def gradient(v_bar, log_det_bar):
            # The identities make tensors of the graph that runs this, which a gradient of it can reach.
            return first_derivatives(*map(tf.identity, [v, v_bar, log_det_bar, *inputs]))

        return (v, log_det), gradient

    @tf.custom_gradient
    def first_derivatives(v, v_bar, log_det_bar, *inputs):
        constants = map(tf.stop_gradient, [v, v_bar, log_det_bar, *inputs[1:]])

        def gradient(*cotangents):
            # v depends on the inputs too, and that is counted among their derivatives.
            derivatives = second_derivatives(made, given, step_back, v, v_bar, log_det_bar, inputs, cotangents)
            return [tf.zeros_like(v), *derivatives]

        return list(map(tf.stop_gradient, _gradient(made, given, step_back, *constants))), gradient

    return solution(w, *tf.nest.flatten(given))


def _solve(made, networks, step, w, context):
    """`solve` without a gradient, for as many points as memory has room for."""
    count, height = networks[0].count, networks[0].height
    w, context = networks[0].split(w), _columns(context)
    terms = [network.context_terms(context) for network in networks]

    def add_block(k, log_det, known):
        blocks = [network.block(k, *parts) for network, *parts in zip(networks, known, terms, strict=True)]

        def add_coordinate(i, v_block, log_slopes):
            parameters = sum(block.parameters(v_block, i) for block in blocks) / made.num_masks
            parameters = tf.cast(parameters, w.dtype)
            with plain_gradients():
                v_i, log_slope = step(w[k, i], parameters)
            return i + 1, _with_row(v_block, i, v_i), _with_row(log_slopes, i, log_slope)

        end = tf.minimum(height, made.event_size - k * height)
        zeros = tf.zeros_like(w[0])
        _, v_block, log_slopes = tf.while_loop(lambda i, *_: i < end, add_coordinate, [0, zeros, zeros])
        inputs = [block.evaluate(v_block)[1] for block in blocks]
        return k + 1, log_det + tf.reduce_sum(log_slopes, 0), _with_block(known, k, inputs)

    known = [network.zeros(w) for network in networks]
    _, log_det, known = tf.while_loop(lambda k, *_: k < count, add_block, [0, tf.zeros_like(w[0, 0]), known])
    return networks[0].join(known[0][0]), log_det


def _gradient(made, given, step_back, v, v_bar, log_det_bar, *flat):
    """The derivatives by w and by all that is given, where v_bar and log_det_bar are those by the results of `solve`.

    With ℓ(v) = log|det J| = -log_det and λ = J⁻ᵀ (v_bar - log_det_bar ∂ℓ/∂v), they are λ itself by w, and, by all
    that the network depends on, those of -λᵀ w(v) - log_det_bar ℓ(v) at a fixed v. A block, last to first, gives its λ
    and that derivative by its sums of every layer, which the transposed matrices bring to the blocks before.
    """
    count, height = _block_sizes(made.event_size)
    with tf.GradientTape() as weight_tape:
        weight_tape.watch(flat)
        weights, context = tf.nest.pack_sequence_as(given, flat)
        context = None if isinstance(context, tuple) else _columns(context)
        networks = [_BlockedNetwork(made, weights, mask) for mask in range(made.num_masks)]
        terms = [network.context_terms(context) for network in networks]
        v_blocks = networks[0].split(v)
        passes = [network.evaluate(v_blocks, term) for network, term in zip(networks, terms, strict=True)]
        sums = [part[1] for part in passes]
    v_bar = networks[0].split(v_bar)
    log_det_bar = networks[0].real * log_det_bar

    def add_block(k, λ, by_sums):
        blocks = [
            network.block(k, inputs, term, own_sums)
            for network, (inputs, own_sums), term in zip(networks, passes, terms, strict=True)
        ]
        block_sums = [[*block.shifts, *block.context_terms, *block.biases] for block in blocks]
        v_block = v_blocks[k]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([v_block, *tf.nest.flatten(block_sums)])
            outputs, inputs = zip(*[block.evaluate(v_block) for block in blocks], strict=True)
            parameters = tf.reshape(sum(outputs) / made.num_masks, [made.params, height, tf.shape(v_block)[-1]])
            parameters = tf.cast(tf.transpose(parameters, [1, 0, 2]), v.dtype)
            with plain_gradients():
                w_block, log_slopes = step_back(v_block, parameters)
        slopes_by_parameters = tape.gradient(w_block, parameters)
        if slopes_by_parameters is None:
            raise NotImplementedError(
                "Expected a gradient tape around the direction of an autoregressive flow that goes one by one, not a "
                "`tf.autodiff.ForwardAccumulator`, under which no tape runs. Two nested tapes give what it would. "
                f"Received: {made.event_size} coordinates"
            )
        arrived = [network.transposed(k, parts) for network, parts in zip(networks, by_sums, strict=True)]
        r = v_bar[k] + tape.gradient([log_slopes, *inputs], v_block, [-log_det_bar[k], *arrived])

        def add_coordinate(i, λ_block):
            by_others = tape.gradient(parameters, v_block, slopes_by_parameters * λ_block[:, None])
            return i - 1, _with_row(λ_block, i, (r[i] - by_others[i]) * tf.exp(-log_slopes[i]))

        _, λ_block = tf.while_loop(lambda i, _: i >= 0, add_coordinate, [height - 1, tf.zeros_like(v_block)])
        results, by_results = [w_block, log_slopes, *inputs], [-λ_block, -log_det_bar[k], *arrived]
        by_block_sums = tape.gradient(results, block_sums, by_results)
        return k - 1, _with_block(λ, k, λ_block), _with_block(by_sums, k, by_block_sums)

    all_sums = [[*parts, *term, *network.biases] for parts, term, network in zip(sums, terms, networks, strict=True)]
    start = [count - 1, tf.zeros_like(v_blocks), tf.nest.map_structure(tf.zeros_like, all_sums)]
    _, λ, by_sums = tf.while_loop(lambda k, *_: k >= 0, add_block, start)
    # Dense tensors: the derivative of a gather comes as slices.
    return [networks[0].join(λ), *map(tf.convert_to_tensor, weight_tape.gradient(all_sums, flat, by_sums))]


def _in_chunks(function, event, context):
    """The function of rows of events and of their contexts, a bounded number of rows at a time."""
    if event.shape[0] is not None and event.shape[0] <= ROWS:
        return function(event, context)
    n = tf.shape(event)[0]
    count = tf.maximum(1, -(-n // ROWS))
    rows = -(-n // count)

    def split(array):
        return tf.reshape(tf.pad(array, [[0, count * rows - n], [0, 0]]), [count, rows, array.shape[-1]])

    a_row_each = [event] if context is None or context.shape.rank == 1 else [event, context]
    result, log_det = tf.map_fn(
        lambda parts: function(parts[0], parts[1] if len(parts) > 1 else context),
        [split(array) for array in a_row_each],
        fn_output_signature=(event.dtype, event.dtype),
        parallel_iterations=1,
    )
    return tf.reshape(result, [count * rows, event.shape[-1]])[:n], tf.reshape(log_det, [count * rows])[:n]


class _BlockedNetwork:
    """The weights of a `MADE` under one mask, in blocks of units that follow the blocks of coordinates.

    Coordinates, counted in their order from 0, and the units of every hidden layer are sorted by degree; block k holds
    the degrees from k B to (k + 1) B - 1. So its units can be known before its last coordinate, and need none beyond.

    Blocks of one layer have one size, that of the largest. As inputs, those that hold fewer units are filled up by
    idle ones whose rows in the next kernel are zero. As outputs they are windows on the sorted units that reach into
    the next block where they hold fewer: so a block of columns is a slice, and what it computes too much meets zeros.
    """

    def __init__(self, made, weights, mask):
        self.made = made
        self.count, self.height = _block_sizes(made.event_size)

        # A drawn order is known only when the graph runs, but what it sorts to is known now: so the blocks are static.
        orders = [_argsort(degrees) for degrees in made.degrees(mask)[:-1]]
        degrees = [np.arange(made.event_size), *[made.sorted_degrees(size) for size in made.input_sizes[1:]]]
        starts, sizes = zip(*[self._starts_and_sizes(numbers) for numbers in degrees], strict=True)
        self.input_sizes = [max(size) for size in sizes]
        windows = [start[:, None] + np.arange(max(size)) for start, size in zip(starts, sizes, strict=True)]
        idle = [np.arange(max(size)) >= size[:, None] for size in sizes]
        windows = [np.minimum(window, len(numbers) - 1) for window, numbers in zip(windows, degrees, strict=True)]
        units = [tf.gather(order, window) for order, window in zip(orders, windows, strict=True)]
        seen = [
            np.where(skip, np.inf, numbers[window])
            for skip, numbers, window in zip(idle, [degrees[0] + 1, *degrees[1:]], windows, strict=True)
        ]
        # After the hidden layers come the outputs, of the coordinates, P for each.
        self.starts, self.windows = [*starts[1:], starts[0]], [*windows[1:], windows[0]]
        self.output_sizes = [*self.input_sizes[1:], self.input_sizes[0]]
        groups = [1] * len(starts[1:]) + [made.params]
        orders, degrees = [*orders[1:], orders[0]], [*degrees[1:], degrees[0]]
        self.kernels = [
            made.rounded(k, self._sorted_kernel(*parts))
            for k, parts in enumerate(
                zip(weights.kernels, units, seen, orders, degrees, groups, self.output_sizes, strict=True)
            )
        ]
        size = len(degrees[-1])
        columns = [*units[1:], tf.concat([units[0] + size * p for p in range(made.params)], 1)]
        self.biases = _gather_columns(weights.biases, columns)
        self.context_kernels = _gather_columns(weights.context_kernels, columns)
        self.context_biases = _gather_columns(weights.context_biases, columns)
        self.real = tf.cast(~idle[0][..., None], weights.kernels[0].dtype)
        self._coordinates = units[0]
        self._positions = tf.cast(made.positions, tf.int32)

    def _starts_and_sizes(self, degrees):
        """Where among the units, sorted by degree, each block begins, and how many it holds."""
        sizes = np.bincount((degrees // self.height).astype(int), minlength=self.count)
        return np.cumsum(sizes) - sizes, sizes

    def _sorted_kernel(self, kernel, rows, seen, order, sees, groups, width):
        """The masked kernel, `[rows by blocks, groups, columns in their order]`, with room after the last column."""
        kernel = tf.gather(tf.reshape(kernel, [kernel.shape[0], groups, -1]), tf.reshape(rows, [-1]))
        if tf.is_tensor(order) or (np.diff(order) < 0).any():
            kernel = tf.gather(kernel, order, axis=-1)
        mask = tf.constant(sees, tf.float32) >= tf.constant(seen.reshape([-1, 1, 1]), tf.float32)
        kernel = tf.where(mask, kernel, tf.zeros([], kernel.dtype))
        return tf.pad(kernel, [[0, 0], [0, 0], [0, width]])

    def split(self, event):
        """`[n, D]` to `[count, B, n]`, with zeros where there is no coordinate."""
        return self.real * tf.gather(tf.transpose(event), self._coordinates)

    def join(self, blocks):
        """`[count, B, n]` to `[n, D]`."""
        return tf.transpose(tf.gather(_flat(blocks), self._positions))

    def zeros(self, like):
        """Room for what each matrix takes."""
        return [tf.zeros([self.count, size, tf.shape(like)[-1]], like.dtype) for size in self.input_sizes]

    def context_terms(self, context):
        """What the context adds to each hidden layer, or closes its gates by: `[count, size, n]`, or 1 for n."""
        terms = [tf.matmul(kernel, context) for kernel in self.context_kernels]
        if self.context_biases:
            terms = [term + bias for term, bias in zip(terms, self.context_biases, strict=True)]
        return terms

    def evaluate(self, v, terms):
        """All that each matrix takes, and its products with it, given all coordinates: one pass of the network.

        Only the sums have derivatives, and only by the weights.
        """
        inputs, sums = [], []

        def linear(k, u):
            inputs.append(tf.stop_gradient(self.made.rounded(k, u)))
            total = tf.gather(tf.einsum("igc,in->cgn", self.kernels[k], _flat(inputs[-1])), self.windows[k])
            total = tf.transpose(total, [0, 2, 1, 3])
            sums.append(tf.reshape(total, [self.count, self.biases[k].shape[1], tf.shape(v)[-1]]))
            term = tf.stop_gradient(terms[k]) if k < len(terms) else None
            return self.made.after_product(k, tf.stop_gradient(sums[-1]), tf.stop_gradient(self.biases[k]), term)

        self.made.network(v, linear)
        return inputs, sums

    def block(self, k, inputs, terms, sums=None):
        """Block k, and all that comes to it from the inputs of the blocks before; or given the sums of all blocks."""
        kernels = [
            tf.reshape(tf.slice(kernel, [0, 0, tf.gather(start, k)], [*kernel.shape[:2], size]), [kernel.shape[0], -1])
            for kernel, start, size in zip(self.kernels, self.starts, self.output_sizes, strict=True)
        ]
        inner = [tf.reshape(kernel, [self.count, -1, kernel.shape[1]])[k] for kernel in kernels]
        if sums is None:
            shifts = [_multiply(kernel, _flat(u)) for kernel, u in zip(kernels, inputs, strict=True)]
        else:
            shifts = [s[k] - _multiply(kernel, u[k]) for s, kernel, u in zip(sums, inner, inputs, strict=True)]
        return _Block(self.made, inner, shifts, [bias[k] for bias in self.biases], [term[k] for term in terms])

    def transposed(self, k, by_sums):
        """The transposed matrices, from the sums of other blocks to the inputs of block k."""
        arrived = []
        for kernel, size, windows, parts in zip(self.kernels, self.input_sizes, self.windows, by_sums, strict=False):
            rows = tf.gather(tf.reshape(kernel, [self.count, size, *kernel.shape[1:]])[k], windows, axis=-1)
            parts = tf.reshape(parts, [self.count, kernel.shape[1], windows.shape[1], tf.shape(parts)[-1]])
            arrived.append(tf.einsum("igbs,bgsn->in", rows, parts))
        return arrived


class _Block:
    """The part of a network inside one block; `shifts` are what comes to its products from outside."""

    def __init__(self, made, kernels, shifts, biases, context_terms):
        self.made = made
        self.kernels = kernels
        self.shifts = shifts
        self.biases = biases
        self.context_terms = context_terms

    def evaluate(self, v):
        """The parameters, `[P * B, n]`, and what each matrix takes, given all coordinates of the block."""
        inputs = []

        def linear(k, u):
            inputs.append(self.made.rounded(k, u))
            return self._linear(k, inputs[-1])

        return self.made.network(v, linear), inputs

    def parameters(self, v, i):
        """The parameters `[P, n]` of coordinate i alone."""
        last, params = len(self.kernels) - 1, self.made.params
        kernel = tf.reshape(self.kernels[last], [self.kernels[last].shape[0], params, -1])[..., i]
        shift = tf.reshape(self.shifts[last], [params, -1, tf.shape(v)[-1]])[:, i]
        bias = tf.reshape(self.biases[last], [params, -1, 1])[:, i]

        def linear(k, u):
            u = self.made.rounded(k, u)
            if k < last:
                return self._linear(k, u)
            return self.made.after_product(k, shift + _multiply(kernel, u), bias, None)

        return self.made.network(v, linear)

    def _linear(self, k, u):
        term = self.context_terms[k] if k < len(self.context_terms) else None
        return self.made.after_product(k, self.shifts[k] + _multiply(self.kernels[k], u), self.biases[k], term)


def _multiply(kernel, u):
    return tf.matmul(kernel, u, transpose_a=True)


def _argsort(degrees):
    if isinstance(degrees, np.ndarray):
        return np.argsort(degrees, kind="stable").astype(np.int32)
    return tf.argsort(degrees, stable=True)


def _gather_columns(weights, columns):
    """`[..., columns]` to `[count, size, ...]`, with an axis of length 1 for `...` where there is none."""
    # Contexts have no weights for the last columns, the outputs.
    blocked = [tf.gather(weight, column, axis=-1) for weight, column in zip(weights, columns, strict=False)]
    return [part[..., None] if part.shape.rank == 2 else tf.transpose(part, [1, 2, 0]) for part in blocked]


def _flat(blocks):
    """`[count, size, n]` to `[count * size, n]`."""
    return tf.reshape(blocks, [blocks.shape[0] * blocks.shape[1], tf.shape(blocks)[-1]])


def _with_row(block, i, row):
    return tf.where(tf.range(block.shape[0])[:, None] == i, row, block)


def _with_block(layers, k, blocks):
    """The block k of every layer, or of every layer of a list."""
    return tf.nest.map_structure(
        lambda layer, block: tf.tensor_scatter_nd_update(layer, [[k]], block[None]), layers, blocks
    )


def _columns(context):
    """`[n, C]` or `[C]` to `[C, n]` or `[C, 1]`."""
    return None if context is None else tf.transpose(tf.reshape(context, [-1, context.shape[-1]]))


def _block_sizes(event_size):
    """The number of blocks, about √(BLOCKS D), and their height B."""
    height = math.ceil(event_size / max(1, round(math.sqrt(BLOCKS * event_size))))
    return math.ceil(event_size / height), height
