"""The contract of a transformer: parameters in, an invertible scalar map out.

"Transformer" is the term of Papamakarios et al. 2021 (JMLR 22, 57) for the scalar map of a coupling or an
autoregressive flow; it has nothing to do with attention.
"""

import abc

import numpy as np
import tensorflow as tf


class Transformer(abc.ABC):
    """An increasing scalar map y = g(x; θ), applied to every coordinate with parameters of its own.

    A transformer is a pure function of tensors: it holds no variables and no networks, only settings. Subclasses are
    frozen dataclasses, so that their settings print, compare and save by themselves.

    Shapes, with `D` coordinates and `P` parameters a coordinate:
      x, y: `[..., D]`.
      parameters: `[..., P, D]`, broadcast against x. The parameter axis comes before the coordinates, so that
        `tf.unstack(parameters, axis=-2)` gives P tensors that line up with x and the arithmetic runs along the data.

    Parameters are unconstrained: every real value gives an increasing map. Both directions are finite, in value and
    gradient, for every finite input up to 1e15 in size.
    """

    @property
    @abc.abstractmethod
    def num_parameters(self) -> int:
        """P, the number of parameters a coordinate."""

    def initial_parameters(self) -> np.ndarray:
        """The `[P]` parameters that a new flow starts from: those of the identity, where the map has one."""
        return np.zeros(self.num_parameters)

    @abc.abstractmethod
    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """y = g(x) and log(dy/dx), both of the shape of x."""

    @abc.abstractmethod
    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """x = g⁻¹(y) and log(dx/dy), both of the shape of y."""
