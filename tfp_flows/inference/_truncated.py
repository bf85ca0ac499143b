"""A prior truncated to where a posterior has its mass: the proposals of sequential rounds."""

import dataclasses

import numpy as np

from tfp_flows._arguments import draw_seed, split_seed, stateless_seed
from tfp_flows.model import FlowModel

BATCH = 10_000


@dataclasses.dataclass(frozen=True)
class Region:
    """Where the density of a posterior, given one observation, is above a threshold.

    Attributes:
      model: the posterior.
      observation: its context.
      threshold: in nats.
    """

    model: FlowModel
    observation: object
    threshold: float

    def holds(self, theta):
        """Whether points `[n, D]` lie in it, `[n]`."""
        return self.model.log_prob(theta, self.observation).numpy() >= self.threshold


def highest_density_region(model, observation, epsilon=1e-4, seed=None):
    """The region of highest density that holds all but a fraction ε of a posterior, from its own draws."""
    draws = [model.sample(BATCH, observation, seed=part) for part in split_seed(draw_seed(seed), 10)]
    log_prob = np.concatenate([model.log_prob(theta, observation).numpy() for theta in draws])
    return Region(model, observation, float(np.quantile(log_prob, epsilon)))


def truncated_sample(prior, regions, n, max_proposals, seed=None):
    """n draws from the prior that lie in all of the regions, `[n, D]`, by rejection.

    Raises: ValueError where `max_proposals` draws from the prior have fewer than n among them.
    """
    seed, accepted, count, proposed = draw_seed(seed), [], 0, 0
    while count < n:
        if proposed >= max_proposals:
            raise ValueError(
                "Expected the prior to reach the posterior of the last round by rejection: give more `max_proposals`, "
                f"fewer `rounds`, or a narrower prior. Received: {count} of {n} simulations accepted among "
                f"{proposed} draws from the prior"
            )
        seed, part = split_seed(seed, 2)
        theta = np.asarray(prior.sample(BATCH, seed=stateless_seed(part)))
        proposed += BATCH
        for region in regions:  # the oldest is the widest, and all later ones are cut out of it
            theta = theta[region.holds(theta)] if len(theta) else theta
        accepted.append(theta)
        count += len(theta)
    return np.concatenate(accepted)[:n]
