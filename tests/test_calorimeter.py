"""The calorimeter: profiles against integrals, fluctuations against their size, and the numbers for flows."""

import numpy as np
import pytest
from scipy import integrate

import tfp_flows as tff

CALORIMETER = tff.datasets.Calorimeter()


def showers(energy, n=20_000, seed=0, **arguments):
    return tff.datasets.Calorimeter(**arguments).observe(np.full([n, 1], energy), np.random.default_rng(seed))


@pytest.mark.parametrize("start, beta, maximum", [(0.0, 0.5, 7.0), (1.3, 0.4, 9.5), (6.0, 0.7, 6.0)])
def test_longitudinal_profile_is_the_gamma_distribution(start, beta, maximum):
    alpha = 1 + beta * maximum
    found = CALORIMETER.profile(*(np.array([[value]]) for value in (start, beta, maximum)))

    def density(t):
        return 0.0 if t <= start else beta * (beta * (t - start)) ** (alpha - 1) * np.exp(-beta * (t - start))

    total = integrate.quad(density, start, 400, points=[30], limit=200)[0]
    for k, (low, high) in enumerate([(0, 5), (5, 15), (15, 25)]):
        expected = integrate.quad(density, max(low, start), max(high, start))[0] / total
        assert found[0, k] == pytest.approx(expected, abs=1e-7)
    t = np.linspace(0, 40, 4001)
    assert t[np.argmax([density(value) for value in t])] == pytest.approx(start + maximum, abs=0.011)


@pytest.mark.parametrize("cells, radius", [(4, 0.3), (2, 0.5)])
def test_lateral_spread_is_the_integral_over_the_cells(cells, radius):
    x, y = 0.1, -0.35
    found = CALORIMETER.spread(np.array([[[x]], [[y]]]), cells, radius).reshape(cells, cells)

    def density(b, a):
        return radius**2 / np.pi / ((a - x) ** 2 + (b - y) ** 2 + radius**2) ** 2

    edges = np.linspace(-1, 1, cells + 1)
    for i in range(cells):
        for j in range(cells):
            expected = integrate.dblquad(density, edges[i], edges[i + 1], edges[j], edges[j + 1])[0]
            assert found[i, j] == pytest.approx(expected, abs=1e-8)
    assert 0.7 < found.sum() < 1


def test_energies_grow_with_the_incident_energy_and_fluctuate_less():
    low, high = showers(2.0).sum(1) / 2.0, showers(50.0).sum(1) / 50.0
    assert 0.8 < low.mean() < 1 and 0.8 < high.mean() < 1
    assert low.std() > 1.3 * high.std()
    depth = [showers(energy) for energy in (2.0, 50.0)]
    back = [cells[:, 32:].sum() / cells.sum() for cells in depth]
    assert back[1] > 1.3 * back[0]  # a shower of more energy goes deeper


def test_sampling_fluctuates_as_it_should():
    # A cell that gets all energy, so that nothing else fluctuates: mean and variance of the Gamma distribution.
    class Simple(tff.datasets.Calorimeter):
        profile = staticmethod(lambda start, beta, maximum: np.tile([1.0, 0, 0], [len(start), 1]))
        spread = staticmethod(lambda place, cells, radius: np.tile(np.eye(cells**2)[0], [place.shape[1], 1]))

    for sampling in (0.1, 0.3):
        cells = Simple(sampling).observe(np.full([20_000, 1], 9.0), np.random.default_rng(1))
        assert np.all(cells[:, 1:] == 0)
        assert cells[:, 0].mean() == pytest.approx(9.0, rel=0.01)
        assert cells[:, 0].std() == pytest.approx(sampling * 3.0, rel=0.03)


def test_the_place_of_a_shower_is_that_of_all_layers():
    cells = showers(50.0)
    cells = cells[cells[:, :16].sum(1) > 0.1]
    layers = cells[:, :16].reshape(-1, 4, 4), cells[:, 16:32].reshape(-1, 4, 4), cells[:, 32:].reshape(-1, 2, 2)
    # The difference of the two halves along each side, from -1 to 1.
    for axis in (1, 2):
        first, second, third = (
            np.diff(np.stack(np.split(layer, 2, axis)).sum((2, 3)), axis=0)[0] / layer.sum((1, 2)) for layer in layers
        )
        assert np.corrcoef(second, third)[0, 1] > 0.8
        assert np.corrcoef(first, third)[0, 1] > 0.5
        assert second.mean() == pytest.approx(0, abs=5 * second.std() / len(cells) ** 0.5)


def test_nothing_is_measured_below_the_threshold():
    cells = showers(5.0)
    assert np.all((cells == 0) | (cells >= 1e-3))
    assert 0.2 < np.mean(cells == 0) < 0.7
    filled = CALORIMETER.filled(cells, seed=0)
    np.testing.assert_array_equal(filled[cells > 0], cells[cells > 0])
    assert np.all((filled[cells == 0] >= 1e-4) & (filled[cells == 0] < 1e-3))
    np.testing.assert_array_equal(filled, CALORIMETER.filled(cells, seed=0))


def test_decoding_undoes_encoding():
    energy, cells = CALORIMETER.draw(np.random.default_rng(2), 2000)
    filled = CALORIMETER.filled(cells, seed=3)
    u, v = CALORIMETER.encode(energy, filled)
    np.testing.assert_allclose(CALORIMETER.decode(energy, u, v), cells, rtol=1e-9)
    first, second, third = CALORIMETER.layer_energies(filled).T
    np.testing.assert_allclose(np.exp(u[:, 0]), (first + second + third) / energy[:, 0])
    np.testing.assert_allclose(1 / (1 + np.exp(-u[:, 1])), first / (first + second + third))
    np.testing.assert_allclose(1 / (1 + np.exp(-u[:, 2])), second / (second + third))
    np.testing.assert_allclose(v[:, 0], np.log(filled[:, 0] / filled[:, 5]))
    np.testing.assert_allclose(v[:, 15], np.log(filled[:, 16] / filled[:, 21]))
    np.testing.assert_allclose(v[:, 32], np.log(filled[:, 35] / filled[:, 32]))


def test_the_layers_keep_their_energies_whatever_the_cells_are():
    rng = np.random.default_rng(4)
    energy, u, v = np.full([100, 1], 20.0), rng.normal(size=[100, 3]), 3 * rng.normal(size=[100, 33])
    cells = CALORIMETER.decode(energy, u, v)
    found = CALORIMETER.layer_energies(cells)
    share = 1 / (1 + np.exp(-u[:, 1]))
    np.testing.assert_allclose(found.sum(1), 20 * np.exp(u[:, 0]), rtol=0.01)  # up to what is below the threshold
    np.testing.assert_allclose(found[:, 0] / found.sum(1), share, atol=0.01)
    assert np.isfinite(CALORIMETER.decode(energy, u, 300 * v)).all()


def test_shapes_and_seeds():
    energy, cells = CALORIMETER.sample(7, seed=1)
    assert energy.shape == (7, 1) and cells.shape == (7, 36) and energy.dtype == cells.dtype == np.float32
    np.testing.assert_array_equal(cells, CALORIMETER.sample(7, seed=1)[1])
    assert np.all((energy >= 1) & (energy <= 100))
    context, x = next(iter(tff.datasets.simulator(CALORIMETER.draw, batch_size=16, seed=0)))
    assert context.shape == (16, 1) and x.shape == (16, 36)
    u, v = CALORIMETER.encode(energy, CALORIMETER.filled(cells, seed=0))
    assert u.dtype == v.dtype == CALORIMETER.decode(energy, u, v).dtype == np.float32
    with pytest.raises(ValueError, match="Expected `sampling` .* Received: sampling=0"):
        tff.datasets.Calorimeter(sampling=0)
