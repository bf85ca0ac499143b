"""What low_dimensions.py asks of zuko: rows.npz, the flow, epochs and a seed, to a line of JSON."""

import json
import sys
import time

import numpy as np
import torch
import zuko

BATCH = 512


def main(path, flow, epochs, seed):
    rows, epochs, seed = np.load(path), int(epochs), int(seed)
    torch.set_num_threads(2)
    torch.manual_seed(seed)
    x, held_out = (torch.from_numpy(rows[name]) for name in ("x", "held_out"))
    passes = 2 if flow == "coupling" else None
    model = zuko.flows.NSF(x.shape[1], bins=8, transforms=5, hidden_features=(128, 128), passes=passes)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(x) // BATCH))
    ends, start = [], time.perf_counter()
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad()
            loss = -model().log_prob(x[batch]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimizer.step()
            schedule.step()
        ends.append(time.perf_counter())
    with torch.no_grad():
        nll = -model().log_prob(held_out).mean().item()
    print(json.dumps({"seconds": ends[-1] - start, "first_epoch": ends[0] - start, "nll": nll}))


if __name__ == "__main__":
    main(*sys.argv[1:])
