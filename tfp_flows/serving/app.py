"""The addresses: our own, and those of TensorFlow Serving's REST interface."""

import asyncio
import contextlib
import dataclasses
import logging
import os

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tfp_flows.serving import openapi, values
from tfp_flows.serving.batching import Batcher
from tfp_flows.serving.signatures import ServedModel
from tfp_flows.serving.values import Refused


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how requests are gathered.

    Attributes:
      rows: in an answer.
      bytes: in a request, and about as many in an answer.
      seconds: until an answer is there, and until a request has arrived.
      batch_rows: computed at once.
      batch_wait: milliseconds that a request waits for others.
    """

    rows: int = 10_000
    bytes: int = 8 * 2**20
    seconds: float = 30.0
    batch_rows: int = 1024
    batch_wait: float = 2.0


def app(path: str | os.PathLike, name: str | None = None, limits: Limits | None = None) -> Starlette:
    """The ASGI application that serves a SavedModel.

    `POST /log_prob` and every other signature of the model under its own name, each with a JSON object of its inputs;
    `GET /health`, `/metadata`, `/openapi.json` and `/docs`; and of TensorFlow Serving's REST interface
    `GET /v1/models/<name>` and `POST /v1/models/<name>:predict`, rows as "instances" or columns as "inputs".

    Errors are `{"error": "..."}`: status 400 for what is wrong with a request, 404, 405, 408 where it arrives too
    slowly, 413 where it asks for too much, 415, 503 where too many wait, 504 where the answer takes too long.

    Arguments:
      path: the folder that `FlowModel.export` wrote.
      name: of the model, in addresses; None for the folder's.
      limits: a `Limits`; None for its defaults.

    Returns: a `starlette.applications.Starlette`, for uvicorn or any other ASGI server.

    Raises: ValueError for a folder that is no SavedModel, or has no signatures.

    Example:

    >>> import tempfile, tfp_flows as tff
    >>> from tfp_flows import serving
    >>> folder = tempfile.mkdtemp()
    >>> tff.FlowModel(tff.flows.realnvp(2, num_layers=2)).export(folder)
    >>> application = serving.app(folder, name="moons")
    >>> [route.path for route in application.routes][:2]
    ['/log_prob', '/sample']
    """
    return _Server(ServedModel(path, name), limits or Limits()).application()


def run(application: Starlette, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves an application by uvicorn until it is interrupted."""
    import uvicorn

    # Beyond this many connections uvicorn itself answers with status 503.
    uvicorn.run(application, host=host, port=port, limit_concurrency=1000, log_level="warning")


class _Server:
    """The handlers of one model's requests."""

    def __init__(self, model, limits):
        self.model, self.limits = model, limits
        self.description = openapi.describe(model)

    def application(self):
        first = [name for name in ("log_prob", "sample") if name in self.model.signatures]
        others = [name for name in self.model.signatures if name not in first]
        return Starlette(
            routes=[
                *(Route(f"/{name}", self._signature(name), methods=["POST"]) for name in (*first, *others)),
                Route("/health", self._constant({"status": "ok"})),
                Route("/metadata", self._constant(self._metadata())),
                Route("/openapi.json", self._constant(self.description)),
                Route("/docs", self._docs),
                Route("/v1/models/{name}", self._status),
                Route("/v1/models/{name}:predict", self._predict, methods=["POST"]),
                Route("/v1/models/{name}/versions/1", self._status),
                Route("/v1/models/{name}/versions/1:predict", self._predict, methods=["POST"]),
            ],
            exception_handlers={Refused: _refused, HTTPException: _not_found, Exception: _failed},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, application):
        limits = self.limits
        self.batcher = Batcher(limits.batch_rows, limits.batch_wait / 1000, waiting=10 * limits.rows)
        application.state.batcher = self.batcher
        work = asyncio.create_task(self.batcher.work())
        yield
        work.cancel()

    # Our own addresses

    def _signature(self, name):
        async def handle(request):
            return _json(await self._outputs(name, await self._body(request)))

        return handle

    def _constant(self, value):
        content = values.encode(value)

        async def handle(request):
            return Response(content, media_type="application/json")

        return handle

    async def _docs(self, request):
        return HTMLResponse(openapi.page(self.description))

    def _metadata(self):
        def described(specs):
            return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}

        signatures = {
            name: {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}
            for name, signature in self.model.signatures.items()
        }
        return {"name": self.model.name, "signatures": signatures, "limits": dataclasses.asdict(self.limits)}

    # TensorFlow Serving's addresses

    async def _status(self, request):
        self._check_name(request)
        status = {"error_code": "OK", "error_message": ""}
        return _json({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]})

    async def _predict(self, request):
        self._check_name(request)
        body = await self._body(request)
        name = body.pop("signature_name", "serving_default")
        signature = self.model.signature(name)
        if len(body) != 1 or next(iter(body)) not in ("instances", "inputs"):
            received = ", ".join(f"`{key[:40]}`" for key in sorted(body)[:20]) or "neither"
            raise Refused(400, f"Expected `instances` or `inputs`, beside `signature_name`. Received: {received}")
        if "inputs" in body:
            outputs = await self._outputs(name, _columns(body["inputs"], signature))
            return _json({"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))})
        if set(signature.inputs) != set(signature.row_inputs):
            raise Refused(400, 'Expected `inputs`, since "n" and "seed" have no rows. Received: `instances`')
        outputs = await self._outputs(name, _columns_of_rows(body["instances"], signature))
        if len(outputs) == 1:
            return _json({"predictions": next(iter(outputs.values()))})
        rows = zip(*outputs.values(), strict=True)
        return _json({"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]})

    def _check_name(self, request):
        if request.path_params["name"] != self.model.name:
            raise Refused(404, "No model of this name is served here.")

    # What all share

    async def _body(self, request):
        """The JSON object in a request, within the limits of bytes and seconds."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "Expected a body that is not compressed.")

        async def read():
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > self.limits.bytes:
                    raise Refused(413, f"Expected at most {self.limits.bytes} bytes.")
            return bytes(body)

        return values.decode(await self._in_time(read(), 408, "The request did not arrive in time."))

    async def _outputs(self, name, arguments):
        """The outputs of a signature, by name."""
        signature = self.model.signature(name)
        request = signature.request(arguments)
        # A number takes up to about 25 bytes of JSON.
        most = min(self.limits.rows, max(1, self.limits.bytes // (25 * max(1, signature.numbers_per_row))))
        if request.size > most:
            raise Refused(413, f"Expected at most {most} rows in an answer. Received: a request for {request.size}")
        return await self._in_time(self.batcher.answer(request), 504, "The model did not answer in time.")

    async def _in_time(self, awaitable, status, message):
        try:
            return await asyncio.wait_for(awaitable, self.limits.seconds)
        except asyncio.TimeoutError:
            raise Refused(status, message) from None


def _columns(value, signature):
    """TensorFlow Serving's `inputs`: an object of them, or the only one itself."""
    return value if isinstance(value, dict) else {_only(signature): value}


def _columns_of_rows(instances, signature):
    """TensorFlow Serving's `instances`, rows of all inputs, as columns."""
    if not isinstance(instances, list) or not instances:
        raise Refused(400, "Expected `instances` as a list of at least one row.")
    if not any(isinstance(row, dict) for row in instances):
        return {_only(signature): instances}
    names = set(signature.inputs)
    for number, row in enumerate(instances):
        if not isinstance(row, dict) or set(row) != names:
            expected = ", ".join(f"`{name}`" for name in sorted(names))
            raise Refused(400, f"Expected every instance with the inputs {expected}. Received: others in row {number}")
    return {name: [row[name] for row in instances] for name in names}


def _only(signature):
    if len(signature.inputs) > 1:
        expected = ", ".join(f"`{name}`" for name in signature.inputs)
        raise Refused(400, f"Expected inputs by name, since there are several: {expected}.")
    return next(iter(signature.inputs))


def _json(value, status=200, headers=None):
    return Response(values.encode(value), status, headers, media_type="application/json")


async def _refused(request, error):
    return _json({"error": error.message}, error.status, {"Retry-After": "1"} if error.status == 503 else None)


async def _not_found(request, error):
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _failed(request, error):
    logging.getLogger("tfp_flows.serving").error("A request failed.", exc_info=error)
    return _json({"error": "The server failed to answer; its log has the reason."}, 500)
