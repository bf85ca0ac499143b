"""Quiet, reproducible, one thread per process: `make test` runs two processes."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Passes that make programs faster take longer than the programs run here.
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")

import keras
import pytest
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


@pytest.fixture(autouse=True)
def random_seed():
    keras.utils.set_random_seed(0)
