"""Every case of cases.py against every check of checks.py."""

import inspect

import pytest

import tfp_flows as tff
from tests import checks
from tests.cases import CASES, built

PROPERTIES = [
    checks.round_trip,
    checks.log_det_is_that_of_the_jacobian,
    checks.log_dets_are_opposite,
    checks.value_and_log_det_agree_in_the_cache,
    checks.batch_equals_loop,
    checks.context_broadcasts,
    checks.gradient_reaches_every_variable,
    checks.dtype_is_kept,
    checks.shapes_are_those_of_the_batch,
    checks.extreme_input_is_safe,
    checks.starts_as_identity,
    checks.seed_fixes_every_parameter,
    checks.config_round_trip,
    checks.copy_is_another,
    checks.variables_count_the_same,
    checks.bad_input_is_refused,
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_every_bijector(name, check, dtype):
    check(CASES[name], built(name, dtype), dtype)


# Each of these traces graphs or compiles; float64, where an error has nowhere to hide.
@pytest.mark.parametrize("check", [checks.xla_equals_eager, checks.graph_with_unknown_batch_size_equals_eager])
@pytest.mark.parametrize("name", CASES)
def test_every_bijector_in_graphs(name, check):
    check(CASES[name], built(name, "float64"), "float64")


@pytest.mark.parametrize("name", CASES)
def test_every_bijector_as_saved_model(name, tmp_path):
    checks.saved_model_round_trip(CASES[name], built(name, "float32"), "float32", tmp_path)


def test_no_public_bijector_lacks_a_case():
    public = {getattr(tff.bijectors, name) for name in tff.bijectors.__all__}
    cased = {type(part) for name in CASES for part in (built(name, "float32"), *built(name, "float32").submodules)}
    assert {kind.__name__ for kind in public - cased if not inspect.isabstract(kind)} == set()
