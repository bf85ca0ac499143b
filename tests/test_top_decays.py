"""Top decays: the kinematics of special relativity, the balance of momenta, and what the detector makes of them."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.datasets.top_decays import MAX_JETS, boosted, momentum, pseudorapidity, transverse

EVENT = tff.datasets.TopDecays().events(np.random.default_rng(0), 20_000)


def mass(p):
    return np.sqrt(np.maximum(p[..., 0] ** 2 - np.sum(p[..., 1:] ** 2, -1), 0))


def test_masses_of_the_particles_and_of_their_sums():
    np.testing.assert_allclose(mass(EVENT["lepton"] + EVENT["neutrino"]), mass(EVENT["w"]), rtol=1e-6)
    np.testing.assert_allclose(mass(EVENT["w"] + EVENT["jets"][:, 0]), mass(EVENT["top"]), rtol=1e-6)
    np.testing.assert_allclose(mass(EVENT["jets"][:, 1:4].sum(1)), mass(EVENT["other"]), rtol=1e-6)
    for light in (EVENT["lepton"], EVENT["neutrino"], EVENT["jets"][:, 2:]):
        assert np.all(mass(light) < 1e-4 * light[..., 0] + 1e-9)
    np.testing.assert_allclose(mass(EVENT["jets"][:, :2]), 4.8, rtol=1e-3)


def test_energy_and_momentum_are_conserved():
    top = EVENT["lepton"] + EVENT["neutrino"] + EVENT["jets"][:, 0]
    np.testing.assert_allclose(top, EVENT["top"], rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(EVENT["jets"][:, 1:4].sum(1), EVENT["other"], rtol=1e-9, atol=1e-7)
    across = EVENT["lepton"] + EVENT["neutrino"] + EVENT["jets"].sum(1)
    np.testing.assert_allclose(across[:, 1:3], 0, atol=1e-7)
    assert np.abs(across[:, 3]).std() > 100  # but along the beam they are not


@pytest.mark.parametrize("name, middle, width", [("w", 80.4, 2.1), ("top", 172.5, 1.4), ("other", 172.5, 1.4)])
def test_masses_have_the_widths_of_breit_and_wigner(name, middle, width):
    masses = mass(EVENT[name])
    assert np.median(masses) == pytest.approx(middle, abs=0.06)
    # Half of a Cauchy distribution lies within half a width; here a little more, without the far tails.
    assert np.mean(np.abs(masses - middle) < width / 2) == pytest.approx(np.pi / 4 / np.arctan(16), abs=0.015)
    assert np.abs(masses - middle).max() < 8 * width * (1 + 1e-9)


def test_leptons_have_the_angles_of_a_w_boson_of_a_top_quark():
    # In the top quark's frame the angle goes with the lepton's energy: E = (E_W + |p_W| x) / 2.
    w, lepton, top = EVENT["w"], EVENT["lepton"], EVENT["top"]

    def energy(p):
        return (p[:, 0] * top[:, 0] - np.sum(p[:, 1:] * top[:, 1:], 1)) / mass(top)

    x = (2 * energy(lepton) - energy(w)) / np.sqrt(energy(w) ** 2 - mass(w) ** 2)
    assert np.abs(x).max() < 1 + 1e-6
    assert x.mean() == pytest.approx(-0.3 / 2, abs=5 * x.std() / np.sqrt(len(x)))
    # ∫ x² (0.7 · 3/4 (1 - x²) + 0.3 · 3/8 (1 - x)²) dx = 0.7 / 5 + 0.3 · 2 / 5
    assert np.mean(x**2) == pytest.approx(0.26, abs=5 * np.std(x**2) / np.sqrt(len(x)))


def test_decays_are_isotropic_in_the_frame_of_the_top_quark():
    bottom, top = EVENT["jets"][:, 0], EVENT["top"]
    back = boosted(bottom, top * [1, -1, -1, -1])
    np.testing.assert_allclose(boosted(back, top), bottom, rtol=1e-9, atol=1e-7)
    way = back[:, 1:] / np.linalg.norm(back[:, 1:], axis=1, keepdims=True)
    # The events are turned about the beam, after which x and y are no longer alike.
    assert np.abs(way[:, 2].mean()) < 5 / np.sqrt(3 * len(way))
    assert np.mean(way[:, 2] ** 2) == pytest.approx(1 / 3, abs=0.015)


def test_a_boost_of_a_particle_at_rest_is_the_parent():
    parent = momentum(np.array([3.0]), 4.0, 0.3, 1.2)
    np.testing.assert_allclose(boosted(np.array([[3.0, 0, 0, 0]]), parent), parent, rtol=1e-12)
    assert transverse(parent)[0] == pytest.approx(4.0)
    assert mass(parent)[0] == pytest.approx(3.0)
    light = momentum(0.0, 4.0, 0.3, 1.2)
    assert pseudorapidity(light) == pytest.approx(1.2)
    assert pseudorapidity(np.zeros([2, 4])).tolist() == [0, 0]


def test_one_of_the_two_solutions_is_the_truth_in_a_perfect_detector():
    perfect = tff.datasets.TopDecays(noise=0.0)
    context = perfect.observe(EVENT, np.random.default_rng(1))
    np.testing.assert_allclose(context["missing"], EVENT["neutrino"][:, 1:3], atol=1e-7)
    solutions = perfect.solutions(context, mass(EVENT["w"]))
    error = np.abs(solutions - pseudorapidity(EVENT["neutrino"])[:, np.newaxis])
    assert error.min(1).max() < 1e-4
    assert np.mean(error[:, 0] < error[:, 1]) == pytest.approx(0.5, abs=0.02)
    assert np.all(solutions[:, 0] <= solutions[:, 1])
    # With the mean mass in place of the true one, most solutions are still near it.
    near = np.abs(perfect.solutions(context) - pseudorapidity(EVENT["neutrino"])[:, np.newaxis]).min(1)
    assert np.median(near) < 0.05


def test_without_a_real_solution_both_are_the_leptons():
    context = {"lepton": np.array([[50.0, 0.4]]), "missing": np.array([[-200.0, 0.0]])}
    np.testing.assert_allclose(tff.datasets.TopDecays().solutions(context, mass=10.0), 0.4)
    assert np.isfinite(tff.datasets.TopDecays().solutions({**context, "missing": np.zeros([1, 2])})).all()


def test_jets_are_sorted_padded_and_tagged():
    context, _ = tff.datasets.TopDecays(noise=0.0).sample(20_000, seed=3)
    jets = context["jets"]
    is_there = jets[..., 4] == 1
    p_t = np.hypot(jets[..., 0], jets[..., 1])
    assert np.all(jets[~is_there] == 0)
    assert np.all(p_t[is_there] > 25) and np.all(np.abs(jets[..., 2]) < 2.5)
    assert np.all(np.diff(p_t, axis=1) <= 0)
    counts = is_there.sum(1)
    assert counts.min() < 3 and counts.max() > 7 and counts.max() <= MAX_JETS
    assert np.all(np.isin(jets[..., 3], [0, 1]))
    # 77 % of the bottom quarks' jets in reach are tagged, and 2 % of the others.
    rng = np.random.default_rng(1)
    measured = tff.datasets.TopDecays(noise=0.0).observe(EVENT, rng)["jets"]
    seen = (transverse(EVENT["jets"]) > 25) & (np.abs(pseudorapidity(EVENT["jets"])) < 2.5)
    assert measured[..., 4].sum() == seen.sum()
    expected = 0.77 * seen[:, :2].sum() + 0.02 * seen[:, 2:].sum()
    assert measured[..., 3].sum() == pytest.approx(expected, rel=0.02)


def test_errors_of_measurement_have_the_size_they_should():
    rng = np.random.default_rng(2)
    context = tff.datasets.TopDecays().observe(EVENT, rng)
    error = context["missing"] - EVENT["neutrino"][:, 1:3]
    jets = EVENT["jets"]
    relative = 0.64 / np.maximum(jets[..., 0], 1) + 0.05**2
    variance = 100 + np.sum(relative[..., np.newaxis] * jets[..., 1:3] ** 2, 1)
    pulls = error / np.sqrt(variance)
    assert np.abs(pulls.mean(0)).max() < 0.15  # the exponential is a little off the middle
    np.testing.assert_allclose(pulls.std(0), 1, atol=0.06)


def test_shapes_seeds_and_pipelines():
    decays = tff.datasets.TopDecays()
    context, theta = decays.sample(7, seed=1)
    assert theta.dtype == np.float32 and all(part.dtype == np.float32 for part in context.values())
    again, same = decays.sample(7, seed=1)
    np.testing.assert_array_equal(theta, same)
    for name, part in context.items():
        np.testing.assert_array_equal(part, again[name])
    assert not np.array_equal(theta, decays.sample(7, seed=2)[1])
    assert np.all(context["lepton"][:, 0] > 0)
    batch, x = next(iter(tff.datasets.simulator(decays.draw, batch_size=16, seed=0)))
    assert batch["jets"].shape == (16, 10, 5) and x.shape == (16, 3) and x.dtype == tf.float32


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.inf, "much"])
def test_bad_noise_is_refused(noise):
    with pytest.raises(ValueError, match="Expected `noise` .* Received: noise="):
        tff.datasets.TopDecays(noise=noise)
