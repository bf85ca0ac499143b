"""What the PyTorch libraries share: the jobs of a distribution, eager or with the training step by `torch.compile`.

Compiling takes a minute a function, and more for the loops of sampling: so it is the training step's alone.
"""

import numpy as np
import torch
from cases import EPOCH_BATCHES

torch.set_num_threads(2)
torch.manual_seed(0)


def data(case, rows):
    """Rows and their contexts, or None; channels come first."""
    generator = np.random.default_rng(0)
    shape = case.shape if case.image_shape is None else [case.shape[2], *case.shape[:2]]
    x = generator.normal(size=[rows, *shape])
    if case.image_shape:
        x = 0.1 + 0.8 * generator.random(size=x.shape)
    context = generator.normal(size=[rows, case.context_size]).astype("float32") if case.context_size else None
    return torch.tensor(x.astype("float32")), None if context is None else torch.tensor(context)


def jobs_of(case, mode, module, log_prob, sample, sample_and_log_prob=None):
    """The jobs by name; each returns when its result is there.

    log_prob takes rows and contexts, sample a number of rows and contexts; `sample_and_log_prob` a number of rows.
    """
    with torch.no_grad():
        for parameter in module.parameters():  # many start at 0: no layer should be the identity
            scale = 0.3 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.05
            parameter += scale * torch.randn_like(parameter)
    x, context = data(case, case.batch)
    points, contexts = data(case, case.points)
    optimizer = torch.optim.Adam(module.parameters(), 1e-5)

    def loss(x, context):
        if case.flow == "iaf":  # the reverse KL to a normal of twice the width
            drawn, density = sample_and_log_prob(case.batch)
            return (density + (drawn**2).sum(-1) / 8).mean()
        return -log_prob(x, context).mean()

    if mode == "compiled":
        loss = torch.compile(loss)

    def step(x, context):
        optimizer.zero_grad()
        value = loss(x, context)
        value.backward()
        optimizer.step()
        return value.item()

    @torch.no_grad()
    def density():
        return log_prob(points, contexts).numpy()

    @torch.no_grad()
    def drawing():
        return sample(case.points, contexts).numpy()

    rows = data(case, EPOCH_BATCHES * case.batch)
    rows = torch.utils.data.TensorDataset(*[part for part in rows if part is not None])
    loader = torch.utils.data.DataLoader(rows, case.batch, shuffle=True, drop_last=True)

    def epoch():
        for batch in loader:
            step(*batch, *[None] * (context is None))

    found = {"train": lambda: step(x, context), "density": density, "sample": drawing}
    return found if case.flow == "iaf" else {**found, "epoch": epoch}
