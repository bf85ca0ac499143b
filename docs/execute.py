"""Runs the Python blocks of the pages, and writes into the pages what they print and beside them what they draw.

python docs/execute.py                # all pages, some minutes
python docs/execute.py docs/start.md  # one

A page is a program: its blocks that start with ```python run in order, in one namespace. A block that prints is
followed by a block of ```text, which is what it printed; the k-th figure of a page is pictures/<page>_<k>.png. The
notebooks are run with --notebooks.
"""

import argparse
import contextlib
import io
import os
import pathlib
import re
import tempfile
import time

DOCS = pathlib.Path(__file__).parent.resolve()
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def pages():
    """The pages that have blocks to run."""
    paths = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    return [path for path in paths if BLOCK.search(path.read_text(encoding="utf-8"))]


def picture_path(page, number):
    """Where the figure of this number, from 1, of a page is kept."""
    return DOCS / "pictures" / f"{page.stem}_{number}.png"


def run(page, show):
    """Runs a page in a fresh folder; `show` gets every matplotlib figure, and the number it has in the page.

    Returns the page's text with the outputs that its blocks had.
    """
    import matplotlib
    from matplotlib import pyplot as plt

    matplotlib.use("agg")
    plt.close("all")  # whoever has drawn before
    text, namespace, count = page.read_text(encoding="utf-8"), {"__name__": "page"}, 0
    result, position, here = [], 0, os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in BLOCK.finditer(text):
                printed = io.StringIO()
                source = "\n" * text[: block.start(1)].count("\n") + block[1]  # so that errors name the page's line
                with contextlib.redirect_stdout(printed):
                    exec(compile(source, page.name, "exec"), namespace)
                for figure in map(plt.figure, plt.get_fignums()):
                    count += 1
                    show(figure, count)
                plt.close("all")
                result += [text[position : block.start()], f"```python\n{block[1]}```\n"]
                if printed.getvalue():
                    result.append(f"\n```text\n{printed.getvalue().rstrip()}\n```\n")
                position = block.end()
        finally:
            os.chdir(here)
    return "".join([*result, text[position:]])


def save(figure, path, width=900):
    """Writes a figure as a small PNG, of 64 colours."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=min(110, width / figure.get_figwidth()), facecolor="white")
    image = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def without_xla():
    """Has models train without XLA, whose compiling takes longer than the short trainings of the pages."""
    import keras

    compile = keras.Model.compile
    keras.Model.compile = lambda self, *args, **options: compile(self, *args, **{**options, "jit_compile": False})


def execute_notebook(path):
    """Runs a notebook and keeps its outputs, without what it wrote to stderr."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": folder}}).execute()
    notebook.metadata.pop("language_info", None)  # the version of Python
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which would differ at every run
        if cell.cell_type == "code":  # logs, which name processes and times
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="pages to run; all by default")
    parser.add_argument("--notebooks", action="store_true", help="run the notebooks, all or those named, and no pages")
    arguments = parser.parse_args()
    if arguments.notebooks:
        for path in arguments.pages or sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
            print(path.name, flush=True)
            execute_notebook(path)
        return
    import keras

    without_xla()
    keras.utils.disable_interactive_logging()  # or the progress of every `fit` would be its output
    for page in [path.resolve() for path in arguments.pages] or pages():
        start = time.perf_counter()
        keras.utils.set_random_seed(0)
        text = run(page, lambda figure, number, page=page: save(figure, picture_path(page, number)))
        page.write_text(text, encoding="utf-8")
        print(f"{page.relative_to(DOCS)}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
