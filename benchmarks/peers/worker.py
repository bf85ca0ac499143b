"""One library on one case: does what standard input asks for, a job a line, and answers in JSON.

    python benchmarks/peers/worker.py zuko eager "MAF, D=43, 5 layers 2x512"

The first answer is {"ready": true}, or {"missing": why} where the library cannot express the flow. Each line after it
is a job and seconds; the answer is {"first": seconds} at its first time, then {"times": [seconds, ...]}, of as many
calls as fit. The line `memory` is answered by the peak of the process in MB.
"""

import importlib
import json
import os
import pathlib
import resource
import sys
import time


def main(library, mode, name):
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS="2", JAX_PLATFORMS="cpu")
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    from cases import CASES

    case = CASES[name]
    makers = importlib.import_module(f"{library.lower()}_library").MAKERS
    if case.flow not in makers:
        return answer(missing="no such flow")
    try:
        jobs = makers[case.flow](case, mode)
    except Exception as error:  # a library may fail in any way, and the others go on
        return answer(missing=words(error))
    answer(ready=True)
    called = set()
    for line in sys.stdin:
        if line.strip() == "memory":
            answer(memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
            continue
        job, seconds = line.split()
        if job not in jobs:
            answer(missing="no such job")
            continue
        try:
            times = timed(jobs[job], float(seconds))
        except Exception as error:
            answer(missing=words(error))
            continue
        answer(**({"times": times} if job in called else {"first": times[0]}))
        called.add(job)


def timed(job, seconds):
    times, until = [], time.perf_counter() + seconds
    while not times or (time.perf_counter() < until and len(times) < 1000):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return times


def words(error):
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def answer(**values):
    print("answer " + json.dumps(values), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
