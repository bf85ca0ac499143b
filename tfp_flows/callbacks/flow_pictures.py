"""FlowPictures: samples over data, epoch by epoch."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows import plotting
from tfp_flows._arguments import check_positive_integers
from tfp_flows._types import Array, Context
from tfp_flows.callbacks._flow_callback import FlowCallback


class FlowPictures(FlowCallback):
    """Draws the flow's samples over the data, as PNG files and as images for TensorBoard.

    Each picture has every column's histogram and every pair's contours, see `tff.plotting.corner`. The draws come from
    one seed, so that from picture to picture only the flow changes. `tensorboard --logdir folder` shows them with a
    slider over the epochs.

    Arguments:
      x: data, `[n, D]`.
      folder: where `epoch_0001.png` and so on, and TensorBoard's file, are written; it is created if it does not exist.
      context: `[n, C]`, for a conditional flow; each of its rows gets one draw.
      every: the number of epochs from one picture to the next.
      columns: the numbers of the columns to draw; None for the first six.
      labels: the names of all D columns.
      seed: the seed of the draws.

    Raises: ValueError for data that is not `[n, D]` with D of 2 or more; TypeError for a model that is no `FlowModel`;
    ImportError, when training begins, if matplotlib or corner are not installed.
    """

    def __init__(
        self,
        x: Array,
        folder: str | os.PathLike,
        context: Context | None = None,
        every: int = 1,
        columns: Sequence[int] | None = None,
        labels: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive_integers(every=every)
        self.x, self.context, self.folder, self.every, self.seed = np.asarray(x), context, folder, every, seed
        if self.x.ndim != 2 or self.x.shape[1] < 2:
            raise ValueError(f"Expected data of shape [n, D], D of 2 or more. Received: shape {self.x.shape}")
        self.columns = list(range(min(6, self.x.shape[1])) if columns is None else columns)
        self.labels = None if labels is None else [labels[column] for column in self.columns]

    def on_train_begin(self, logs: dict | None = None) -> None:
        import corner  # noqa: F401  (better missing now than after an epoch)

        pathlib.Path(self.folder).mkdir(parents=True, exist_ok=True)
        self._writer = tf.summary.create_file_writer(str(self.folder))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if (epoch + 1) % self.every:
            return
        import matplotlib.pyplot as plt

        path = pathlib.Path(self.folder) / f"epoch_{epoch + 1:04d}.png"
        samples = self._samples()
        figure = plotting.corner(self.x[:, self.columns], samples[:, self.columns], self.labels)
        figure.savefig(path)
        plt.close(figure)
        # A summary written by hand: `tf.summary.image` requires TensorBoard, which only the reader needs.
        image = tf.compat.v1.Summary.Image(encoded_image_string=path.read_bytes(), colorspace=4)
        summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag="samples over data", image=image)])
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()

    def _samples(self):
        if self.context is None:
            return self.model.sample(len(self.x), seed=self.seed).numpy()
        return self.model.sample(1, self.context, seed=self.seed)[0].numpy()
