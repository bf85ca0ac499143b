"""The server: the model's numbers over HTTP, batches, limits, and an answer of 4xx to everything that is wrong."""

import asyncio
import contextlib
import json
import pathlib
import time

import httpx
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows import serving
from tfp_flows.serving import values


@pytest.fixture(scope="module")
def models():
    return {
        "plain": tff.FlowModel(tff.flows.realnvp(2, num_layers=2, seed=0)),
        "conditional": tff.FlowModel(tff.flows.realnvp(2, num_layers=2, context_size=3, seed=0)),
    }


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp("served") / name for name in models}
    for name, model in models.items():
        model.export(folders[name])
    return folders


@pytest.fixture(scope="module")
def apps(folders):
    return {name: serving.app(folder) for name, folder in folders.items()}


@contextlib.asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://server") as client,
    ):
        yield client


def ask(app, path, body=None, **arguments):
    """The response to a GET, or to a POST of a body: an object, or bytes as they are."""

    async def run():
        async with client_of(app) as client:
            if body is None:
                return await client.get(path, **arguments)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content, **arguments)

    return asyncio.run(run())


def answer(*arguments):
    """What a request that must succeed gets."""
    response = ask(*arguments)
    assert response.status_code == 200, response.text
    return response.json()


X = np.random.default_rng(0).normal(size=[5, 2]).astype("float32")
C = np.random.default_rng(1).normal(size=[5, 3]).astype("float32")


# The model's numbers


def test_answers_are_the_models(apps, models):
    model = models["plain"]
    x = {"x": X.tolist()}
    np.testing.assert_allclose(answer(apps["plain"], "/log_prob", x)["log_prob"], model.log_prob(X), rtol=1e-5)
    np.testing.assert_allclose(answer(apps["plain"], "/inverse", x)["inverse"], model.inverse(X), rtol=1e-5)
    z = {"z": X.tolist()}
    np.testing.assert_allclose(answer(apps["plain"], "/forward", z)["forward"], model.forward(X), rtol=1e-5)
    drawn = answer(apps["plain"], "/sample_and_log_prob", {"n": 5, "seed": 7})  # no power of two
    np.testing.assert_allclose(drawn["sample"], model.sample(5, seed=7), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(drawn["log_prob"], model.log_prob(drawn["sample"]), rtol=1e-4, atol=1e-4)


def test_answers_for_contexts_are_the_models(apps, models):
    app, model = apps["conditional"], models["conditional"]
    found = answer(app, "/log_prob", {"x": X.tolist(), "context": C.tolist()})["log_prob"]
    np.testing.assert_allclose(found, model.log_prob(X, C), rtol=1e-5)
    drawn = answer(app, "/sample", {"n": 4, "seed": 7, "context": C.tolist()})["sample"]
    np.testing.assert_allclose(drawn, model.sample(4, C, seed=7), rtol=1e-4, atol=1e-5)


def test_draws_without_a_seed_differ(apps):
    one, two = (answer(apps["plain"], "/sample", {"n": 3})["sample"] for _ in range(2))
    assert np.shape(one) == (3, 2) and one != two
    assert np.shape(answer(apps["plain"], "/sample", {})["sample"]) == (1, 2)


def test_what_is_infinite_is_a_string(apps):
    response = ask(apps["plain"], "/log_prob", {"x": [[3e38, 3e38], [0.0, 0.0]]})
    far, near = json.loads(response.content, parse_constant=pytest.fail)["log_prob"]
    assert far in ("-Infinity", None) and np.isfinite(near)
    encoded = values.encode({"a": np.float32([np.inf, -np.inf, np.nan, 1.5]), "b": np.array([b"x"], object)})
    assert json.loads(encoded) == {"a": ["Infinity", "-Infinity", None, 1.5], "b": ["x"]}


def test_a_table_is_served_by_column(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size (cm)": np.where(random.random(300) < 0.2, np.nan, random.lognormal(size=300)),
            "kind": random.choice(["a", "b", None], 300),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 99, 300), "D"),
        }
    )
    model = tff.TableModel.from_data(frame, num_layers=1, missing="model", seed=0)
    model.export(tmp_path / "table")
    app = serving.app(tmp_path / "table")
    inputs = answer(app, "/metadata")["signatures"]["log_prob"]["inputs"]
    assert inputs["size__cm_"] == {"dtype": "float64", "shape": [None]}
    ticks = frame["day"].astype("int64").tolist()
    sizes = [None if np.isnan(size) else size for size in frame["size (cm)"]]
    columns = {
        "size__cm_": sizes,
        "kind": [kind if isinstance(kind, str) else None for kind in frame["kind"]],
        "day": ticks,
    }
    found = answer(app, "/log_prob", columns)["log_prob"]
    assert len(found) == 300 and np.isfinite(found).all()
    # Of days the density is one draw, which depends on the place in a batch.
    np.testing.assert_allclose(np.mean(found), model.log_prob(frame).mean(), atol=0.05)
    drawn = answer(app, "/sample", {"n": 50, "seed": 1})
    assert None in drawn["size__cm_"] and set(drawn["kind"]) == {"a", "b", "<missing>"}
    again = {name: [value if value != "<missing>" else None for value in column] for name, column in drawn.items()}
    assert np.isfinite(answer(app, "/log_prob", again)["log_prob"]).all()
    strange = {name: [column[0]] for name, column in columns.items()} | {"kind": ["c"]}
    assert answer(app, "/log_prob", strange)["log_prob"] == ["-Infinity"]
    rows = [{name: column[k] for name, column in columns.items()} for k in range(5)]
    body = {"signature_name": "log_prob", "instances": rows}
    assert len(answer(app, "/v1/models/table:predict", body)["predictions"]) == 5


# TensorFlow Serving's interface


def test_tensorflow_servings_shapes(apps, models):
    expected = models["plain"].log_prob(X)
    path = "/v1/models/plain:predict"
    for rows in (X.tolist(), [{"x": row} for row in X.tolist()]):
        found = answer(apps["plain"], path, {"signature_name": "log_prob", "instances": rows})
        assert list(found) == ["predictions"]
        np.testing.assert_allclose(found["predictions"], expected, rtol=1e-5)
    for columns in (X.tolist(), {"x": X.tolist()}):
        found = answer(apps["plain"], path, {"signature_name": "log_prob", "inputs": columns})
        assert list(found) == ["outputs"]  # one output stands for itself, several have names
        np.testing.assert_allclose(found["outputs"], expected, rtol=1e-5)
    drawn = {"signature_name": "sample_and_log_prob", "inputs": {"n": 3, "seed": 1}}
    assert set(answer(apps["plain"], path, drawn)["outputs"]) == {"sample", "log_prob"}
    versioned = "/v1/models/plain/versions/1"
    assert ask(apps["plain"], versioned).json() == ask(apps["plain"], "/v1/models/plain").json()
    state = ask(apps["plain"], "/v1/models/plain").json()["model_version_status"][0]
    assert state["state"] == "AVAILABLE" and state["status"]["error_code"] == "OK"


def test_rows_of_several_inputs_and_outputs(apps, models, tmp_path):
    app, model = apps["conditional"], models["conditional"]
    rows = [{"x": x, "context": c} for x, c in zip(X.tolist(), C.tolist(), strict=True)]
    found = answer(app, "/v1/models/conditional:predict", {"signature_name": "log_prob", "instances": rows})
    np.testing.assert_allclose(found["predictions"], model.log_prob(X, C), rtol=1e-5)

    module = tf.Module()
    specs = [tf.TensorSpec([None], tf.string, "word"), tf.TensorSpec([None], tf.int64, "count")]
    function = tf.function(lambda word, count: {"same": word, "next": count + 1}, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path), signatures={"step": function})
    words = serving.app(tmp_path, name="words")
    assert answer(words, "/step", {"word": ["é", ""], "count": [1, 2.0]}) == {"same": ["é", ""], "next": [2, 3]}
    rows = {"signature_name": "step", "instances": [{"word": "é", "count": 1}]}
    assert answer(words, "/v1/models/words:predict", rows) == {"predictions": [{"same": "é", "next": 2}]}
    for wrong in ({"word": [1], "count": [1]}, {"word": ["a", 1], "count": [1, 1]}, {"word": ["a"], "count": [1.5]}):
        assert ask(words, "/step", wrong).status_code == 400


# Batches


def test_concurrent_requests_share_batches_and_get_their_own_rows(apps, models):
    x = np.random.default_rng(2).normal(size=[60, 3, 2]).astype("float32")

    async def run():
        async with client_of(apps["plain"]) as client:
            tasks = [client.post("/log_prob", json={"x": part.tolist()}) for part in x]
            draws = [client.post("/sample", json={"n": k + 1}) for k in range(20)]
            seeded = [client.post("/sample", json={"n": 2, "seed": k}) for k in range(3)]
            responses = await asyncio.gather(*tasks, *draws, *seeded)
            return [response.json() for response in responses], apps["plain"].state.batcher.batches

    found, batches = asyncio.run(run())
    for part, one in zip(x, found, strict=False):
        np.testing.assert_allclose(one["log_prob"], models["plain"].log_prob(part), rtol=1e-4, atol=1e-5)
    draws = [one["sample"] for one in found[60:80]]
    assert [len(rows) for rows in draws] == list(range(1, 21))
    assert len({tuple(row) for rows in draws for row in rows}) == 210  # no two requests got one draw
    for k, one in enumerate(found[80:]):
        np.testing.assert_allclose(one["sample"], models["plain"].sample(2, seed=k), rtol=1e-4, atol=1e-5)
    assert batches < 20  # for 83 requests


def test_a_request_waits_for_others(folders):
    app = serving.app(folders["plain"], limits=serving.Limits(batch_rows=2, batch_wait=300.0))

    async def run():
        async def later(client):
            await asyncio.sleep(0.05)
            return await client.post("/sample", json={})

        async with client_of(app) as client:
            responses = await asyncio.gather(client.post("/sample", json={}), later(client))
            assert all(response.status_code == 200 for response in responses)
            return app.state.batcher.batches

    start = time.monotonic()
    assert asyncio.run(run()) == 1
    assert time.monotonic() - start < 0.3  # no longer than until the batch is full


def test_contexts_of_several_requests_share_a_batch(apps):
    async def run():
        async with client_of(apps["conditional"]) as client:
            bodies = [{"n": 2, "context": C[: k + 1].tolist()} for k in range(5)] + [{"n": 3, "context": C.tolist()}]
            responses = await asyncio.gather(*(client.post("/sample", json=body) for body in bodies))
            return [np.shape(response.json()["sample"]) for response in responses]

    assert asyncio.run(run()) == [(2, 1, 2), (2, 2, 2), (2, 3, 2), (2, 4, 2), (2, 5, 2), (3, 5, 2)]


def test_calls_have_few_sizes(apps, monkeypatch):
    sizes = set()

    async def run():
        async with client_of(apps["plain"]) as client:
            for rows in range(1, 40):
                await client.post("/log_prob", json={"x": X[:1].tolist() * rows})

    signature = signature_of(apps["plain"], "log_prob")
    function = signature.function
    monkeypatch.setattr(signature, "function", lambda x: sizes.add(len(x)) or function(x=x))
    asyncio.run(run())
    assert sizes == {1, 2, 4, 8, 16, 32, 64}


def signature_of(app, name):
    """The `Signature` behind an address."""
    server = next(route.endpoint for route in app.routes if route.path == "/docs").__self__
    return server.model.signatures[name]


def test_rows_that_the_model_refuses_spoil_no_others(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def positive(x):
        tf.debugging.Assert(tf.reduce_all(x > 0), ["Expected `x` above 0."])
        return {"log": tf.math.log(x)}

    tf.saved_model.save(module, str(tmp_path), signatures={"log": positive})
    app = serving.app(tmp_path)

    async def run():
        async with client_of(app) as client:
            return await asyncio.gather(*(client.post("/log", json={"x": [x]}) for x in (1.0, -1.0, 2.0)))

    one, refused, two = asyncio.run(run())
    assert one.json() == {"log": [0.0]} and two.status_code == 200
    assert refused.status_code == 400 and refused.json() == {"error": "Expected `x` above 0."}


# What is refused


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b"\x00" * 100,
    b'{"x": [[1.0, 2.0]]',
    b'{"x": [[1.0, 2.0]],}',
    b"{'x': [[1.0, 2.0]]}",
    b'{"x": [[NaN, 0.0]]}',
    b'{"x": [[Infinity, 0.0]]}',
    b'{"x": [[-Infinity, 0.0]]}',
    b'{"x": [[1e999, 0.0]]}',
    b'{"x": [[1e39, 0.0]]}',
    b'{"x": [[' + b"9" * 5000 + b", 0.0]]}",
    b'{"x": [[100000000000000000000, 0.0]]}',
    b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"x": ' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"x": []}',
    b'{"x": [[]]}',
    b'{"x": [1.0, 2.0]}',
    b'{"x": 1.0}',
    b'{"x": null}',
    b'{"x": {"a": 1}}',
    b'{"x": "abc"}',
    b'{"x": [[1.0]]}',
    b'{"x": [[1.0, 2.0, 3.0]]}',
    b'{"x": [[1.0, 2.0], [1.0]]}',
    b'{"x": [["a", "b"]]}',
    b'{"x": [["1.0", "2.0"]]}',
    b'{"x": [[null, 1.0]]}',
    b'{"x": [[true, false]]}',
    b'{"x": [[{}, 1.0]]}',
    b'{"x": [[[1.0], [2.0]]]}',
    b'{"x": [[1.0, 2.0]], "y": 1}',
    b'{"x": [[1.0, 2.0]], "n": 1}',
    b'{"z": [[1.0, 2.0]]}',
    b'{"X": [[1.0, 2.0]]}',
    b"{}",
    b'{"instances": [[1.0, 2.0]]}',
    b'{"__class__": "os.system", "x": [["ls", "/"]]}',
]
WRONG_DRAWS = [
    {"n": 0},
    {"n": -1},
    {"n": 1.5},
    {"n": "3"},
    {"n": True},
    {"n": None},
    {"n": [3]},
    {"n": 10**30},
    {"n": 1e300},
    {"seed": 2**40},
    {"seed": "a"},
    {"seed": 0.5},
    {"n": 1, "context": [[1.0]]},
]
WRONG_PREDICTIONS = [
    {},
    {"signature_name": "log_prob"},
    {"instances": [[1.0, 2.0]]},
    {"signature_name": "serving_default", "instances": [[1.0, 2.0]]},
    {"signature_name": 3, "instances": [[1.0, 2.0]]},
    {"signature_name": ["log_prob"], "instances": [[1.0, 2.0]]},
    {"signature_name": "log_prob", "instances": []},
    {"signature_name": "log_prob", "instances": {}},
    {"signature_name": "log_prob", "instances": [{}]},
    {"signature_name": "log_prob", "instances": [{"x": [1.0, 2.0]}, [1.0, 2.0]]},
    {"signature_name": "log_prob", "instances": [{"x": [1.0, 2.0], "y": 1}]},
    {"signature_name": "log_prob", "instances": [[1.0, 2.0]], "inputs": {"x": [[1.0, 2.0]]}},
    {"signature_name": "log_prob", "inputs": {}},
    {"signature_name": "log_prob", "inputs": None},
    {"signature_name": "sample", "instances": [{"n": 1, "seed": 1}]},
    {"signature_name": "sample", "inputs": 3},
]


def wrong_requests():
    yield from (("/log_prob", body) for body in MALFORMED)
    yield from (("/sample", json.dumps(body).encode()) for body in WRONG_DRAWS)
    yield from (("/v1/models/plain:predict", json.dumps(body).encode()) for body in WRONG_PREDICTIONS)


def test_each_malformed_request_gets_a_sentence(apps, folders):
    async def run():
        async with client_of(apps["plain"]) as client:
            return [(body, await client.post(path, content=body)) for path, body in wrong_requests()]

    for body, response in asyncio.run(run()):
        assert response.status_code == 400, (body[:80], response.text)
        assert list(response.json()) == ["error"]
        message = response.json()["error"]
        assert 10 < len(message) < 400 and message.isprintable(), body[:80]
        for secret in ("Traceback", ".py", "File ", "tensorflow", str(folders["plain"].parent)):
            assert secret not in message, message


@pytest.mark.parametrize(
    "path, body, status",
    [
        ("/", None, 404),
        ("/log_prob", None, 405),
        ("/health", {}, 405),
        ("/nothing", {}, 404),
        ("/v1/models/other", None, 404),
        ("/v1/models/other:predict", {}, 404),
        ("/v1/models/plain/versions/2:predict", {}, 404),
        ("/../../etc/passwd", None, 404),
        ("/sample", {"n": 10_001}, 413),
        ("/log_prob", {"x": X[:1].tolist() * 10_001}, 413),
    ],
)
def test_other_statuses(apps, path, body, status):
    response = ask(apps["plain"], path, body)
    assert response.status_code == status and list(response.json()) == ["error"]


def test_limits_of_bytes_and_rows(folders):
    app = serving.app(folders["plain"], limits=serving.Limits(rows=10, bytes=200))
    assert ask(app, "/log_prob", {"x": [[0.0, 0.0]]}).status_code == 200
    assert ask(app, "/log_prob", b'{"x": [[0.0, 0.0]]}' + b" " * 200).status_code == 413
    assert ask(app, "/sample", {"n": 4}).status_code == 200
    assert ask(app, "/sample", {"n": 5}).status_code == 413  # 10 numbers in more than 200 bytes
    assert ask(app, "/log_prob", b"", headers={"Content-Encoding": "gzip"}).status_code == 415


def test_limits_of_time(folders, monkeypatch):
    app = serving.app(folders["plain"], limits=serving.Limits(seconds=0.2))

    async def slow():
        yield b'{"n": '
        await asyncio.sleep(1)
        yield b"1}"

    async def run():
        async with client_of(app) as client:
            late = await client.post("/sample", content=slow())
            signature = signature_of(app, "sample")
            function = signature.function
            monkeypatch.setattr(signature, "function", lambda **inputs: time.sleep(0.5) or function(**inputs))
            unanswered = await client.post("/sample", json={"n": 1})
            await asyncio.sleep(0.5)
            monkeypatch.setattr(signature, "function", function)
            return late, unanswered, await client.post("/sample", json={"n": 1})

    late, unanswered, after = asyncio.run(run())
    assert (late.status_code, unanswered.status_code, after.status_code) == (408, 504, 200)


def test_too_many_waiting_requests_are_sent_away(folders):
    app = serving.app(folders["plain"], limits=serving.Limits(rows=10))  # so that 100 may wait

    async def run():
        async with client_of(app) as client:
            return await asyncio.gather(*(client.post("/sample", json={"n": 9, "seed": 1}) for _ in range(40)))

    responses = asyncio.run(run())
    assert {response.status_code for response in responses} == {200, 503}
    assert all(response.headers["retry-after"] for response in responses if response.status_code == 503)


def test_a_fault_of_ours_shows_no_trace(apps, monkeypatch):
    def fault(**inputs):
        raise RuntimeError(f"a secret of {__file__}")

    monkeypatch.setattr(signature_of(apps["plain"], "sample"), "function", fault)
    response = ask(apps["plain"], "/sample", {"n": 1})
    assert response.status_code == 500 and "secret" not in response.text
    assert ask(apps["plain"], "/log_prob", {"x": [[0.0, 0.0]]}).status_code == 200  # others are served on


# What describes the model


def test_descriptions(apps):
    assert ask(apps["plain"], "/health").json() == {"status": "ok"}
    metadata = ask(apps["conditional"], "/metadata").json()
    assert metadata["signatures"]["log_prob"]["inputs"]["context"] == {"dtype": "float32", "shape": [None, 3]}
    description = ask(apps["conditional"], "/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    for path, methods in description["paths"].items():
        if "post" in methods:  # each example is a request that works
            content = methods["post"]["requestBody"]["content"]["application/json"]
            assert set(content["example"]) <= set(content["schema"]["properties"])
            answer(apps["conditional"], path, content["example"])
        else:
            assert ask(apps["conditional"], path).status_code == 200
    page = ask(apps["conditional"], "/docs").text
    assert "<script" not in page and "http://" not in page and "https://" not in page
    for path in description["paths"]:
        assert path in page


@pytest.mark.parametrize("content", [None, b"no model"])
def test_a_folder_that_is_no_model_is_refused(tmp_path, content):
    if content:
        pathlib.Path(tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ValueError, match="Received"):
        serving.app(tmp_path)


def test_a_model_without_signatures_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="signatures"):
        serving.app(tmp_path)
