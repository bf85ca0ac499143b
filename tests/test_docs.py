"""The site: every Python block of every page runs, links lead somewhere, outputs and pictures are there."""

import functools
import importlib.util
import inspect
import pathlib
import re

import keras
import pytest

import tfp_flows as tff

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"

_spec = importlib.util.spec_from_file_location("execute", DOCS / "execute.py")
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

TEXTS = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TEXTS += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
RUN = execute.pages()
FENCE = re.compile(r"^(```|:::).*?^\1\s*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|^```\{image\} (\S+)", re.MULTILINE)


def name_of(path):
    return str(path.relative_to(ROOT))


def shallow(make):
    """A preset with one layer, whatever it is asked for."""

    @functools.wraps(make)
    def with_one_layer(*args, **options):
        return make(*args, **{**options, "num_layers": 1})

    return with_one_layer


@pytest.fixture
def short(monkeypatch):
    """One layer a flow, two steps of training, and no XLA; otherwise as the pages stand."""
    fit, compile, fit_reverse_kl = keras.Model.fit, keras.Model.compile, tff.inference.fit_reverse_kl

    def short_fit(self, *args, **options):
        options.update(epochs=1, verbose=0)
        options["steps_per_epoch"] = min(2, options.get("steps_per_epoch") or 2)
        return fit(self, *args, **options)

    def short_compile(self, *args, **options):
        return compile(self, *args, **{**options, "jit_compile": False, "steps_per_execution": 1})

    def short_reverse_kl(flow, target, num_steps, **options):
        return fit_reverse_kl(flow, target, num_steps=2, **{**options, "jit_compile": False})

    for name in tff.flows.__all__:
        make = getattr(tff.flows, name)
        if "num_layers" in inspect.signature(make).parameters:
            shallow = functools.wraps(make)(
                lambda *args, make=make, **options: make(*args, **{**options, "num_layers": 1})
            )
            monkeypatch.setattr(tff.flows, name, shallow)
    monkeypatch.setattr(keras.Model, "fit", short_fit)
    monkeypatch.setattr(keras.Model, "compile", short_compile)
    monkeypatch.setattr(tff.inference, "fit_reverse_kl", short_reverse_kl)


def test_pages_were_found():
    assert DOCS / "start.md" in RUN


@pytest.mark.filterwarnings("ignore")  # barely trained flows are poor proposals, and say so
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_page_runs(page, short):
    text = page.read_text(encoding="utf-8")
    figures = []
    result = execute.run(page, lambda figure, number: figures.append(number))
    # What a block prints may be other numbers, after a short training; whether it prints is the page's own.
    prints = [bool(block[2]) for block in execute.BLOCK.finditer(result)]
    assert prints == [bool(block[2]) for block in execute.BLOCK.finditer(text)]
    pictures = [execute.picture_path(page, number) for number in figures]
    assert all(f"pictures/{path.name}" in text and path.exists() for path in pictures)


def test_the_readme_has_the_program_of_the_first_page():
    blocks = [
        execute.BLOCK.search((path).read_text(encoding="utf-8")) for path in (ROOT / "README.md", DOCS / "index.md")
    ]
    assert blocks[0][1] == blocks[1][1]


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_to_files(path):
    text = path.read_text(encoding="utf-8")
    links = [found for pair in LINK.findall(FENCE.sub("", text)) for found in pair if found]
    for link in links:
        target = link.split("#")[0]
        if target and "://" not in target:
            found = (path.parent / target).resolve()
            if found.is_relative_to(DOCS / "notebooks"):  # Sphinx copies them there
                found = ROOT / found.relative_to(DOCS)
            assert found.exists(), f"{link} leads nowhere"


def test_pictures_are_small_and_used():
    texts = "".join(path.read_text(encoding="utf-8") for path in TEXTS)
    for path in (DOCS / "pictures").rglob("*.png"):
        assert path.stat().st_size < 60_000, path.name
        assert f"pictures/{path.relative_to(DOCS / 'pictures')}" in texts, f"{path.name} is on no page"
