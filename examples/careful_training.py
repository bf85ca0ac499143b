"""Robust training: warm-up and cosine decay, clipping, averaged weights, a doctor, a monitor, pictures, a backup.

python examples/careful_training.py --output out

Most of it is Keras's; `tff.callbacks` adds what Keras lacks for flows. To show the doctor at work, one row of the data
is non-finite. Stopped in the middle and started again, training continues from the last finished epoch.
"""

import argparse
import pathlib

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default="out", help="folder to write to")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    x = tff.datasets.checkerboard(arguments.rows, seed=0)
    held_out = tff.datasets.checkerboard(5_000, seed=1)
    train = np.concatenate([x, [[0.5, np.nan]]]).astype("float32")
    data = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train)).batch(256)

    # Up to 3e-3 in the first twentieth, then down to 0: the last tenths of a nat need small steps.
    steps = arguments.epochs * len(data)
    warmup = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=3e-3, warmup_steps=warmup)
    model = tff.FlowModel(tff.flows.neural_spline_coupling(2, arguments.layers, bound=5.0, seed=0))
    model.compile(
        # `fit` ends with the averaged weights in the model.
        keras.optimizers.Adam(schedule, global_clipnorm=5.0, use_ema=True, ema_momentum=0.995),
        metrics=["bits_per_dim"],
    )
    history = model.fit(
        data,
        validation_data=(held_out,),
        epochs=arguments.epochs,
        verbose=0,
        callbacks=[
            tff.callbacks.FlowDoctor(max_failures=arguments.epochs, data=train),
            tff.callbacks.BijectivityMonitor(held_out[:64]),
            tff.callbacks.FlowPictures(held_out, arguments.output / "pictures", every=max(1, arguments.epochs // 4)),
            keras.callbacks.BackupAndRestore(arguments.output / "backup"),
        ],
    ).history

    print(f"{'epoch':>5s}  {'held-out loss':>13s}  {'round trip':>10s}  {'log-det':>8s}")
    columns = [history[name] for name in ("val_loss", "round_trip_error", "log_det_error")]
    for epoch, (held_out_loss, round_trip, log_det) in enumerate(zip(*columns, strict=True)):
        print(f"{epoch + 1:5d}  {held_out_loss:13.3f}  {round_trip:10.1e}  {log_det:8.1e}")
    loss = model.evaluate(held_out, verbose=0, return_dict=True)["loss"]
    print(f"averaged weights: {loss:.3f} nats, exact entropy {tff.datasets.checkerboard.entropy():.3f}")


if __name__ == "__main__":
    main()
