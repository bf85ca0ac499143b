"""What the splines share: bins from unconstrained parameters, the bin of a point, and the tails."""

import dataclasses
import itertools
import math
import numbers

import tensorflow as tf

from tfp_flows._math.gradients import custom_gradient
from tfp_flows.transformers.transformer import Transformer

# The greatest raw slope that is taken as it comes.
STEEPEST = 1000.0


@dataclasses.dataclass(frozen=True)
class Spline(Transformer):
    """A piecewise map of [-bound, bound] onto itself in `num_bins` bins, with tails outside.

    A subclass gives `_forward` and `_inverse` on [-bound, bound]; the tails are added here, once for all:
      "identity": y = x outside.
      "linear": outside, y goes on with the slope it has at ±bound.

    Raises:
      ValueError: for a `num_bins` that is no positive integer, a `bound` that is no positive number, floors of the
        bins that are not positive or leave no room to the bins, a `min_slope` outside (0, 1), or unknown tails.
    """

    num_bins: int = 8
    bound: float = 3.0

    tails = "identity"

    def __post_init__(self):
        if not (isinstance(self.num_bins, numbers.Integral) and self.num_bins >= 1):
            raise ValueError(f"Expected `num_bins` to be a positive integer. Received: num_bins={self.num_bins!r}")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"Expected `bound` to be a positive number. Received: bound={self.bound!r}")
        if self.tails not in ("identity", "linear"):
            raise ValueError(f'Expected `tails` to be "identity" or "linear". Received: tails={self.tails!r}')
        for name in ("min_bin_width", "min_bin_height"):
            floor = getattr(self, name, 1e-3 / self.num_bins)
            if not 0 < floor * self.num_bins < 1:
                raise ValueError(
                    f"Expected `{name}`, a fraction of the interval, to be positive and less than 1 / num_bins. "
                    f"Received: {name}={floor!r}, num_bins={self.num_bins}"
                )
        if not 0 < getattr(self, "min_slope", 1e-3) < 1:
            raise ValueError(f"Expected `min_slope` to lie between 0 and 1. Received: min_slope={self.min_slope!r}")

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._with_tails(self._forward, x, parameters)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._with_tails(self._inverse, y, parameters)

    def _with_tails(self, spline, x, parameters):
        # The spline sees clipped points only, so that the branch not taken is finite in value and gradient.
        inside = tf.clip_by_value(x, -self.bound, self.bound)
        y, log_derivative = spline(inside, parameters)
        if self.tails == "linear":
            return y + tf.exp(log_derivative) * (x - inside), log_derivative
        outside = tf.abs(x) >= self.bound
        return tf.where(outside, x, y), tf.where(outside, tf.zeros_like(log_derivative), log_derivative)

    def _fraction(self, x):
        """x, as a fraction of the way from -bound to bound."""
        return (x + self.bound) / (2 * self.bound)

    def _way_through(self, x, start, size):
        """ξ, how far x has come through its bin, as a fraction."""
        ξ = (x - start) / size
        # Rounding can put ξ outside [0, 1], where logarithms and roots would be of negative numbers, and short of 1 at
        # the end of the last bin, from which the tails go on. It must not, but the derivative is that of the ratio.
        exact = tf.where(x >= self.bound, tf.ones_like(ξ), tf.clip_by_value(ξ, 0.0, 1.0))
        return rounded_to(exact, ξ)

    def _edge_and_size(self, start, size):
        """Position of the left edge and size of a bin, from fractions of the interval."""
        return 2 * self.bound * start - self.bound, 2 * self.bound * size


def softmax(logits, floor):
    """K positive numbers that sum to 1, none below `floor`: floor + (1 - K floor) softmax(logits), on axis -2."""
    exponentials = tf.exp(logits - tf.stop_gradient(tf.reduce_max(logits, axis=-2, keepdims=True)))
    return floor + exponentials * ((1 - logits.shape[-2] * floor) / tf.reduce_sum(exponentials, axis=-2, keepdims=True))


def slope_above(floor, raw):
    """A slope above `floor`, floor + softplus(raw + c), with the c for which raw = 0 gives 1, and below 1001."""

    @custom_gradient
    def softplus(x):
        # The derivative as a quotient, as in `Bin.start_and_size`. The clip keeps the second derivative finite.
        return tf.nn.softplus(x), lambda d_softplus: d_softplus / (1 + tf.exp(tf.minimum(-x, 80.0)))

    # Bounded above as well: a slope of 1e30, from a network's answer to an input of 1e30, would overflow in the tails.
    return floor + softplus(tf.minimum(raw, STEEPEST) + math.log(math.expm1(1 - floor)))


def rounded_to(exact, x):
    """`exact` in value, x in derivative: for an `exact` that differs from x by rounding errors only."""
    return x + tf.stop_gradient(exact - x)


class Bin:
    """The bin that each point lies in, and look-ups of what belongs to it.

    The bin is held as one mask for each inner knot: has the point passed it? With K bins a look-up is then a chain of
    K - 1 `tf.where` along the data, with neither gathers nor a `[..., K, D]` temporary.

    Every look-up brings its own gradient, in which the masks choose for each row what goes to it; autodiff would undo
    the chain link by link. These gradients are made of differentiable operations, so that higher ones are right too.

    Arguments:
      passed: K - 1 boolean tensors of the shape of the points, each of which implies the one before.
    """

    def __init__(self, passed):
        self.passed = passed

    @classmethod
    def of(cls, point, knots):
        """The bin of each `[..., D]` point between the inner `knots`, a list of K - 1 increasing tensors or numbers."""
        return cls([knot <= point for knot in knots])

    @classmethod
    def of_fraction(cls, fraction, logits, floor):
        """The bin of a point in [0, 1], cut into bins of the sizes `softmax(logits, floor)`."""
        edges, end = _edges(_exponentials_and_sums(logits)[1], floor)
        return cls.of(fraction * end, edges[1:])

    def index(self, dtype):
        """The number of the bin, from 0, as a float."""
        return tf.add_n([tf.cast(passed, dtype) for passed in self.passed]) if self.passed else tf.zeros([], dtype)

    def start_and_size(self, logits, floor):
        """Left edge and size of the bin, where [0, 1] is cut into bins of the sizes `softmax(logits, floor)`."""

        @custom_gradient
        def look_up(logits):
            exponentials, sums = _exponentials_and_sums(logits)
            total, edges, end = sums[-1], *_edges(sums, floor)

            def gradient(d_start, d_size):
                # XLA repeats cheap operations in each of their consumers, which are the K rows here, but divisions
                # never: the three numbers that go to all rows are quotients.
                d_before, d_here = d_start / end, d_size / end
                mean = (self._pick(sums[:-1]) * d_before + self._pick(exponentials) * d_here) / total
                zero = tf.zeros_like(mean)
                rows = [
                    exponential * (self._where_passed(j + 1, d_before, self._where_passed(j, d_here, zero)) - mean)
                    for j, exponential in enumerate(exponentials)
                ]
                return _stack_like(logits, rows)

            return (self._pick(edges) / end, self._pick(exponentials) / end + floor), gradient

        return look_up(logits)

    def value(self, values):
        """values_k of bin k, of `[..., K, D]` values."""

        @custom_gradient
        def look_up(values):
            rows = _rows(values)

            def gradient(d_value):
                zero = tf.zeros_like(d_value)
                return _stack_like(
                    values,
                    [self._where_passed(j + 1, zero, self._where_passed(j, d_value, zero)) for j in range(len(rows))],
                )

            return self._pick(rows), gradient

        return look_up(values)

    def sum_before(self, values):
        """The sum of values_j over the bins j before bin k, of `[..., K, D]` values."""

        @custom_gradient
        def look_up(values):
            rows = _rows(values)

            def gradient(d_sum):
                zero = tf.zeros_like(d_sum)
                return _stack_like(values, [self._where_passed(j + 1, d_sum, zero) for j in range(len(rows))])

            return self._pick([tf.zeros_like(rows[0]), *itertools.accumulate(rows[:-1])]), gradient

        return look_up(values)

    def ends(self, values):
        """values_k and values_k+1 at both knots of bin k, of `[..., K + 1, D]` values at all knots."""

        @custom_gradient
        def look_up(values):
            rows = _rows(values)

            def gradient(d_left, d_right):
                zero = tf.zeros_like(d_left)
                return _stack_like(
                    values,
                    [
                        self._where_passed(
                            j + 1,
                            zero,
                            self._where_passed(j, d_left, self._where_passed(j - 1, d_right, zero)),
                        )
                        for j in range(len(rows))
                    ],
                )

            return (self._pick(rows[:-1]), self._pick(rows[1:])), gradient

        return look_up(values)

    def _pick(self, rows):
        chosen = rows[0]
        for passed, row in zip(self.passed, rows[1:], strict=True):
            chosen = tf.where(passed, row, chosen)
        return chosen

    def _where_passed(self, knot, then, otherwise):
        """`then` where knot number `knot` is passed: the first knot always is, and the last never."""
        if knot <= 0:
            return then
        return tf.where(self.passed[knot - 1], then, otherwise) if knot <= len(self.passed) else otherwise


def _exponentials_and_sums(logits):
    """The K exponentials of a softmax, and the K + 1 sums of those before each of them and of all."""
    exponentials = _rows(tf.exp(logits - tf.stop_gradient(tf.reduce_max(logits, axis=-2, keepdims=True))))
    return exponentials, [tf.zeros_like(exponentials[0]), *itertools.accumulate(exponentials)]


def _edges(sums, floor):
    """The left edges of the bins of a softmax with a floor, from 0, and the end of the last one to divide them by."""
    num_bins, total = len(sums) - 1, sums[-1]
    end = total / (1 - num_bins * floor)
    return [sum_before + (j * floor) * end for j, sum_before in enumerate(sums[:-1])], end


def _rows(values):
    """The rows on axis -2, as a list. Once that axis leads, each lies in one piece, along which XLA vectorizes."""
    rank = values.shape.rank
    return tf.unstack(tf.transpose(values, [rank - 2, *range(rank - 2), rank - 1]))


def _stack_like(values, rows):
    """Stacks the rows of a gradient on axis -2 and sums them over the axes that `values` were broadcast along."""
    gradient = tf.stack(rows, axis=-2)
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(values), s1=tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(values))
