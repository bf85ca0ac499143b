"""The likelihood as Keras's loss and metric: functions of (x, log p(x))."""

import math

import keras


@keras.saving.register_keras_serializable("tfp_flows")
class NegativeLogLikelihood(keras.losses.Loss):
    """-log p(x), in nats; its mean over data is KL(data || model) up to a constant.

    With sample weights w, Keras's mean is Σ w (-log p) / n, with n the number of rows.
    """

    def __init__(self, name="negative_log_likelihood", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, x, log_prob):
        return -log_prob

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


@keras.saving.register_keras_serializable("tfp_flows")
class BitsPerDim(keras.metrics.Mean):
    """The mean of -log p(x) / (D log 2): bits per coordinate, where x has D coordinates."""

    def __init__(self, name="bits_per_dim", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, x, log_prob, sample_weight=None):
        size = math.prod(x.shape[len(log_prob.shape) :])
        return super().update_state(-log_prob / (size * math.log(2.0)), sample_weight)
