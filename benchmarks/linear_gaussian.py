"""A conditional flow against a known posterior: divergence, evidence, effective sample size, coverage.

    python benchmarks/linear_gaussian.py

Four parameters, 20 observables; `tff.datasets.LinearGaussian` has the exact answers. The flow is trained on fresh
draws, then compared over 200 observations that it has never seen.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff


def trained(problem, steps, batch_size=512, seed=0):
    """A flow with an embedding of the observables, after so many steps on fresh draws."""
    keras.utils.set_random_seed(seed)
    num_observables, num_parameters = problem.response.shape
    embedding = keras.Sequential([keras.Input((num_observables,)), keras.layers.Dense(8)])
    flow = tff.flows.maf(
        num_parameters, num_layers=3, embedding=embedding, hidden_units=(64, 64), activation="silu", seed=seed
    )
    model = tff.FlowModel(flow)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps), global_clipnorm=5.0))
    data = tff.datasets.simulator(problem.draw, batch_size, seed=seed)
    model.fit(data, steps_per_epoch=steps // 10, epochs=10, verbose=0)
    return model


def compare(model, problem, num_observations=200, num_samples=10_000, num_truths=5_000, seed=1):
    """What a flow is worth, by name."""
    contexts, _ = problem.sample(num_observations, seed)
    posterior = problem.posterior(contexts)
    theta = tf.cast(posterior.sample(2000, seed=seed), tf.float32)
    log_true, log_flow = posterior.log_prob(tf.cast(theta, tf.float64)), model.log_prob(theta, contexts)
    divergence = np.mean(log_true.numpy() - log_flow.numpy(), 0)

    pulls, efficiencies, shapes = [], [], []
    for k, context in enumerate(contexts):
        found = tff.inference.importance_sample(
            model, lambda theta, c=context: problem.joint_log_prob(theta, c), num_samples, context, seed=k
        )
        pulls.append((found.log_evidence - problem.log_evidence(context)) / found.log_evidence_std)
        efficiencies.append(found.ess / num_samples)
        shapes.append(found.pareto_k)
    contexts, truths = problem.sample(num_truths, seed + 1)
    return {
        "divergence": divergence,
        "pulls": np.array(pulls),
        "efficiencies": np.array(efficiencies),
        "pareto_k": np.array(shapes),
        "coverage": tff.inference.coverage(model, truths, contexts),
        "expected_coverage": tff.inference.expected_coverage(model, truths, contexts, seed=seed),
        "ranks": tff.inference.rank_statistics(model, truths, contexts, seed=seed),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="steps of training")
    arguments = parser.parse_args()
    problem = tff.datasets.LinearGaussian(num_parameters=4, num_observables=20, seed=0)
    start = time.perf_counter()
    model = trained(problem, arguments.steps)
    seconds = time.perf_counter() - start
    found = compare(model, problem)
    print(f"trained for {seconds:.0f} s; then over {len(found['divergence'])} observations")
    print(
        f"KL(true || flow)        mean {found['divergence'].mean():.4f} nats, largest {found['divergence'].max():.4f}"
    )
    pulls = found["pulls"]
    print(
        f"log-evidence            off by {np.abs(pulls).mean():.2f} standard errors in the mean, "
        f"{np.abs(pulls).max():.2f} at most; root mean square {np.sqrt(np.mean(pulls**2)):.2f}"
    )
    print(f"ESS / N                 mean {found['efficiencies'].mean():.3f}, minimum {found['efficiencies'].min():.3f}")
    print(f"Pareto k                largest {found['pareto_k'].max():.2f}")
    for name in ("coverage", "expected_coverage"):
        print(f"{name:<23} {'inside' if found[name].inside else 'outside'} its 99 % band")
    inside = [found["ranks"].coverage(k).inside for k in range(4)]
    print(f"ranks                   {sum(inside)} of 4 coordinates inside their 99 % bands")


if __name__ == "__main__":
    main()
