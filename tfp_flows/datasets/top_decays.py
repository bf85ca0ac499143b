"""Top quarks that decay to a bottom quark, a lepton and a neutrino, of which no detector sees the last."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import numpy as np

from tfp_flows._arguments import random_generator
from tfp_flows._types import Array

# Masses and widths in GeV, with c = 1.
TOP_MASS, TOP_WIDTH = 172.5, 1.4
W_MASS, W_WIDTH = 80.4, 2.1
BOTTOM_MASS = 4.8
LONGITUDINAL = 0.7  # the fraction of the W bosons without spin along their way; the others are left-handed
MAX_JETS = 10
# Of the jets in the list; softer ones and those close to the beam are in the missing momentum alone.
MIN_MOMENTUM, MAX_ETA = 25.0, 2.5
TAGGED = (0.77, 0.02)  # the probabilities, for jets of bottom quarks and for others


class TopDecays:
    """Pairs of top quarks, t → b W → b l ν and t → b W → b q q': θ = (p_x, p_y, η) of the neutrino, from the rest.

    A detector sees the lepton, the jets of the quarks and of radiation, and that momentum across the beam is missing,
    which is the neutrino's. What it has along the beam is unseen; but l and ν together have the mass of a W boson,

      m_W² = 2 p_T(l) p_T(ν) (cosh(η(ν) - η(l)) - cos(φ(ν) - φ(l))),

    which has two solutions, see `solutions`. So the posterior of η has two modes; the jets tell more or less which of
    the two makes a top quark.

    The simulation, in GeV: the top quarks' masses are distributed as Breit and Wigner have it, their recoil from each
    other as a Gamma distribution of mean 110, their rapidities as N(0, 0.9²). The bottom quark goes in any direction of
    the top quark's frame. With x the cosine of the angle in the W boson's frame between the lepton and the boson's own
    way, 70 % of the leptons have the density 3/4 (1 - x²), and 30 % have 3/8 (1 - x)². Up to 6 jets of radiation, 1 on
    average, recoil from the pair, so that all momenta across the beam sum to 0. A jet's momentum is measured with a
    relative error of √(0.8² / E + 0.05²). The missing momentum is minus the sum of all that is measured, with a further
    error of 10 in each component. Leptons have no mass and no error, and no event is rejected.

    Shapes: θ `[n, 3]`; the context is a dictionary of
      "lepton" `[n, 2]`: p_T and η. Each event is turned about the beam, to where the lepton has p_y = 0 and p_x > 0.
      "missing" `[n, 2]`: the missing momentum (p_x, p_y).
      "jets" `[n, 10, 5]`: the jets of p_T > 25 and |η| < 2.5 by falling p_T, then zeros. The columns are p_x, p_y, η, a
        tag (1 for 77 % of the bottom quarks and 2 % of the others, else 0), and 1.

    Arguments:
      noise: a factor of all errors of measurement; 0 for a perfect detector.

    Raises: ValueError for a negative `noise`.

    Source: Leigh et al. 2022, arXiv 2207.00664: a conditional flow for such neutrinos; the helicities: Czarnecki et al.
    2010, arXiv 1005.2625.

    Example:

    >>> import tfp_flows as tff
    >>> decays = tff.datasets.TopDecays()
    >>> context, theta = decays.sample(100, seed=0)
    >>> {name: part.shape for name, part in context.items()}, theta.shape
    ({'lepton': (100, 2), 'missing': (100, 2), 'jets': (100, 10, 5)}, (100, 3))
    >>> decays.solutions(context).shape
    (100, 2)
    """

    def __init__(self, noise: float = 1.0) -> None:
        if not isinstance(noise, numbers.Real) or not 0 <= noise < np.inf:
            raise ValueError(f"Expected `noise` to be a number, 0 or larger. Received: noise={noise!r}")
        self.noise = noise

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Contexts and parameters from a generator: a function for `tff.datasets.simulator`."""
        event = self.events(rng, batch_size)
        neutrino = event["neutrino"]
        theta = np.concatenate([neutrino[:, 1:3], pseudorapidity(neutrino)[:, np.newaxis]], 1)
        return self.observe(event, rng), theta

    def sample(self, n: int, seed: int | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """n pairs (context, θ), float32, from an integer seed."""
        context, theta = self.draw(random_generator(seed), n)
        return {name: part.astype(np.float32) for name, part in context.items()}, theta.astype(np.float32)

    def events(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        """What really happens: momenta (E, p_x, p_y, p_z), a dictionary of arrays.

        "top", "w", "lepton" and "neutrino" are the first top quark and of its decay, "other" is the second, `[n, 4]`
        each. "jets" `[n, 10, 4]` are both bottom quarks, the first's first, two light quarks, and radiation, padded.
        """
        is_there = np.arange(MAX_JETS - 4) < rng.poisson(1.0, [n, 1])
        away, eta = rng.gamma(1.0, 40.0, is_there.shape) + 15, rng.normal(0, 1.5, is_there.shape)
        radiation = is_there[..., np.newaxis] * momentum(0.0, away, angle(rng, is_there.shape), eta)
        recoil = momentum(0.0, rng.gamma(2.2, 50.0, n), angle(rng, n), 0.0)[:, 1:3]
        tops = []
        for sign in (1, -1):
            across = sign * recoil - radiation[..., 1:3].sum(1) / 2
            mass, rapidity = breit_wigner(rng, TOP_MASS, TOP_WIDTH, n), rng.normal(0, 0.9, n)
            tops.append(momentum(mass, np.linalg.norm(across, axis=1), np.arctan2(*across.T[::-1]), rapidity))
        first, second = (decay_of_top(rng, top) for top in tops)
        quarks = [first["bottom"], second["bottom"], second["lepton"], second["neutrino"]]
        jets = np.concatenate([np.stack(quarks, 1), radiation], 1)
        event = {"top": tops[0], "other": tops[1], "jets": jets, **{k: first[k] for k in ("w", "lepton", "neutrino")}}
        phi = np.arctan2(event["lepton"][:, 2], event["lepton"][:, 1])
        return {name: turned(part, phi) for name, part in event.items()}

    def observe(self, event: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Contexts for what really happens."""
        jets, lepton = event["jets"], event["lepton"]
        is_bottom = np.arange(MAX_JETS) < 2
        tagged = rng.uniform(size=jets.shape[:2]) < np.where(is_bottom, *TAGGED)
        relative = np.sqrt(0.8**2 / np.maximum(jets[..., 0], 1.0) + 0.05**2)
        # The exponential keeps energies positive.
        jets = jets * np.exp(self.noise * relative * rng.normal(size=tagged.shape))[..., np.newaxis]
        missing = -lepton[:, 1:3] - jets[..., 1:3].sum(1) + 10 * self.noise * rng.normal(size=[len(jets), 2])
        p_t, eta = transverse(jets), pseudorapidity(jets)
        seen = (p_t > MIN_MOMENTUM) & (np.abs(eta) < MAX_ETA)
        columns = np.stack([jets[..., 1], jets[..., 2], eta, tagged, seen], -1) * seen[..., np.newaxis]
        order = np.argsort(np.where(seen, -p_t, 0.0), axis=1)
        return {
            "lepton": np.stack([transverse(lepton), pseudorapidity(lepton)], -1),
            "missing": missing,
            "jets": np.take_along_axis(columns, order[..., np.newaxis], 1),
        }

    @staticmethod
    def solutions(context: Mapping[str, Array], mass: float = W_MASS) -> np.ndarray:
        """The two η(ν) with which lepton and missing momentum have the mass of a W boson, the lower first: `[n, 2]`.

        η(ν) = η(l) ± arcosh(cos(φ(ν) - φ(l)) + m_W² / (2 p_T(l) p_T(ν))). Where errors of measurement leave no real
        solution, both are η(l), the real part.
        """
        p_t, eta = np.moveaxis(context["lepton"], -1, 0)
        # The lepton's direction across the beam is that of x.
        along = context["missing"][..., 0]
        away = np.maximum(np.linalg.norm(context["missing"], axis=-1), 1e-6)  # of nothing missing η is infinite
        distance = np.arccosh(np.maximum(along / away + mass**2 / (2 * p_t * away), 1.0))
        return np.stack([eta - distance, eta + distance], -1)


# Momenta `[..., 4]`: (E, p_x, p_y, p_z)


def momentum(mass, across, phi, rapidity):
    """E² = m² + p², of rapidity y and p_T: E = m_T cosh y, p_z = m_T sinh y, m_T² = m² + p_T²."""
    mass_t = np.sqrt(mass**2 + across**2)
    parts = mass_t * np.cosh(rapidity), across * np.cos(phi), across * np.sin(phi), mass_t * np.sinh(rapidity)
    return np.stack(np.broadcast_arrays(*parts), -1)


def transverse(p):
    """p_T."""
    return np.linalg.norm(p[..., 1:3], axis=-1)


def pseudorapidity(p):
    """η = arsinh(p_z / p_T); 0 for no momentum at all."""
    across = transverse(p)
    return np.arcsinh(p[..., 3] / np.where(across > 0, across, 1.0))


def turned(p, phi):
    """Turned about the beam by -φ."""
    phi = np.reshape(phi, [-1] + [1] * (p.ndim - 2))
    e, x, y, z = np.moveaxis(p, -1, 0)
    return np.stack([e, np.cos(phi) * x + np.sin(phi) * y, np.cos(phi) * y - np.sin(phi) * x, z], -1)


def boosted(p, parent):
    """From the rest frame of a parent of mass M and momentum (E, P) to the frame where it has that momentum.

    E' = (E E(p) + P·p) / M, p' = p + P (E(p) + E') / (E + M).
    """
    mass = np.sqrt(parent[..., 0] ** 2 - np.sum(parent[..., 1:] ** 2, -1))
    energy = np.sum(parent * p, -1) / mass
    way = p[..., 1:] + parent[..., 1:] * ((p[..., 0] + energy) / (parent[..., 0] + mass))[..., np.newaxis]
    return np.concatenate([energy[..., np.newaxis], way], -1)


# Decays


def two_bodies(mass, mass_1, mass_2, direction):
    """The momenta of what a particle at rest decays to; the first goes in the direction `[n, 3]`.

    |p|² = (M² - (m₁ + m₂)²) (M² - (m₁ - m₂)²) / 4M².
    """
    size = np.sqrt((mass**2 - (mass_1 + mass_2) ** 2) * (mass**2 - (mass_1 - mass_2) ** 2)) / (2 * mass)
    way = size[:, np.newaxis] * direction
    energies = (np.sqrt(m**2 + size**2)[:, np.newaxis] for m in (mass_1, mass_2))
    return [np.concatenate([energy, sign * way], 1) for energy, sign in zip(energies, (1, -1), strict=True)]


def decay_of_top(rng, top):
    """t → W b, W → l ν: a dictionary of momenta; for W → q q' the light quarks have the names of l and ν."""
    n = len(top)
    mass, mass_w = np.sqrt(top[:, 0] ** 2 - np.sum(top[:, 1:] ** 2, 1)), breit_wigner(rng, W_MASS, W_WIDTH, n)
    way = unit(rng.normal(size=[n, 3]))
    w, bottom = two_bodies(mass, mass_w, BOTTOM_MASS, way)
    # (1 - x) / 2 has Beta distributions: x has the density (1 - x²) 3/4 or (1 - x)² 3/8.
    is_longitudinal = rng.uniform(size=n) < LONGITUDINAL
    x = 1 - 2 * np.where(is_longitudinal, rng.beta(2, 2, n), rng.beta(3, 1, n))[:, np.newaxis]
    aside = rng.normal(size=[n, 3])
    aside = unit(aside - np.sum(aside * way, 1, keepdims=True) * way)
    lepton, neutrino = two_bodies(mass_w, 0.0, 0.0, x * way + np.sqrt(1 - x**2) * aside)
    parts = {"bottom": bottom, "w": w, "lepton": boosted(lepton, w), "neutrino": boosted(neutrino, w)}
    return {name: boosted(part, top) for name, part in parts.items()}


def breit_wigner(rng, mass, width, n):
    """Masses, n of a Cauchy distribution of full width Γ at half maximum, cut off 8 widths from its middle."""
    end = np.arctan(16.0)
    return mass + width / 2 * np.tan(rng.uniform(-end, end, n))


def unit(way):
    return way / np.linalg.norm(way, axis=1, keepdims=True)


def angle(rng, shape):
    return rng.uniform(-np.pi, np.pi, shape)
