"""Every flow beside the same flow in other libraries: times, first calls, memory; written to results.md.

    make bench                                       # all; about an hour
    python benchmarks/bench.py --cases MAF IAF       # the cases whose names begin so; the others keep their figures
    python benchmarks/bench.py --libraries tfp_flows TFP limit --rounds 1

Each library has a process of its own for each case, and each mode of a library (XLA or graph, eager or training by
`torch.compile`) counts as a library of its own; the better one is shown. They take turns, A B C A B C, so that what
else the machine does meets all of them. A figure is the least, over the rounds, of the median in a round. Results are
materialised before the clock stops. The peers live in environments that this script makes (`--environments`), of the
versions in benchmarks/peers/torch.txt and jax.txt.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
import time

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER / "peers"))

from cases import CASES, JOBS  # noqa: E402

MODES = {
    "tfp_flows": ["xla", "graph"],
    "TFP": ["xla", "graph"],
    "zuko": ["eager", "compiled"],
    "nflows": ["eager"],
    "normflows": ["eager", "compiled"],
    "flowjax": ["jit"],
    "limit": ["xla"],
}
ENVIRONMENTS = {"zuko": "torch", "nflows": "torch", "normflows": "torch", "flowjax": "jax"}
SECONDS = 0.5  # of a library's turn
LIMIT = 120  # seconds of one answer, after which a library is left out


class Contestant:
    """A library in one mode on one case, in a process of its own."""

    def __init__(self, library, mode, case, environments):
        self.library, self.mode = library, mode
        command = [python_of(library, environments), str(FOLDER / "peers" / "worker.py"), library, mode, case]
        environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.said = self.answer()

    def ask(self, words):
        try:
            print(words, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return {"missing": "the process ended"}
        return self.answer()

    def answer(self):
        timer = threading.Timer(LIMIT, self.process.kill)
        timer.start()
        line = next((line for line in self.process.stdout if line.startswith("answer ")), None)
        timer.cancel()
        return json.loads(line.removeprefix("answer ")) if line else {"missing": f"ended, or took over {LIMIT} s"}


def python_of(library, environments):
    """The Python of a library's environment, made if it is not there."""
    if library not in ENVIRONMENTS:
        return sys.executable
    folder = environments / ENVIRONMENTS[library]
    python = folder / "bin" / "python"
    if not python.exists():
        requirements = FOLDER / "peers" / f"{ENVIRONMENTS[library]}.txt"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
    return str(python)


def measure(case, libraries, environments, rounds):
    """{library: {job: {"ms", "first", "mode"} or {"missing"}}} of one case; and under "memory" the peak in MB."""
    pairs = [(library, mode) for library in libraries for mode in MODES[library]]
    contestants = [Contestant(library, mode, case, environments) for library, mode in pairs]
    figures = {library: {} for library in libraries}
    for job in JOBS:
        racing = []
        for one in contestants:
            said = one.said if "missing" in one.said else one.ask(f"{job} 0")
            if "first" in said:
                racing.append((one, said["first"], []))
            else:
                figures[one.library].setdefault(job, said)
        for _ in range(rounds):
            for contestant in list(racing):
                one, _, medians = contestant
                said = one.ask(f"{job} {SECONDS}")
                if "times" in said:
                    medians.append(statistics.median(said["times"]))
                else:
                    racing.remove(contestant)
                    figures[one.library].setdefault(job, said)
        for one, first, medians in racing:
            found = {"ms": 1e3 * min(medians), "first": first, "mode": one.mode}
            best = figures[one.library].get(job, {})
            if found["ms"] < best.get("ms", float("inf")):
                figures[one.library][job] = found
    for one in contestants:
        if "ready" in one.said:
            memory = one.ask("memory").get("memory", 0.0)
            figures[one.library]["memory"] = max(memory, figures[one.library].get("memory", 0.0))
        one.process.kill()
        one.process.wait()
    return figures


def versions(environments, libraries):
    """{package: version} of what is measured."""
    packages = {python_of("tfp_flows", environments): ["tensorflow", "tensorflow-probability", "keras"]}
    for library in libraries:
        if library in ENVIRONMENTS:
            packages.setdefault(python_of(library, environments), [ENVIRONMENTS[library]]).append(library)
    found = {"python": platform.python_version()}
    for python, names in packages.items():
        code = f"import json; from importlib.metadata import version; print(json.dumps([version(n) for n in {names}]))"
        said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
        found |= dict(zip(names, json.loads(said), strict=True))
    return found


HEAD = """# Results

Written by `make bench`; how it measures stands in benchmarks/bench.py. Milliseconds, with the letter of the library's
better mode: x XLA, g graph, e eager, c `torch.compile`, j jit. *Best peer*: our time over that of the fastest other
library. *Limit*: our time over that of the conditioners' matrix products alone. *Epoch*: one of 40 batches, by
`FlowModel.fit` and by each peer's own training loop. *First call*: of the training step, beside the fastest library
that compiles it. A dash: the library cannot express it, or failed; why stands at the end.
"""


def page(results):
    """The results as Markdown."""
    libraries = [library for library in results["libraries"] if library != "limit"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [HEAD, f"{results['when']}, {results['cores']} cores; {versions}.", ""]
    missing = {}
    for case, figures in results["cases"].items():
        lines += [f"## {case}", "", row("", *libraries, "best peer", "limit"), "|---" * (len(libraries) + 3) + "|"]
        for job in JOBS:
            found = {library: figures[library].get(job, {}) for library in figures}
            milliseconds = {library: found[library]["ms"] for library in found if "ms" in found[library]}
            ours = milliseconds.get("tfp_flows")
            peers = [milliseconds[peer] for peer in libraries if peer in milliseconds and peer != "tfp_flows"]
            ratios = [ratio(ours, min(peers, default=None)), ratio(ours, milliseconds.get("limit"))]
            lines.append(row(job, *(cell(library, found[library]) for library in libraries), *ratios))
            for library in libraries:
                if "missing" in found[library]:
                    missing.setdefault((case, library), f"{job}: {found[library]['missing']}")
        trained = {library: figures[library].get("train", {}) for library in libraries}
        first = {library: found.get("first") for library, found in trained.items()}
        compiled = [peer for peer in libraries if trained[peer].get("mode", "eager") != "eager"]
        ours, peers = first.get("tfp_flows"), [first[peer] for peer in compiled if peer != "tfp_flows"]
        lines.append(row("first call, s", *map(number, first.values()), ratio(ours, min(peers, default=None)), ""))
        memory = [figures[library].get("memory") for library in libraries]
        lines += [row("peak memory, MB", *map(number, memory), "", ""), ""]
    lines += ["## What is missing", ""]
    lines += [f"- {case}, {library}: {why}" for (case, library), why in missing.items()]
    return "\n".join(lines) + "\n"


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def cell(library, found):
    letter = found["mode"][0] if "ms" in found else ""
    return number(found.get("ms")) + letter


def number(value):
    """Three digits of it."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def ratio(ours, other):
    return f"{ours / other:.2f}" if ours and other else ""


def earlier(file):
    """The cases of an earlier run, for one of a few cases."""
    return json.loads(file.read_text())["cases"] if file.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=[""], help="beginnings of names of cases")
    parser.add_argument("--libraries", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environments", type=pathlib.Path, default=FOLDER.parent / ".venv-bench")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    arguments = parser.parse_args()
    names = [name for name in CASES if any(name.startswith(start) for start in arguments.cases)]
    results = {
        "when": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "libraries": arguments.libraries,
        "versions": versions(arguments.environments, arguments.libraries),
        "cases": {} if names == list(CASES) else earlier(arguments.output / "results.json"),
    }
    for name in names:
        start = time.monotonic()
        results["cases"][name] = measure(name, arguments.libraries, arguments.environments, arguments.rounds)
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (arguments.output / "results.md").write_text(page(results))
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    with open(arguments.output / "history.jsonl", "a") as history:
        print(json.dumps(results), file=history)
    print(page(results))


if __name__ == "__main__":
    main()
