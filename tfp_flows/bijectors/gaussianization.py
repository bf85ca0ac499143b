"""Gaussianization: every coordinate made normal independently, then a rotation, repeatedly."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows._arguments import check_positive_integers
from tfp_flows._types import Array, Context
from tfp_flows.bijectors.linear import rotate, unit_vectors
from tfp_flows.bijectors.parametric import ParametricBijector
from tfp_flows.transformers.logistic_mixture import LogisticMixture


class Gaussianization(ParametricBijector):
    """A Gaussianization layer: a trainable normal score of every coordinate, and a trainable rotation.

    Inverse: z = Q Ψ(x) with Ψ_i(x) = Φ⁻¹(F_i(x_i)), F_i a mixture of K logistic distribution functions and Q a product
      of reflections; log|det ∂z/∂x| = Σ log Ψ_i'(x_i).
    Forward: x = Ψ⁻¹(Qᵀ z), by one root per coordinate.
    The inverse, and so the density, is the cheap direction; forward takes about as long as 5 to 8 inverses.

    `adapt(x)` sets F to the distribution of the data and Q to the principal axes of what Ψ makes of them. Layer after
    layer, as `FlowModel.adapt` does it, that alone is the rotation-based iterative Gaussianization (RBIG) of Laparra
    et al.; training continues from there. Without it Ψ starts near the identity, and Q is drawn from the seed.

    Shapes: z and x `[..., event_size]`, context `[..., context_size]`, log-determinants `[...]`, in nats.

    Arguments:
      event_size: D, the number of coordinates.
      num_components: K.
      num_reflections: how many reflections make up Q; None for D, enough for every rotation.
      context_size, hidden_units, activation, dtype, seed, validate_args, name: see `Bijector` and `MLP`. With a context
        F and Q are the network's output.

    Raises: ValueError if `num_components` or `num_reflections` is not a positive integer.

    Source: Meng et al. 2020, arXiv 2003.01941, section 3; Laparra et al. 2011, arXiv 1602.00229.

    Example:

    >>> import numpy as np, tensorflow as tf, tfp_flows as tff
    >>> x = np.random.default_rng(0).exponential(size=[1000, 1])
    >>> layer = tff.bijectors.Gaussianization(1, dtype=tf.float64)
    >>> layer.adapt(x)
    >>> z = layer.inverse(x).numpy()
    >>> bool(abs(z.mean()) < 0.1), bool(abs(z.std() - 1) < 0.1)
    (True, True)
    """

    def __init__(
        self, event_size: int, num_components: int = 8, num_reflections: int | None = None, **shared: Any
    ) -> None:
        super().__init__(event_size, **shared)
        self.transformer = LogisticMixture(num_components)
        self.num_reflections = self.event_size if num_reflections is None else num_reflections
        check_positive_integers(num_reflections=self.num_reflections)
        self._make_parameters(
            theta=np.repeat(self.transformer.initial_parameters()[:, np.newaxis], self.event_size, 1),
            vectors=np.random.default_rng(self.seed).normal(size=[self.num_reflections, self.event_size]),
        )

    def _forward_and_log_det(self, z, context):
        theta, vectors = self._parameters_for(context)
        x, log_derivative = self.transformer.forward(rotate(z, unit_vectors(vectors)[::-1]), theta)
        return x, tf.reduce_sum(log_derivative, -1)

    def _inverse_and_log_det(self, x, context):
        theta, vectors = self._parameters_for(context)
        scores, log_derivative = self.transformer.inverse(x, theta)
        return rotate(scores, unit_vectors(vectors)), tf.reduce_sum(log_derivative, -1)

    def adapt(self, x: Array, context: Context | None = None) -> None:
        """Sets the mixtures to the distribution of each coordinate of x, `[n, event_size]`, and Q to principal axes.

        With a context it starts the layer from the distribution of all x, whatever their context.

        Raises: ValueError if x is non-finite or holds no row.
        """
        x = np.asarray(x, np.float64).reshape([-1, self.event_size])
        if not len(x) or not np.isfinite(x).all():
            raise ValueError(
                f"`{self.name}` expected finite data to adapt to. "
                f"Received: {len(x)} rows with {np.count_nonzero(~np.isfinite(x))} non-finite values"
            )
        # A row for every component at least.
        x = np.repeat(x, -(-self.transformer.num_components // len(x)), 0)
        theta = self.transformer.parameters_of_data(x)
        scores = self.transformer.inverse(tf.constant(x), tf.constant(theta))[0].numpy()
        axes = np.linalg.eigh(np.cov(scores, rowvar=False, bias=True).reshape([self.event_size] * 2))[1][:, ::-1]
        self._start_from(theta=theta, vectors=_reflections(axes, self.num_reflections))


def _reflections(axes, num_reflections):
    """The v, `[R, D]`, of reflections that take axis k, a column of `axes`, to ± e_k, for every k < R.

    They are those of Householder's QR factorization of the axes. More than D are not needed; they turn the last sign.
    """
    axes = axes.copy()
    size = len(axes)
    vectors = np.zeros([num_reflections, size])
    vectors[size:, -1] = 1
    for k in range(min(num_reflections, size)):
        vectors[k, k:] = axes[k:, k]
        vectors[k, k] += np.copysign(1, axes[k, k])
        v = vectors[k] / np.linalg.norm(vectors[k])
        axes -= 2 * np.outer(v, v @ axes)
    return vectors
