"""The house: files import only from above, docstrings run, nothing public is without words and type hints."""

import ast
import doctest
import importlib
import inspect
import pathlib

import pytest

import tfp_flows as tff
from tfp_flows import model, saving, serving, tables

ROOT = pathlib.Path(tff.__file__).parent

# The order the data takes; a file imports only from lines above its own.
ORDER = [
    "_types",
    "_math",
    "_arguments",
    "_copies",
    "_files",
    "tracking",
    "context",
    "transformers",
    "conditioners",
    "bijectors",
    "distributions",
    "flows",
    "saving",
    "model",
    "objectives",
    "tables",
    "datasets",
    "experiments",
    "inference",
    "plotting",
    "report",
    "callbacks",
    "serving",
    "command_line",
    "__main__",
    "__init__",
]
MODULES = sorted(
    ".".join(("tfp_flows", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


def place(module):
    """The line of ORDER on which a module such as `tfp_flows.transformers.affine` stands."""
    name = module.removeprefix("tfp_flows").lstrip(".").split(".")[0] or "__init__"
    assert name in ORDER, f"{module} has no place in the house"
    return ORDER.index(name)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_only(path):
    module = ".".join(("tfp_flows", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for node in ast.walk(ast.parse(path.read_text())):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from tfp_flows import bijectors` names a module, `from tfp_flows.flows import nice` one in a module.
            imported = [
                f"{node.module}.{alias.name}" if node.module == "tfp_flows" else node.module for alias in node.names
            ]
        for name in imported:
            if name and name.startswith("tfp_flows"):
                assert place(name) <= place(module), f"{module} imports {name}"


def test_flows_and_flow_model_do_not_know_each_other():
    for room, other in (("flows", "tfp_flows.model"), ("model", "tfp_flows.flows"), ("model", "tfp_flows.bijectors")):
        for path in (ROOT / room).rglob("*.py"):
            assert f"from {other}" not in path.read_text(), f"{path.name} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def public_objects():
    for space in (
        tff,
        tff.transformers,
        tff.conditioners,
        tff.bijectors,
        tff.distributions,
        tff.objectives,
        tff.inference,
    ):
        for name in space.__all__:
            thing = getattr(space, name)
            if not inspect.ismodule(thing):
                yield name, thing
    for name, thing in inspect.getmembers(tff.flows, inspect.isfunction):
        if not name.startswith("_") and thing.__module__.startswith("tfp_flows.flows"):
            yield f"flows.{name}", thing


@pytest.mark.parametrize(
    "name, thing", list(public_objects()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_things_have_words_and_an_example(name, thing):
    words = inspect.getdoc(thing) or ""
    assert words
    if not inspect.isabstract(thing):
        assert ">>>" in words, f"{name} has no example"


def public_functions():
    """Every public function, constructor, method and property of ours, by its name."""
    report = importlib.import_module("tfp_flows.report")  # `tff.report` is the function
    spaces = (tff, tff.transformers, tff.conditioners, tff.bijectors, tff.distributions, tff.flows, tff.objectives)
    spaces += (tff.inference, tff.plotting, tff.callbacks, tff.datasets, tables, report, serving, saving, model)
    for thing in (getattr(space, name) for space in spaces for name in space.__all__):
        if inspect.isfunction(thing):
            yield f"{thing.__module__}.{thing.__name__}", thing
        elif not inspect.ismodule(thing):
            parents = inspect.getmro(thing if inspect.isclass(thing) else type(thing))
            for parent in parents:
                for name, value in vars(parent).items():
                    function = getattr(value, "fget", getattr(value, "__func__", value))
                    is_public = not name.startswith("_") or name in ("__init__", "__call__")
                    if is_public and inspect.isfunction(function) and function.__module__.startswith("tfp_flows"):
                        yield f"{function.__module__}.{function.__qualname__}", function


def test_public_functions_have_hints():
    missing = set()
    for name, function in public_functions():
        signature = inspect.signature(function)
        if signature.return_annotation is signature.empty:
            missing.add(f"{name} -> ?")
        for parameter in signature.parameters.values():
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls"):
                missing.add(f"{name}({parameter.name}: ?)")
    assert not missing
