"""flowjax's flows, compiled by JAX; an epoch is its own `fit_to_data`."""

import functools

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
from cases import EPOCH_BATCHES
from flowjax import bijections, distributions, flows, train


def data(case, rows):
    """Rows and their contexts, or None."""
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=[rows, *case.shape]), jnp.float32)
    return x, jnp.asarray(generator.normal(size=[rows, case.context_size]), jnp.float32) if case.context_size else None


def jobs(make, case, mode):
    key = jax.random.key(0)
    flow = make(case, key, base_dist=distributions.Normal(jnp.zeros(case.event_size)), flow_layers=case.num_layers)
    is_weight = equinox.is_inexact_array
    numbers = np.random.default_rng(0)

    def shaken(leaf):  # as in the other libraries, no layer should be the identity
        if not is_weight(leaf):
            return leaf
        return leaf + (numbers.normal(size=leaf.shape) * 0.1 / leaf.shape[-1] ** 0.5).astype("float32")

    flow = jax.tree.map(shaken, flow)
    params, static = equinox.partition(flow, is_weight, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable))
    optimizer = optax.adam(1e-5)
    state = {"params": params, "optimizer": optimizer.init(params)}
    x, context = data(case, case.batch)
    points, contexts = data(case, case.points)
    rows = data(case, EPOCH_BATCHES * case.batch)
    rows = tuple(part for part in rows if part is not None)
    loss = reverse_kl if case.flow == "iaf" else train.losses.MaximumLikelihoodLoss()
    batch = () if case.flow == "iaf" else (x,) if context is None else (x, context)

    @equinox.filter_jit
    def step(params, optimizer_state, *batch):
        value, gradient = equinox.filter_value_and_grad(loss)(params, static, *batch, key=key)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return equinox.apply_updates(params, updates), optimizer_state, value

    def training(*batch):
        state["params"], state["optimizer"], value = step(state["params"], state["optimizer"], *batch)
        return value

    def epoch():
        shuffled = [part[jax.random.permutation(key, len(part))] for part in rows]
        starts = range(0, len(rows[0]), case.batch)
        losses = [training(*(part[start : start + case.batch] for part in shuffled)) for start in starts]
        jnp.mean(jnp.stack(losses)).block_until_ready()

    # What may change is an argument, so that nothing of it is worked out when compiling.
    density = equinox.filter_jit(lambda flow, points, contexts: flow.log_prob(points, condition=contexts))
    shape = (case.points,) if contexts is None else ()
    drawing = equinox.filter_jit(lambda flow, key, contexts: flow.sample(key, shape, condition=contexts))
    found = {
        "train": lambda: training(*batch).block_until_ready(),
        "density": lambda: density(flow, points, contexts).block_until_ready(),
        "sample": lambda: drawing(flow, key, contexts).block_until_ready(),
    }
    return found if case.flow == "iaf" else {**found, "epoch": epoch}


def reverse_kl(params, static, key):
    """To a normal of twice the width."""
    flow = paramax.unwrap(equinox.combine(params, static))
    sample, log_prob = flow.sample_and_log_prob(key, (512,))
    return (log_prob + (sample**2).sum(-1) / 8).mean()


def networks(case):
    return {"nn_width": case.hidden_units[0], "nn_depth": len(case.hidden_units)}


def spline(case):
    return bijections.RationalQuadraticSpline(knots=case.num_bins, interval=3.0)


def coupling(case, key, transformer=lambda case: None, **options):
    options |= {"transformer": transformer(case), "cond_dim": case.context_size or None}
    return flows.coupling_flow(key, **networks(case), **options)


def autoregressive(case, key, transformer=lambda case: None, **options):
    options |= {"transformer": transformer(case), "invert": case.flow != "iaf"}
    return flows.masked_autoregressive_flow(key, **networks(case), **options)


FLOWS = {
    "realnvp": coupling,
    "spline coupling": functools.partial(coupling, transformer=spline),
    "spline autoregressive": functools.partial(autoregressive, transformer=spline),
    "maf": autoregressive,
    "iaf": autoregressive,
    "planar": lambda case, key, **options: flows.planar_flow(key, **options),
}
MAKERS = {flow: functools.partial(jobs, make) for flow, make in FLOWS.items()}
