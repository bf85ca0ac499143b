"""Every case of cases.py against every check of checks.py."""

import inspect

import pytest

import tfp_flows as tff
from tests import checks
from tests.cases import CASES, built

# What depends on rounding, in both dtypes; the rest in float64, where an error has nowhere to hide.
NUMERICS = [
    checks.round_trip,
    checks.log_det_is_that_of_the_jacobian,
    checks.log_dets_are_opposite,
    checks.extreme_input_is_safe,
    checks.dtype_is_kept,
]
PROPERTIES = [
    *NUMERICS,
    checks.value_and_log_det_agree_in_the_cache,
    checks.batch_equals_loop,
    checks.context_broadcasts,
    checks.gradient_reaches_every_variable,
    checks.shapes_are_those_of_the_batch,
    checks.starts_as_identity,
    checks.seed_fixes_every_parameter,
    checks.config_round_trip,
    checks.copy_is_another,
    checks.variables_count_the_same,
    checks.bad_input_is_refused,
]


def applies(check, case):
    """Whether a check says something of a case."""
    if check is checks.context_broadcasts:
        return bool(case.context_size)
    if check is checks.extreme_input_is_safe:
        return not case.why_bounded
    return check is not checks.starts_as_identity or case.starts_as_identity


TESTS = [
    pytest.param(name, check, dtype, id=f"{name}-{check.__name__}-{dtype}")
    for name, case in CASES.items()
    for check in PROPERTIES
    for dtype in ("float32", "float64")
    if applies(check, case) and (check in NUMERICS or dtype == "float64")
]


@pytest.mark.parametrize("name, check, dtype", TESTS)
def test_every_bijector(name, check, dtype):
    check(CASES[name], built(name, dtype), dtype)


# These trace graphs and compile.
@pytest.mark.parametrize("name", CASES)
def test_every_bijector_under_xla(name):
    checks.xla_equals_eager(CASES[name], built(name, "float64"), "float64")


@pytest.mark.parametrize("name", CASES)
def test_every_bijector_as_saved_model(name, tmp_path):
    checks.saved_graph_equals_eager(CASES[name], built(name, "float32"), "float32", tmp_path)


def test_no_public_bijector_lacks_a_case():
    public = {getattr(tff.bijectors, name) for name in tff.bijectors.__all__}
    cased = {type(part) for name in CASES for part in (built(name, "float32"), *built(name, "float32").submodules)}
    assert {kind.__name__ for kind in public - cased if not inspect.isabstract(kind)} == set()
