"""Load on `tfp-flows serve`: concurrent clients for a minute, malformed requests, a kill and a new start.

python benchmarks/serving.py --clients 50 --seconds 60

Prints requests per second, the latency that a client sees, errors, and the server's memory. Each client sends its next
request when it has the answer to the last one, over one connection: nine in ten ask for the log-density of 1 to 32
rows, one in ten for 16 draws.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

SIZE = 8


async def request(connection, path, body):
    """(status, body) of the answer to a POST over an open connection."""
    reader, writer = connection
    writer.write(f"POST {path} HTTP/1.1\r\nHost: server\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def bodies(rng):
    """An endless stream of paths and bodies."""
    while True:
        if rng.random() < 0.1:
            yield "/sample", json.dumps({"n": 16}).encode()
        else:
            rows = rng.normal(size=[rng.integers(1, 33), SIZE]).round(4).tolist()
            yield "/log_prob", json.dumps({"x": rows}).encode()


def malformed(rng):
    """An endless stream of paths and bodies that are none: cut, of wrong types, of wrong shapes, of other names."""
    for path, body in bodies(np.random.default_rng(1)):
        kind = rng.randrange(5)
        if kind == 0:
            body = body[: rng.randrange(len(body) - 1)]
        elif kind == 1:
            body = body.replace(b":", rng.choice([b"=", b":[", b": NaN", b':"'])[:8], 1)
        elif kind == 2:
            body = json.dumps({"n": rng.choice([-1, 0, 1.5, "3", None, [], 10**9])}).encode()
            path = "/sample"
        elif kind == 3:
            value = rng.choice([1, "x", None, [[1.0] * 7], [[1.0] * 9], [["a"] * 8], [[None] * 8], [[1e39] * 8], []])
            path, body = "/log_prob", json.dumps({"x": value}).encode()
        else:
            body = bytes(rng.randrange(256) for _ in range(50))
        yield path, body


async def client(port, end, seed, latencies, failures):
    connection = await asyncio.open_connection("127.0.0.1", port)
    for path, body in bodies(np.random.default_rng(seed)):
        start = time.perf_counter()
        if start > end:
            break
        status, _ = await request(connection, path, body)
        latencies.append(time.perf_counter() - start)
        if status != 200:
            failures.append(status)
    connection[1].close()


async def load(port, clients, seconds):
    """Latencies in seconds, and the statuses other than 200."""
    latencies, failures, end = [], [], time.perf_counter() + seconds
    await asyncio.gather(*(client(port, end, seed, latencies, failures) for seed in range(clients)))
    return latencies, failures


async def wrong(port, count):
    """The statuses of malformed requests."""
    connection = await asyncio.open_connection("127.0.0.1", port)
    stream = malformed(random.Random(0))
    return [(await request(connection, *next(stream)))[0] for _ in range(count)]


def start(folder, port):
    """The server's process, and the seconds until it answers."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tfp_flows", "serve", folder, "--port", str(port)], stderr=subprocess.DEVNULL
    )

    async def answers():
        try:
            connection = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        connection[1].close()
        return True

    while not asyncio.run(answers()):
        time.sleep(0.1)
        assert process.poll() is None, "the server has ended"
    return process, time.perf_counter() - begin


def resident(process):
    """The memory of a process in megabytes."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--port", type=int, default=8765)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp()
    code = f"import tfp_flows as tff; tff.FlowModel(tff.flows.realnvp({SIZE}, num_layers=8, seed=0)).export({folder!r})"
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    process, seconds = start(folder, arguments.port)
    try:
        print(f"started in {seconds:.1f} s")
        asyncio.run(load(arguments.port, arguments.clients, arguments.seconds / 12))
        before = resident(process)
        print(f"memory after a warm-up of {arguments.seconds / 12:.0f} s: {before:.0f} MB")
        latencies, failures = asyncio.run(load(arguments.port, arguments.clients, arguments.seconds))
        median, late = np.quantile(latencies, [0.5, 0.99]) * 1e3
        print(
            f"{arguments.clients} clients, {arguments.seconds:.0f} s: {len(latencies)} requests, "
            f"{len(latencies) / arguments.seconds:.0f} a second, {len(failures)} errors {sorted(set(failures))}, "
            f"median {median:.1f} ms, 99th percentile {late:.1f} ms"
        )
        print(f"memory after it: {resident(process):.0f} MB")
        statuses = asyncio.run(wrong(arguments.port, 200))
        print(
            f"200 malformed requests: statuses { {status: statuses.count(status) for status in sorted(set(statuses))} }"
        )
        print(f"memory after them: {resident(process):.0f} MB")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process, seconds = start(folder, arguments.port)
        latencies, failures = asyncio.run(load(arguments.port, arguments.clients, 2))
        print(f"killed, and answering again after {seconds:.1f} s: {len(latencies)} requests, {len(failures)} errors")
    finally:
        process.kill()


if __name__ == "__main__":
    main()
