"""The planar sets: points and densities agree with each other and with formulas written down a second time here.
The tables: the numbers that their sources give, and a dequantization that rounds back."""

import importlib.resources
import math
import warnings

import numpy as np
import pytest

from tfp_flows import datasets
from tfp_flows.datasets import planar_set

SETS = [getattr(datasets, name) for name in datasets.__all__ if isinstance(getattr(datasets, name), datasets.PlanarSet)]
CURVES = [set_ for set_ in SETS if isinstance(set_, planar_set.BlurredCurves)]
TABLES = [datasets.quakes, datasets.geyser]
each_set = pytest.mark.parametrize("planar", SETS, ids=lambda planar: planar.name)
each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
# Every density is looked at with its own noise and with another one.
each_set_and_noise = pytest.mark.parametrize(
    "planar, noise",
    [(planar, noise) for planar in SETS for noise in (planar.noise, 0.25)],
    ids=lambda value: getattr(value, "name", value),
)


def cell_probabilities(planar, noise, reach=7.0, cells=28):
    """The probabilities of `cells` by `cells` squares of [-reach, reach]², by the midpoint rule within each.

    The squares of the checkerboard are unions of such cells; of no set does anything to speak of lie outside.
    """
    midpoints = math.ceil(2 * reach / cells / (0.7 * min(noise, 0.2))) if noise else 1
    width = 2 * reach / cells / midpoints
    axis = -reach + width * (np.arange(cells * midpoints) + 0.5)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(planar.log_prob(points, noise))
    return density.reshape(cells, midpoints, cells, midpoints).sum(axis=(1, 3)) * width**2


def test_all_seven_sets_and_both_tables_are_public():
    names = {planar.name for planar in SETS}
    assert names == {
        "two_moons",
        "eight_gaussians",
        "checkerboard",
        "two_spirals",
        "pinwheel",
        "swiss_roll_2d",
        "rings",
    }
    assert all(getattr(datasets, planar.name) is planar for planar in SETS)
    assert repr(datasets.two_moons) == "two_moons(n, noise=0.05, seed=None)"


@each_set
def test_points_are_float32_and_follow_the_seed(planar):
    x = planar(1000, seed=3)
    assert x.shape == (1000, 2)
    assert x.dtype == np.float32
    assert np.array_equal(x, planar(1000, planar.noise, 3))
    assert not np.array_equal(x, planar(1000, seed=4))
    assert not np.array_equal(planar(1000), planar(1000))
    assert planar(np.int64(1), seed=0).shape == (1, 2)
    generator = np.random.default_rng(3)
    assert np.array_equal(x, planar(1000, seed=generator))
    assert not np.array_equal(x, planar(1000, seed=generator))


@each_set
def test_points_are_independent_of_the_one_before(planar):
    x = planar(10_000, seed=0)
    correlation = np.corrcoef(x[:-1].T, x[1:].T)[:2, 2:]
    assert np.abs(correlation).max() < 5 / math.sqrt(len(x))


@each_set_and_noise
def test_density_integrates_to_one_and_matches_the_points(planar, noise):
    probabilities = cell_probabilities(planar, noise)
    assert probabilities.sum() == pytest.approx(1, abs=1e-6)
    x = planar(50_000, noise, seed=1)
    edges = np.linspace(-7, 7, len(probabilities) + 1)
    counts = np.histogram2d(*x.T.astype(np.float64), bins=(edges, edges))[0]
    expected = len(x) * probabilities
    filled = expected > 10
    assert counts[~filled].sum() == pytest.approx(expected[~filled].sum(), abs=5 * math.sqrt(expected[~filled].sum()))
    statistic = ((counts - expected) ** 2)[filled] / expected[filled]
    assert (statistic.sum() - filled.sum()) / math.sqrt(2 * filled.sum()) < 5


@each_set_and_noise
def test_entropy_is_the_mean_of_minus_log_prob(planar, noise):
    log_prob = planar.log_prob(planar(20_000, noise, seed=2), noise)
    assert log_prob.shape == (20_000,)
    assert log_prob.dtype == np.float64
    standard_error = log_prob.std() / math.sqrt(len(log_prob))
    assert planar.entropy(noise) == pytest.approx(-log_prob.mean(), abs=4 * standard_error + 1e-9)


def test_entropy_where_it_has_a_formula():
    # Eight Gaussians that do not touch: log 8 and the entropy of one.
    separate = math.log(8) + 1 + math.log(2 * math.pi) + 2 * math.log(0.1)
    assert datasets.eight_gaussians.entropy(0.1) == pytest.approx(separate, abs=1e-6)
    assert datasets.checkerboard.entropy() == pytest.approx(math.log(32), abs=1e-12)
    # The twist of the pinwheel keeps areas. Arms as narrow as this touch almost nowhere.
    separate = math.log(5) + 1 + math.log(2 * math.pi) + math.log(0.6 * 0.06)
    assert datasets.pinwheel.entropy(0.06) == pytest.approx(separate, abs=3e-3)
    # Noise that buries the shape leaves a Gaussian, up to the fourth order in the ratio of their sizes.
    for planar in SETS:
        if planar is not datasets.pinwheel:
            covariance = np.cov(planar(100_000, 0, seed=0).T) + 20**2 * np.eye(2)
            gaussian = 1 + math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] / 2
            assert planar.entropy(20) == pytest.approx(gaussian, abs=1e-4)


@each_set
def test_entropy_has_converged(planar, monkeypatch):
    noise = 0.25
    expected, narrowest = planar.entropy(noise), planar._narrowest(noise)
    monkeypatch.setattr(type(planar), "_narrowest", lambda self, noise: 0.7 * narrowest)
    finer = datasets.PlanarSet._entropy.__wrapped__(planar, noise)
    assert finer == pytest.approx(expected, abs=1e-6)
    assert finer != expected


def test_entropy_is_computed_once(monkeypatch):
    entropy = datasets.rings.entropy(0.3)
    monkeypatch.setattr(type(datasets.rings), "log_prob", None)
    assert datasets.rings.entropy(0.3) == entropy


@pytest.mark.parametrize("noise", [0.03, 0.1, 1.0])
@pytest.mark.parametrize("planar", CURVES, ids=lambda planar: planar.name)
def test_density_of_a_curve_against_a_plain_sum_along_it(planar, noise):
    x = planar(40, 3 * noise, seed=0)
    t = (np.arange(100_000) + 0.5) / 100_000
    # Equal steps of the uniform number, not of t: so the density of t is not used.
    curves = planar.curves(t ** (1 / planar.power)).reshape(-1, 2)
    for point, log_prob in zip(x, planar.log_prob(x, noise), strict=True):
        exponents = -((point - curves) ** 2).sum(axis=1) / (2 * noise**2)
        expected = exponents.max() + np.log(np.exp(exponents - exponents.max()).mean())
        assert log_prob == pytest.approx(expected - math.log(2 * math.pi * noise**2), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("noise", [0.03, 0.1, 1.0])
@pytest.mark.parametrize("planar", CURVES, ids=lambda planar: planar.name)
def test_density_of_a_curve_has_converged(planar, noise, monkeypatch):
    drawn, anywhere = planar(100, noise, seed=0), np.random.default_rng(0).uniform(-100, 100, size=(100, 2))
    expected, expected_anywhere = planar.log_prob(drawn, noise), planar.log_prob(anywhere, noise)
    fejer = planar_set._fejer
    monkeypatch.setattr(planar_set, "_fejer", lambda n: fejer(2 * n))
    np.testing.assert_allclose(planar.log_prob(drawn, noise), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(planar.log_prob(anywhere, noise), expected_anywhere, rtol=1e-6)


@pytest.mark.parametrize("noise", [0.08, 0.5, 4.0])
def test_density_of_the_rings_against_a_plain_sum_over_the_angle(noise):
    x = np.random.default_rng(0).uniform(-4, 4, size=(20, 2))
    angle = 2 * np.pi * np.arange(5000) / 5000
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    density = sum(
        np.exp(-((x[:, np.newaxis] - radius * circle) ** 2).sum(axis=2) / (2 * noise**2)).mean(axis=1) / 4
        for radius in (0.75, 1.5, 2.25, 3)
    )
    np.testing.assert_allclose(
        datasets.rings.log_prob(x, noise), np.log(density / (2 * np.pi * noise**2)), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("noise", [0.25, 0.5, 10.0])
def test_density_of_the_checkerboard_against_error_functions(noise):
    def interval(x, lower):
        scale = noise * math.sqrt(2)
        return (math.erf((lower + 2 - x) / scale) - math.erf((lower - x) / scale)) / 2

    for x, y in np.random.default_rng(0).uniform(-4, 4, size=(20, 2)):
        dark = [(2 * i, 2 * j) for i in range(-2, 2) for j in range(-2, 2) if (i + j) % 2 == 0]
        expected = sum(interval(x, left) * interval(y, low) for left, low in dark) / 32
        log_prob = datasets.checkerboard.log_prob([[x, y]], noise)[0]
        assert log_prob == pytest.approx(math.log(expected), abs=1e-9)


def test_density_of_the_checkerboard_without_noise():
    x = [[1.0, 1.0], [-1.0, 1.0], [4.0, 3.0], [-0.5, -1.9], [4.1, 3.0], [2.5, -3.9]]
    inside = np.array([True, False, True, True, False, False])
    np.testing.assert_allclose(datasets.checkerboard.log_prob(x), np.where(inside, -math.log(32), -math.inf))
    assert np.isfinite(datasets.checkerboard.log_prob(datasets.checkerboard(100_000, seed=0))).all()


def test_without_noise_points_lie_on_the_shape():
    def points(planar):
        x = planar(1000, noise=0, seed=0).astype(np.float64)
        return x, np.hypot(*x.T)

    def close(x, expected):
        return np.all(np.abs(x - expected) < 1e-5, axis=-1)

    x, radius = points(datasets.two_moons)
    upper = (np.abs(radius - 1) < 1e-5) & (x[:, 1] > -1e-5)
    lower = (np.abs(np.hypot(x[:, 0] - 1, x[:, 1] - 0.5) - 1) < 1e-5) & (x[:, 1] < 0.5 + 1e-5)
    assert np.all(upper ^ lower)
    assert 400 < upper.sum() < 600

    x, radius = points(datasets.two_spirals)
    arm = radius[:, np.newaxis] * np.stack([-np.cos(3 * radius), np.sin(3 * radius)], axis=-1)
    assert np.all(close(x, arm) ^ close(x, -arm))
    assert 400 < close(x, arm).sum() < 600
    assert 3.1 < radius.max() < np.pi

    x, radius = points(datasets.swiss_roll_2d)
    assert np.all(close(x, radius[:, np.newaxis] * np.stack([np.cos(5 * radius), np.sin(5 * radius)], axis=-1)))
    assert 0.3 * np.pi - 1e-5 < radius.min() < 0.3 * np.pi + 0.01
    assert 0.9 * np.pi - 0.01 < radius.max() < 0.9 * np.pi + 1e-5

    x, radius = points(datasets.eight_gaussians)
    eighths = np.arctan2(*x.T) / (np.pi / 4)
    np.testing.assert_allclose(radius, math.sqrt(8), rtol=1e-6)
    np.testing.assert_allclose(eighths, np.round(eighths), atol=1e-5)

    x, radius = points(datasets.rings)
    np.testing.assert_allclose(radius, np.round(radius / 0.75) * 0.75, rtol=1e-6)
    assert set(np.round(radius / 0.75)) == {1, 2, 3, 4}

    x, radius = points(datasets.pinwheel)
    fifths = (np.arctan2(*x.T[::-1]) - 0.4 * radius) / (2 * np.pi / 5)
    fifths = fifths[radius > 0.6]  # a few points near the origin come from the tail beyond it, and lie opposite
    np.testing.assert_allclose(fifths, np.round(fifths), atol=1e-5)

    x, _ = points(datasets.checkerboard)
    assert np.all(np.floor(x / 2).sum(axis=1) % 2 == 0)
    assert np.abs(x).max() <= 4


@each_set
def test_far_and_missing_points(planar):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_prob = planar.log_prob(
            [[1e15, 0], [-1e15, 1e15], [math.inf, 0], [0, -math.inf], [1e200, 0], [math.nan, 0]], 0.1
        )
        assert planar.log_prob(np.zeros([0, 2]), 0.1).shape == (0,)
    assert np.all(log_prob[:2] < -1e28)
    assert np.all(np.isfinite(log_prob[:2]))
    assert np.all(log_prob[2:5] == -math.inf)
    assert np.isnan(log_prob[5])


@each_set
def test_density_does_not_depend_on_the_chunks(planar, monkeypatch):
    x = planar(100, 0.3, seed=0)
    expected = planar.log_prob(x, 0.3)
    monkeypatch.setattr(planar_set, "_CHUNK", 3000)
    np.testing.assert_allclose(planar.log_prob(x, 0.3), expected, rtol=1e-12)
    monkeypatch.setattr(planar_set, "_CHUNK", 1)
    np.testing.assert_allclose(planar.log_prob(list(map(tuple, x)), 0.3), expected, rtol=1e-12)


@each_set
@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda planar: planar(0), "Expected `n` to be a positive integer. Received: n=0"),
        (lambda planar: planar(-5), "Received: n=-5"),
        (lambda planar: planar(10.0), "Received: n=10.0"),
        (lambda planar: planar(True), "Received: n=True"),
        (lambda planar: planar("10"), "Received: n='10'"),
        (
            lambda planar: planar(10, noise=-0.1),
            "Expected `noise` to be a finite, non-negative number. Received: noise=-0.1",
        ),
        (lambda planar: planar(10, noise=math.nan), "Received: noise=nan"),
        (lambda planar: planar(10, noise=math.inf), "Received: noise=inf"),
        (lambda planar: planar(10, noise="much"), "Received: noise='much'"),
        (lambda planar: planar(10, seed=-1), "Expected `seed` to be None, .* Received: seed=-1"),
        (lambda planar: planar(10, seed="x"), "Received: seed='x'"),
        (lambda planar: planar.log_prob(np.zeros(2)), r"shape \[n, 2\]. Received: dtype=float64, shape=\(2,\)"),
        (lambda planar: planar.log_prob(np.zeros([5, 3])), r"Received: dtype=float64, shape=\(5, 3\)"),
        (lambda planar: planar.log_prob(np.zeros([5, 2], dtype=complex)), "Received: dtype=complex128"),
        (lambda planar: planar.log_prob([["a", "b"]]), "Expected `x` to be real numbers"),
        (lambda planar: planar.log_prob(np.zeros([5, 2]), noise=-1), "Received: noise=-1"),
        (lambda planar: planar.entropy(-1), "Received: noise=-1"),
        (lambda planar: planar.entropy(0.001), "Expected `noise` to be at least 0.02 .* Received: noise=0.001"),
    ],
)
def test_bad_input(planar, call, expected):
    with pytest.raises(ValueError, match=expected):
        call(planar)


@each_set
def test_a_shape_too_thin_for_a_density_says_so(planar):
    if planar is datasets.checkerboard:
        assert np.isfinite(planar.log_prob([[1, 1]], noise=0)).all()
        return
    for call in (lambda: planar.log_prob([[1, 1]], noise=0), lambda: planar.entropy(0)):
        with pytest.raises(ValueError, match=f"without it {planar.name} is too thin .* Received: noise=0"):
            call()


def test_quakes_are_those_of_the_source():
    raw = datasets.quakes(dequantize=False)
    assert raw.shape == (1000, 5)
    assert raw.dtype == np.float32
    assert datasets.quakes.columns == ("latitude", "longitude", "depth", "magnitude", "stations")
    assert datasets.quakes.steps == (0.01, 0.01, 1, 0.1, 1)
    raw = raw.astype(np.float64)
    np.testing.assert_allclose(raw.min(axis=0), [-38.59, 165.67, 40, 4, 10], rtol=1e-6)
    np.testing.assert_allclose(raw.max(axis=0), [-10.72, 188.13, 680, 6.4, 132], rtol=1e-6)
    np.testing.assert_allclose(raw.mean(axis=0), [-20.64275, 179.46202, 311.371, 4.6204, 33.418], rtol=1e-6)
    np.testing.assert_allclose(np.median(raw, axis=0), [-20.3, 181.41, 247, 4.6, 27], rtol=1e-6)
    assert len(np.unique(raw, axis=0)) == 1000


def test_geyser_is_that_of_the_source():
    raw = datasets.geyser(dequantize=False)
    assert raw.shape == (272, 2)
    assert raw.dtype == np.float32
    assert datasets.geyser.columns == ("eruption", "waiting")
    assert datasets.geyser.steps == (1 / 60, 1)  # whole seconds, whole minutes
    raw = raw.astype(np.float64)
    np.testing.assert_allclose(raw.min(axis=0), [1.6, 43], rtol=1e-6)
    np.testing.assert_allclose(raw.max(axis=0), [5.1, 96], rtol=1e-6)
    np.testing.assert_allclose(raw.mean(axis=0), [3.487783, 70.897059], rtol=1e-6)
    np.testing.assert_allclose(raw.std(axis=0, ddof=1), [1.141371, 13.594974], rtol=1e-6)


@each_table
def test_columns_are_those_of_the_file(table):
    file = importlib.resources.files("tfp_flows.datasets") / "files" / f"{table.__name__}.csv"
    assert file.read_text(encoding="utf-8").splitlines()[0] == ",".join(table.columns)


@each_table
def test_dequantized_values_round_back_and_fill_their_steps(table):
    raw, spread = table(dequantize=False).astype(np.float64), table(seed=0).astype(np.float64)
    assert spread.shape == raw.shape
    steps = np.array(table.steps)
    # Half a step; what is written with three decimals is off its step by less than 0.001, and a float32 by its spacing.
    written = 0.001 if table is datasets.geyser else 0
    assert np.all(np.abs(spread - raw) <= steps / 2 + written + np.spacing(np.abs(raw).astype(np.float32)))
    place = (spread / steps + 0.5) % 1
    standard_error = 1 / math.sqrt(12 * len(raw))
    np.testing.assert_allclose(place.mean(axis=0), 0.5, atol=4 * standard_error)
    np.testing.assert_allclose(place.std(axis=0), 1 / math.sqrt(12), rtol=0.1)


@each_table
def test_tables_follow_the_seed(table):
    assert np.array_equal(table(seed=1), table(dequantize=True, seed=1))
    assert not np.array_equal(table(seed=1), table(seed=2))
    assert not np.array_equal(table(), table())
    assert np.array_equal(table(dequantize=False), table(dequantize=False, seed=2))
    assert table(seed=1).dtype == np.float32
    with pytest.raises(ValueError, match=r"Expected `dequantize` to be True or False\. Received: dequantize='no'"):
        table(dequantize="no")
    with pytest.raises(ValueError, match="Received: seed=-1"):
        table(seed=-1)


@pytest.mark.parametrize(
    "problem, event, context",
    [
        (datasets.LinearGaussian(2, 3, seed=0), 2, 3),
        (datasets.Showers(), 6, 60),
        (datasets.Exoplanet(dtype="float64"), 5, 101),
    ],
)
def test_a_list_keeps_the_digits_that_float32_has_not(problem, event, context):
    event, context = np.linspace(0.1, 0.7, event), np.linspace(1.1, 1.7, context)
    expected = problem.joint_log_prob(event, context)
    np.testing.assert_array_equal(problem.joint_log_prob(event.tolist(), context.tolist()), expected)
    with pytest.raises(ValueError, match="Expected `.*` of shape .* Received: shape"):
        problem.joint_log_prob(event[1:], context)
