"""Normalizing flows for TensorFlow Probability that train with Keras 3."""

from tfp_flows import transformers
