"""The public benchmark of simulation-based inference: six tasks, the accuracy of a classifier against references.

    make bench-posteriors                                          # everything; many hours
    python benchmarks/posteriors.py --tasks two_moons --simulations 1000 --observations 1 2

Lueckmann et al. 2021, arXiv 2101.04653. The simulators are written from its appendix T; observations and reference
posteriors are files of the wheel sbibm 1.1.0, which is downloaded without its dependencies and not imported. The C2ST
(benchmarks/c2st.py) is that of the paper, with 10,000 draws of each kind; 0.5 is best.
All tasks have one recipe, the defaults of `tff.inference.posterior`; counts and positive numbers are taken as logs.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pandas as pd
from c2st import c2st
from tensorflow_probability import distributions as tfd

import tfp_flows as tff

# C2ST of the paper, for 10³, 10⁴ and 10⁵ simulations: https://sbi-benchmark.github.io.
PAPER = {
    "two_moons": {"NPE": (0.725, 0.606, 0.542), "SNPE": (0.643, 0.554, 0.530)},
    "gaussian_linear_uniform": {"NPE": (0.696, 0.553, 0.509), "SNPE": (0.631, 0.527, 0.507)},
    "slcp": {"NPE": (0.975, 0.901, 0.831), "SNPE": (0.965, 0.845, 0.666)},
    "sir": {"NPE": (0.815, 0.680, 0.585), "SNPE": (0.638, 0.561, 0.575)},
    "lotka_volterra": {"NPE": (0.999, 0.997, 0.981), "SNPE": (0.990, 0.953, 0.928)},
    "bernoulli_glm": {"NPE": (0.863, 0.678, 0.559), "SNPE": (0.855, 0.614, 0.525)},
}
BUDGETS = (1000, 10_000, 100_000)


@dataclasses.dataclass(frozen=True)
class Task:
    prior: tfd.Distribution
    simulate: Callable  # (theta, numpy generator) -> x
    seen: Callable = np.asarray  # what the flow sees of x

    def simulator(self, theta, seed):
        """x as the flow sees it."""
        return self.seen(self.simulate(np.asarray(theta, np.float64), np.random.default_rng(seed)))


def box(size, bound):
    return tfd.Sample(tfd.Uniform(-bound, bound), size)


def log_normal(location, scale):
    return tfd.Independent(tfd.LogNormal(np.float32(location), np.float32(scale)), 1)


def two_moons(theta, rng):
    angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, len(theta)), rng.normal(0.1, 0.01, len(theta))
    crescent = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1)
    return crescent + np.stack([-np.abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], 1) / np.sqrt(2)


def gaussian_linear(theta, rng):
    return theta + np.sqrt(0.1) * rng.normal(size=theta.shape)


def slcp(theta, rng):
    """Four points from a normal in the plane, whose mean and covariance are the parameters."""
    s1, s2, rho = theta[:, 2, None] ** 2, theta[:, 3, None] ** 2, np.tanh(theta[:, 4, None])
    e1, e2 = rng.normal(size=[2, len(theta), 4])
    x1 = theta[:, 0, None] + s1 * e1
    x2 = theta[:, 1, None] + s2 * (rho * e1 + np.sqrt(1 - rho**2) * e2)
    return np.stack([x1, x2], -1).reshape(len(theta), 8)


def runge_kutta(velocity, state, steps_between, num_points, step):
    """States at `num_points` times, the first of them 0, by the classical method of fourth order."""
    states = [state]
    for _ in range(num_points - 1):
        for _ in range(steps_between):
            k1 = velocity(state)
            k2 = velocity(state + step / 2 * k1)
            k3 = velocity(state + step / 2 * k2)
            k4 = velocity(state + step * k3)
            state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(state)
    return np.stack(states)


def sir(theta, rng):
    """1000 people tested, every 17 days, in an epidemic among a million."""
    beta, gamma = theta.T

    def velocity(state):  # the logarithms of the infected; the susceptible, as a fraction
        log_infected, susceptible = state
        return np.stack([beta * susceptible - gamma, -beta * susceptible * np.exp(log_infected)])

    first = np.stack([np.full(len(theta), np.log(1e-6)), np.full(len(theta), 1 - 1e-6)])
    infected = np.exp(runge_kutta(velocity, first, steps_between=68, num_points=10, step=0.25)[:, 0])
    return rng.binomial(1000, np.clip(infected, 0, 1).T).astype(np.float64)


def lotka_volterra(theta, rng):
    """Prey and predators every 2.1 days, seen with 10 % of noise."""
    alpha, beta, gamma, delta = theta.T

    def velocity(state):  # of the logarithms, which keeps numbers positive
        prey, predators = np.exp(state)
        return np.stack([alpha - beta * predators, delta * prey - gamma])

    first = np.stack([np.full(len(theta), np.log(30.0)), np.zeros(len(theta))])
    logs = runge_kutta(velocity, first, steps_between=210, num_points=10, step=0.01)
    logs = np.moveaxis(logs, -1, 0).transpose(0, 2, 1).reshape(len(theta), 20)
    return np.exp(logs + 0.1 * rng.normal(size=logs.shape))


def bernoulli_glm(design):
    """Sums of a neuron's spikes, and of the stimulus before them; the filter's prior is smooth."""

    def simulate(theta, rng):
        probability = 1 / (1 + np.exp(-theta @ design.T))
        return (rng.uniform(size=probability.shape) < probability).astype(np.float64) @ design

    i = np.arange(9)
    roughness = np.diag(1 + np.sqrt(i / 9)) - 2 * np.eye(9, k=-1) + np.eye(9, k=-2)
    covariance = np.zeros([10, 10])
    covariance[0, 0] = 2
    covariance[1:, 1:] = np.linalg.inv(roughness.T @ roughness)
    prior = tfd.MultivariateNormalTriL(np.zeros(10, np.float32), np.linalg.cholesky(covariance).astype(np.float32))
    return Task(prior, simulate)


def tasks(files):
    return {
        "two_moons": Task(box(2, 1.0), two_moons),
        "gaussian_linear_uniform": Task(box(10, 1.0), gaussian_linear),
        "slcp": Task(box(5, 3.0), slcp),
        "sir": Task(log_normal(np.log([0.4, 0.125]), [0.5, 0.2]), sir, np.log1p),
        "lotka_volterra": Task(log_normal([-0.125, -3, -0.125, -3], 0.5), lotka_volterra, np.log),
        "bernoulli_glm": bernoulli_glm(files.design()),
    }


class Files:
    """Observations and reference posteriors of the wheel."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        wheels = list(folder.glob("sbibm-1.1.0-*.whl"))
        if not wheels:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "sbibm==1.1.0"]
            subprocess.run(pip, check=True)
            wheels = list(folder.glob("sbibm-1.1.0-*.whl"))
        self.wheel = zipfile.ZipFile(wheels[0])

    def _table(self, task, observation, name, **kwargs):
        path = f"sbibm/tasks/{task}/files/num_observation_{observation}/{name}"
        with self.wheel.open(path) as file:
            return pd.read_csv(file, **kwargs).to_numpy(np.float64)

    def observation(self, task, observation):
        return self._table(task, observation, "observation.csv")[0]

    def reference(self, task, observation):
        return self._table(task, observation, "reference_posterior_samples.csv.bz2", compression="bz2")

    def design(self):
        """The stimulus of the generalized linear model, `[100, 10]`: the last numbers of a file of PyTorch's."""
        data = self.wheel.read("sbibm/tasks/bernoulli_glm/files/design_matrix.pt")
        return np.frombuffer(data[-4000:], np.float32).reshape(100, 10).astype(np.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(PAPER), choices=list(PAPER))
    parser.add_argument("--simulations", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--observations", nargs="+", type=int, default=list(range(1, 11)), help="of 1 to 10")
    parser.add_argument("--rounds", type=int, default=1, help="more than one: a flow per observation")
    parser.add_argument("--ensemble", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10_000, help="draws of each kind for the C2ST")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="out", help="where the wheel is, or is put")
    arguments = parser.parse_args()
    files = Files(arguments.folder)
    available = tasks(files)
    print("| task | simulations | C2ST by observation | mean | paper's NPE | SNPE | seconds of training |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.tasks:
        task = available[name]
        for budget in arguments.simulations:
            found, seconds, posterior = [], 0.0, None
            for number in arguments.observations:
                observation = task.seen(files.observation(name, number)).astype(np.float32)
                if posterior is None or arguments.rounds > 1:
                    start = time.perf_counter()
                    posterior = tff.inference.posterior(
                        task.prior,
                        task.simulator,
                        budget,
                        ensemble=arguments.ensemble,
                        rounds=arguments.rounds,
                        observation=observation,
                        seed=arguments.seed,
                    )
                    seconds += time.perf_counter() - start
                draws = posterior.sample(arguments.samples, observation, seed=number).numpy()
                found.append(c2st(files.reference(name, number)[: arguments.samples], draws))
            paper = ["", ""]
            if budget in BUDGETS:
                paper = [f"{PAPER[name][method][BUDGETS.index(budget)]:.3f}" for method in ("NPE", "SNPE")]
            cells = ", ".join(f"{value:.3f}" for value in found)
            print(
                f"| {name} | {budget} | {cells} | {np.mean(found):.3f} | {' | '.join(paper)} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
