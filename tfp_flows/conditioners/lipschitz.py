"""Networks with a bounded Lipschitz constant, held by spectral normalization."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_context_size, check_hidden_units, check_positive_integers, draw_seed, split_seed


@keras.saving.register_keras_serializable("tfp_flows")
class LipschitzMLP(keras.layers.Layer):
    """A dense network g(x; c) with ‖g(x; c) - g(y; c)‖ ≤ L ‖x - y‖, whatever its weights.

    h₁ = Ŵ₁ x + V c + b₁, hₖ = Ŵₖ φ(hₖ₋₁) + bₖ, g = Ŵ φ(h) + b, where W = 0 at the start. Ŵ = W min(1, κ / ‖W‖₂), with
    κ the root of L over the number of matrices. φ is LipSwish, φ(h) = h σ(softplus(β) h) / 1.1, whose slopes lie
    between -1 and 1, with a trainable β for each hidden layer. The context enters without a bound.

    The norms come from power iterations that go on until they change by less than 1e-4 of themselves. Their vectors
    are weights, which training updates: after a step a few iterations do.

    Shapes: x `[..., input_size]`, context `[..., context_size]`, output `[..., output_size]`. The batch shapes of x
    and of the context broadcast.

    Arguments:
      input_size, output_size: the number of coordinates in and out.
      hidden_units: the widths of the hidden layers, at least one.
      lipschitz: L, positive. The norms are known to about 1e-3, so leave that much room below a bound that matters.
      context_size: C, the length of a context vector; 0 for none.
      seed: an integer that fixes every weight; drawn if None.
      **kwargs: `name`, `dtype`, `trainable`, as every Keras layer has them.

    Raises: ValueError for sizes that are not positive integers, and for a bound that is not positive.

    Source: Chen et al. 2019, arXiv 1906.02735, sections 3.3 and 3.4; Miyato et al. 2018, arXiv 1802.05957, appendix A.

    Example:

    >>> import tensorflow as tf, tfp_flows as tff
    >>> network = tff.conditioners.LipschitzMLP(input_size=3, output_size=3, lipschitz=0.9, context_size=2)
    >>> network(tf.ones([5, 3]), tf.ones([1, 2])).shape
    TensorShape([5, 3])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_units: Sequence[int] = (64, 64),
        lipschitz: float = 0.97,
        context_size: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        check_positive_integers(input_size=input_size, output_size=output_size)
        check_hidden_units(hidden_units)
        check_context_size(context_size)
        if not 0 < lipschitz < np.inf:
            raise ValueError(f"Expected `lipschitz` to be a positive number. Received: lipschitz={lipschitz!r}")
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_units = tuple(hidden_units)
        self.lipschitz = lipschitz
        self.context_size = context_size
        self.seed = draw_seed(seed)

        sizes = [input_size, *self.hidden_units, output_size]
        context_seed, *seeds = split_seed(self.seed, 1 + len(sizes))
        self.kernels, self.biases, self.vectors = [], [], []
        for k, (size, units) in enumerate(itertools.pairwise(sizes)):
            initializer = "zeros" if k == len(self.hidden_units) else keras.initializers.GlorotUniform(seeds[k])
            self.kernels.append(self.add_weight(shape=(size, units), initializer=initializer, name=f"kernel_{k}"))
            self.biases.append(self.add_weight(shape=(units,), initializer="zeros", name=f"bias_{k}"))
            vector = np.random.default_rng(seeds[k]).normal(size=units)
            self.vectors.append(self._state(vector / np.linalg.norm(vector), f"vector_{k}"))
        self.betas = [
            self.add_weight(shape=(), initializer=keras.initializers.Constant(0.5), name=f"beta_{k}")
            for k in range(len(self.hidden_units))
        ]
        self.context_kernel = None
        if context_size:
            self.context_kernel = self.add_weight(
                shape=(context_size, self.hidden_units[0]),
                initializer=keras.initializers.GlorotUniform(context_seed),
                name="context_kernel",
            )
        self.built = True

    def _state(self, value, name):
        """A weight that is not trained; every replica would write the same, so the first one's is kept."""
        return self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype: tf.constant(value, dtype),
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        return self.linearize(self.matrices(training), x, context)[0]

    def matrices(self, training: bool = False) -> list[tf.Tensor]:
        """Ŵ of every layer; in training the vectors of the power iteration are kept for the next step."""
        kernels = [tf.convert_to_tensor(kernel) for kernel in self.kernels]
        fixed = [tf.stop_gradient(kernel) for kernel in kernels]

        def unfinished(_, norms, before):
            return tf.reduce_any(tf.abs(norms - before) > 1e-4 * norms)

        def iterate(vectors, norms, _):
            pairs = [_power_iteration(kernel, vector) for kernel, vector in zip(fixed, vectors, strict=True)]
            return [vector for vector, _ in pairs], tf.stack([norm for _, norm in pairs]), norms

        vectors = [tf.convert_to_tensor(vector) for vector in self.vectors]
        none = tf.zeros([len(kernels)], vectors[0].dtype)
        vectors, _, _ = tf.while_loop(unfinished, iterate, (vectors, none, none + np.inf), maximum_iterations=1000)
        if training:
            for variable, vector in zip(self.vectors, vectors, strict=True):
                variable.assign(vector)
        bound = self.lipschitz ** (1 / len(kernels))
        return [
            kernel / tf.maximum(_norm(kernel, vector) / bound, 1)
            for kernel, vector in zip(kernels, vectors, strict=True)
        ]

    def linearize(
        self, matrices: list[tf.Tensor], x: tf.Tensor, context: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        """g(x; c), and the function v -> (∂g/∂x) v of vectors v, `[..., m, input_size]`: m of them at each x."""
        biases = [tf.convert_to_tensor(bias) for bias in self.biases]
        hidden = tf.tensordot(x, matrices[0], 1) + biases[0]
        if self.context_kernel is not None:
            hidden += tf.tensordot(context, tf.convert_to_tensor(self.context_kernel), 1)
        slopes = []
        for beta, matrix, bias in zip(self.betas, matrices[1:], biases[1:], strict=True):
            hidden, slope = lipswish(hidden, tf.convert_to_tensor(beta))
            slopes.append(slope[..., tf.newaxis, :])
            hidden = tf.tensordot(hidden, matrix, 1) + bias

        def push(v):
            v = tf.tensordot(v, matrices[0], 1)
            for slope, matrix in zip(slopes, matrices[1:], strict=True):
                v = tf.tensordot(slope * v, matrix, 1)
            return v

        return hidden, push

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_size": self.input_size,
            "output_size": self.output_size,
            "hidden_units": self.hidden_units,
            "lipschitz": self.lipschitz,
            "context_size": self.context_size,
            "seed": self.seed,
        }


def lipswish(h, beta):
    """φ(h) = h σ(b h) / 1.1 with b = softplus(β), and φ'(h)."""
    # Beyond ±100 the gate is 0 or 1 to rounding. Without the clip its gradient there is 0 times what may overflow.
    scaled = tf.clip_by_value(tf.math.softplus(beta) * h, -100.0, 100.0)
    gate = tf.math.sigmoid(scaled)
    return h * gate / 1.1, gate * (1 + scaled * tf.math.sigmoid(-scaled)) / 1.1


def _power_iteration(kernel, vector):
    """The next vector, and ‖W‖₂ so far. A kernel of zeros, as the last one is at first, leaves the vector alone."""
    right = tf.linalg.matvec(kernel, _unit(tf.linalg.matvec(kernel, vector)), transpose_a=True)
    norm = tf.norm(right)
    return tf.where(norm > _TINY, _unit(right), vector), norm


def _norm(kernel, right):
    """‖W‖₂ = uᵀ W v with its singular vectors u and v, which to first order do not change with W."""
    right = tf.stop_gradient(right)
    image = tf.linalg.matvec(kernel, right)
    return tf.tensordot(_unit(tf.stop_gradient(image)), image, 1)


def _unit(vector):
    return vector / tf.maximum(tf.norm(vector), _TINY)


# Squares of smaller numbers vanish in float32.
_TINY = 1e-18
