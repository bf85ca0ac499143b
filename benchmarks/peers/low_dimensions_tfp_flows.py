"""What low_dimensions.py asks of tfp_flows: rows.npz, the flow, epochs and a seed, to a line of JSON."""

import json
import sys
import time

import keras
import numpy as np

import tfp_flows as tff

BATCH = 512


def main(path, flow, epochs, seed):
    rows, epochs, seed = np.load(path), int(epochs), int(seed)
    x, held_out = rows["x"], rows["held_out"]
    keras.utils.set_random_seed(seed)
    make = getattr(tff.flows, f"neural_spline_{flow}")
    model = tff.FlowModel(make(x.shape[1], num_layers=5, hidden_units=(128, 128), num_bins=8, seed=seed))
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, epochs * (len(x) // BATCH))
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=5))
    ends = []
    end_of_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
    start = time.perf_counter()
    model.fit(x, epochs=epochs, batch_size=BATCH, callbacks=[end_of_epoch], verbose=0)
    found = {"seconds": ends[-1] - start, "first_epoch": ends[0] - start}
    print(json.dumps({**found, "nll": -float(np.mean(model.log_prob(held_out)))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
