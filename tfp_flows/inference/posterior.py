"""From a prior and a simulator to a posterior: neural posterior estimation."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import flows
from tfp_flows._arguments import check_positive_integers, draw_seed, random_generator, split_seed
from tfp_flows._types import Array, Structure
from tfp_flows.bijectors import LinearRegression, StandardizedContext, Support
from tfp_flows.distributions import Flow
from tfp_flows.inference._truncated import highest_density_region, truncated_sample
from tfp_flows.model import FlowModel


def posterior(
    prior: tfd.Distribution,
    simulations: Callable[[np.ndarray, int], Structure] | tuple[Array, Structure],
    num_simulations: int | None = None,
    *,
    flow: str | Callable[..., tfd.Distribution] = "neural_spline_coupling",
    embedding: keras.layers.Layer | None = None,
    regression: bool = True,
    ensemble: int = 1,
    observation: Structure | None = None,
    rounds: int = 1,
    max_proposals: int = 10_000_000,
    validation_split: float = 0.1,
    epochs: int = 1000,
    patience: int = 20,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    seed: int | None = None,
    verbose: int = 0,
    **options: Any,
) -> FlowModel:
    """The posterior p(θ|x) of a simulator x ~ p(x|θ) under a prior, as a flow trained on pairs (θ, x).

    The flow maximizes E[log q(θ|x)] over θ ~ p(θ), x ~ p(x|θ), whose maximum is q(θ|x) = p(θ|x), for all x at once. It
    ends in a `tff.bijectors.Support` of the prior, so that no draw leaves it; behind it parameters, and observations,
    are standardized. Next to the base stands a linear regression on the observations, which starts from least squares:
    what is linear is known before the first step. Training stops when the likelihood of held-out simulations has
    stopped to rise, and goes back to the best weights.

    With `rounds` the posterior is for one observation x₀. The first round simulates draws from the prior; every other
    one draws from the prior truncated to the region of highest density, with all but 1e-4 of its mass, of the last
    posterior given x₀. Every flow is trained on all simulations so far that lie in that region. Inside it, truncation
    leaves the posterior as it is, so that nothing has to be corrected.

    Shapes: θ `[n, D]`, x `[n, C]`, or what an `embedding` takes.

    Arguments:
      prior: a `tfd.Distribution` with a vector as event, or a `tfd.JointDistribution`, whose parts then stand side by
        side in θ, in their order (as `tfd.Blockwise` has them).
      simulations: a function `simulator(theta, seed)` from NumPy's θ `[n, D]` and an integer to x, one row for every
        row of θ; or a pair of arrays (θ, x), with θ drawn from the prior.
      num_simulations: how often to simulate, in all rounds together.
      flow: the name of a function of `tff.flows`, or a function as they are: of the size of the event, `context_size`
        or `embedding`, `dtype`, `seed` and `options`, that gives a distribution made by a bijector.
      embedding: a Keras layer that compresses x, trained with the flow: see `tff.bijectors.Embedded`. Other members of
        an ensemble get copies of it with weights of their own.
      regression: whether a `tff.bijectors.LinearRegression` stands next to the base, where there is no `embedding`.
      ensemble: how many flows to train; q is their mixture, which is smoother than each.
      observation: x₀, `[C]`, where there are several rounds.
      rounds: how many rounds of simulation and training.
      max_proposals: how many draws from the prior a round may take until enough of them lie in its region.
      validation_split: which part of the simulations is held out.
      epochs: how many passes to train at most.
      patience: after how many passes without a higher likelihood training stops; it is halved in step size after half
        as many.
      batch_size: None for a size from 32 to 256 that gives about 100 steps per pass.
      learning_rate: where Adam starts.
      seed: an integer that fixes simulations and weights; drawn if None.
      verbose: what Keras prints in training.
      **options: further arguments of `flow`, as `num_layers` and `hidden_units`.

    Returns: a `FlowModel` with events θ and context x: `sample(n, x)`, `log_prob(theta, x)`, `save`, and all of
      `tff.inference` and `tff.plotting`. (An ensemble is a mixture, for which there is `expected_coverage` in place of
      `coverage`.)

    Raises: TypeError or ValueError, before anything is trained, for a prior that is none (see `tff.bijectors.Support`),
      θ outside the prior, x or θ that are non-finite or of the wrong shape, several rounds without a simulator and an
      observation, and numbers that are not positive integers; ValueError where a round runs out of `max_proposals`.

    Source: Papamakarios & Murray 2016, arXiv 1605.06376; Greenberg et al. 2019, arXiv 1905.07488; the rounds: Deistler
    et al. 2022, arXiv 2210.04815, algorithm 1; ensembles: Hermans et al. 2022, arXiv 2110.06581.

    Example:

    >>> import numpy as np, tfp_flows as tff
    >>> from tensorflow_probability import distributions as tfd
    >>> prior = tfd.Independent(tfd.Uniform([-1.0, -1.0], [1.0, 1.0]), 1)
    >>> simulator = lambda theta, seed: theta + 0.3 * np.random.default_rng(seed).normal(size=theta.shape)
    >>> posterior = tff.inference.posterior(prior, simulator, 500, epochs=2, num_layers=2, seed=0)
    >>> figure = tff.plotting.posterior(posterior.sample(5000, [0.9, 0.0], seed=0))
    """
    check_positive_integers(
        ensemble=ensemble, rounds=rounds, max_proposals=max_proposals, epochs=epochs, patience=patience
    )
    if not 0 < validation_split < 1:
        raise ValueError(
            f"Expected `validation_split` between 0 and 1. Received: validation_split={validation_split!r}"
        )
    prior = tfd.Blockwise(prior) if isinstance(prior, tfd.JointDistribution) else prior
    support = Support(prior)
    train = functools.partial(
        _trained,
        support,
        flow=flow,
        options=options,
        embedding=embedding,
        regression=regression,
        ensemble=ensemble,
        validation_split=validation_split,
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        verbose=verbose,
    )
    seed = draw_seed(seed)
    if not callable(simulations):
        if rounds > 1 or num_simulations is not None:
            raise ValueError(
                "Expected a simulator in place of arrays where there is something to simulate. "
                f"Received: rounds={rounds}, num_simulations={num_simulations}"
            )
        if not isinstance(simulations, (tuple, list)) or len(simulations) != 2:
            raise TypeError(f"Expected a simulator, or a pair (theta, x). Received: {type(simulations)}")
        theta, x = simulations
        return train(_checked_parameters(support, theta), _arrays(x), seed=seed)
    check_positive_integers(num_simulations=num_simulations)
    if rounds > 1 and observation is None:
        raise ValueError(f"Expected an observation for several rounds. Received: rounds={rounds}, observation=None")
    theta, x, regions = None, None, []
    for k, round_seed in enumerate(split_seed(seed, rounds)):
        prior_seed, simulator_seed, training_seed, region_seed = split_seed(round_seed, 4)
        size = num_simulations * (k + 1) // rounds - num_simulations * k // rounds
        new_theta = truncated_sample(prior, regions, size, max_proposals, prior_seed)
        new_x = _arrays(simulations(new_theta, simulator_seed))
        if k == 0:
            theta, x = new_theta, new_x
            _check_observation(observation, x)
        else:
            inside = regions[-1].holds(theta)
            theta = np.concatenate([theta[inside], new_theta])
            x = tf.nest.map_structure(lambda old, new, rows=inside: np.concatenate([old[rows], new]), x, new_x)
        model = train(theta, x, seed=training_seed)
        if k < rounds - 1:
            regions.append(highest_density_region(model, observation, seed=region_seed))
    return model


def _trained(support, theta, x, *, flow, options, embedding, regression, ensemble, seed, **fit_arguments):
    """A posterior trained on simulations: one flow, or the mixture of several."""
    members = []
    for k, member_seed in enumerate(split_seed(seed, ensemble)):
        with _python_seed(member_seed):
            own_embedding = embedding if k == 0 else _renewed(embedding)
            model = FlowModel(_flow(support, flow, x, own_embedding, regression, member_seed, options))
            _fit(model, theta, x, seed=member_seed, **fit_arguments)
        members.append(model.distribution)
    if ensemble == 1:
        return model
    return FlowModel(tfd.Mixture(tfd.Categorical(tf.zeros([ensemble], support.dtype)), members))


def _flow(support, flow, x, embedding, regression, seed, options):
    """A flow whose draws lie in the support of the prior."""
    make = getattr(flows, flow, None) if isinstance(flow, str) else flow
    if not callable(make):
        raise ValueError(f"Expected a function of `tff.flows`, or its name. Received: flow={flow!r}")
    if embedding is not None:
        options = {"embedding": embedding, **options}
    elif isinstance(x, np.ndarray) and x.ndim == 2:
        options = {"context_size": x.shape[1], **options}
    else:
        shapes = tf.nest.map_structure(np.shape, x)
        raise ValueError(f"Expected x as `[n, C]`, as there is no embedding. Received: x of shape {shapes}")
    made = make(support.base_shape[0], dtype=support.dtype, seed=seed, **options)
    layers = [support, made.bijector]
    if regression and embedding is None:
        linear = LinearRegression(made.distribution.event_shape[0], context_size=x.shape[1], dtype=support.dtype)
        layers.append(StandardizedContext(linear, name="regression"))
    return Flow(made.distribution, tfb.Chain(layers))


def _fit(model, theta, x, *, validation_split, epochs, patience, batch_size, learning_rate, seed, verbose):
    """Trains on all but some of the simulations, until the likelihood of those has stopped to rise."""
    x, theta, _ = model.data_spec.arrays(x, theta, what="simulations")
    order, first = random_generator(seed).permutation(len(theta)), math.ceil(len(theta) * validation_split)
    if first == len(theta):
        raise ValueError(f"Expected simulations to train on, beside {first} held out. Received: {len(theta)}")
    held_out, rows = (
        tf.nest.map_structure(lambda leaf, part=part: leaf[part], (x, theta)) for part in (order[:first], order[first:])
    )
    if batch_size is None:
        batch_size = int(np.clip(len(rows[1]) // 100, 32, 256))
    model.compile(keras.optimizers.Adam(learning_rate, global_clipnorm=5.0))
    model.fit(
        *rows,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=held_out,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(patience=max(1, patience // 2), factor=0.5),
        ],
        verbose=verbose,
    )


@contextlib.contextmanager
def _python_seed(seed):
    """Python's generator, from which Keras draws seeds, as if it had just been seeded; afterwards as it was."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _renewed(embedding):
    """A copy of a Keras layer with weights of its own."""
    if embedding is None:
        return None
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(embedding))


def _arrays(x):
    """Observations as an array, or a structure of them."""
    return tf.nest.map_structure(np.asarray, x) if isinstance(x, (dict, tuple)) else np.asarray(x)


def _check_observation(observation, x):
    """Raises ValueError unless an observation, if there is one, has the shape of one of the simulated."""
    if observation is not None:
        found = tf.nest.map_structure(np.shape, _arrays(observation))
        expected = tf.nest.map_structure(lambda simulated: simulated.shape[1:], x)
        if found != expected:
            raise ValueError(f"Expected an observation of shape {expected}, as simulated. Received: shape {found}")


def _checked_parameters(support, theta):
    """Parameters as an array; an error where they are not in the support of the prior."""
    theta = np.asarray(theta)
    if theta.ndim != 2 or theta.shape[1:] != tuple(support.event_shape) or theta.dtype.kind != "f":
        raise ValueError(
            f"Expected θ as floats of shape [n, {support.event_size}]. Received: {theta.dtype} of shape {theta.shape}"
        )
    theta = theta.astype(support.dtype.as_numpy_dtype)
    outside = np.flatnonzero(np.isneginf(support.inverse_log_det_jacobian(theta)))
    if outside.size:
        raise ValueError(
            f"Expected θ inside the support of the prior. Received: {outside.size} of {len(theta)} outside, the first "
            f"in row {outside[0]}: {theta[outside[0]]}"
        )
    return theta
