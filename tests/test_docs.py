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


def shallow(make, names):
    """A preset with one of everything that `names` name, whatever it is asked for."""

    @functools.wraps(make)
    def with_one_layer(*args, **options):
        return make(*args, **{**options, **dict.fromkeys(names, 1)})

    return with_one_layer


@pytest.fixture
def short(monkeypatch):
    """One layer a flow, two steps of training, no XLA, reports on few rows; otherwise as the pages stand."""
    fit, compile, fit_reverse_kl = keras.Model.fit, keras.Model.compile, tff.inference.fit_reverse_kl
    report = tff.report

    def short_fit(self, *args, **options):
        options.update(epochs=1, verbose=0)
        options["steps_per_epoch"] = min(2, options.get("steps_per_epoch") or 2)
        return fit(self, *args, **options)

    def short_compile(self, *args, **options):
        return compile(self, *args, **{**options, "jit_compile": False, "steps_per_execution": 1})

    def short_reverse_kl(flow, target, num_steps, **options):
        return fit_reverse_kl(flow, target, num_steps=2, **{**options, "jit_compile": False})

    def short_report(*args, **options):
        return report(*args, **{**options, "max_rows": 60})

    for name in tff.flows.__all__:
        make = getattr(tff.flows, name)
        names = {"num_layers", "num_levels", "num_steps"}.intersection(inspect.signature(make).parameters)
        monkeypatch.setattr(tff.flows, name, shallow(make, names))
    monkeypatch.setattr(keras.Model, "fit", short_fit)
    monkeypatch.setattr(keras.Model, "compile", short_compile)
    monkeypatch.setattr(tff.inference, "fit_reverse_kl", short_reverse_kl)
    monkeypatch.setattr(tff, "report", short_report)


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
    pages = (ROOT / "README.md", DOCS / "index.md")
    readme, index = (execute.BLOCK.search(path.read_text(encoding="utf-8"))[1] for path in pages)
    assert readme == index


# What `tff.flows` has beside presets.
PRESETS = set(tff.flows.__all__) - {"with_solver"}


def table_names(path):
    """The presets that the rows of a page's table name."""
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return PRESETS.intersection(re.findall(r"`(\w+)`", "\n".join(rows)))


def test_every_preset_is_in_the_tables_and_has_a_picture():
    assert table_names(ROOT / "README.md") == table_names(DOCS / "choosing.md") == PRESETS
    for page in ("choosing.md", "gallery.md"):
        pictures = set(re.findall(r"pictures/gallery/(\w+)\.png", (DOCS / page).read_text(encoding="utf-8")))
        assert pictures == {*PRESETS, "two_moons"}, page


def test_the_readme_tells_what_setup_and_make_have():
    readme, setup, make = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "setup.py", "Makefile"))
    extras = set(re.findall(r"'\.\[(\w+)\]'", readme))
    assert extras and all(re.search(rf'^ *"{extra}": ', setup, re.MULTILINE) for extra in extras)
    targets = set(re.findall(r"\bmake (\w+) ", readme)) | set(re.findall(r"`make (\w+)`", readme))
    assert targets and all(re.search(rf"^{target}:", make, re.MULTILINE) for target in targets)
    oldest, newest = re.search(r"Python 3\.(\d+) to 3\.(\d+)", readme).groups()
    assert f'python_requires=">=3.{oldest},<3.{int(newest) + 1}"' in setup
    assert len(tff.datasets.quakes()) == 1000  # the picture
    assert len(readme.splitlines()) < 90  # one screen and a half


def test_the_site_has_the_version_of_the_package():
    version = re.search(r'version="([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))[1]
    for path, pattern in (
        (DOCS / "conf.py", 'release = "{}"'),
        (ROOT / "CITATION.cff", "version: {}"),
        (ROOT / "CHANGELOG.md", "## {}"),
    ):
        assert pattern.format(version) in path.read_text(encoding="utf-8"), path.name


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
