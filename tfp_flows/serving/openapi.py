"""The description of a served model: OpenAPI as JSON, and a page for people."""

import html
import json

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 0; }}
pre {{ padding: .7rem; overflow-x: auto; border: 1px solid #8886; border-radius: .4rem; font-size: .85rem; }}
</style></head><body>
<h1>{title}</h1>
<p>{text} As <a href="openapi.json">OpenAPI</a>.</p>
{operations}
</body></html>
"""


def describe(model):
    """The OpenAPI 3.1 description of a `ServedModel`."""
    paths = {}
    for name, signature in model.signatures.items():
        example = {key: _example(spec, key) for key, spec in signature.inputs.items()}
        paths[f"/{name}"] = {
            "post": _post(f"The signature `{name}` of the model.", _inputs(signature), example, signature)
        }
    for path, words in (
        ("/health", "Whether the server answers."),
        ("/metadata", "Names, dtypes and shapes of all inputs and outputs; the limits."),
        (f"/v1/models/{model.name}", "The state of the model, as TensorFlow Serving tells it."),
    ):
        paths[path] = {"get": {"summary": words, "responses": {"200": _response("An object.", {"type": "object"})}}}
    name, signature = next(iter(model.signatures.items()))
    columns = {key: _example(spec, key) for key, spec in signature.inputs.items()}
    properties = {
        "signature_name": {"type": "string", "enum": list(model.signatures)},
        "instances": {"type": "array", "description": "rows of all inputs"},
        "inputs": {"description": "columns by name"},
    }
    schema = {"type": "object", "properties": properties, "required": ["signature_name"]}
    words = "Any signature, as TensorFlow Serving's clients call it."
    paths[f"/v1/models/{model.name}:predict"] = {
        "post": _post(words, schema, {"signature_name": name, "inputs": columns})
    }
    text = "Numbers are finite; infinite ones in answers are the strings Infinity and -Infinity, NaN is null."
    info = {"title": f"The density {model.name}", "version": "1", "description": text}
    return {"openapi": "3.1.0", "info": info, "paths": paths}


def page(description):
    """The description as an HTML page that needs nothing else."""
    operations = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            lines = [f"curl localhost:8000{path}"]
            if method == "post":
                example = operation["requestBody"]["content"]["application/json"]["example"]
                lines = [f"{lines[0]} -d '{json.dumps(example)}'"]
            operations.append(
                f"<h2>{method.upper()} {html.escape(path)}</h2><p>{html.escape(operation['summary'])}</p>"
                f"<pre>{html.escape(lines[0])}</pre>"
            )
    info = description["info"]
    return PAGE.format(
        title=html.escape(info["title"]), text=html.escape(info["description"]), operations="\n".join(operations)
    )


def _post(words, schema, example, signature=None):
    outputs = {"type": "object"}
    if signature is not None:
        outputs["properties"] = {name: _array(spec) for name, spec in signature.outputs.items()}
    error = _response("An error.", {"type": "object", "properties": {"error": {"type": "string"}}})
    return {
        "summary": words,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {"200": _response("The outputs.", outputs), "4XX": error, "5XX": error},
    }


def _response(words, schema):
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _inputs(signature):
    """The schema of a signature's inputs."""
    properties = {name: _array(spec) for name, spec in signature.inputs.items()}
    required = [name for name in signature.inputs if name not in ("n", "seed")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _array(spec):
    """The schema of nested lists of a shape."""
    schema = (
        {"type": "string"}
        if spec.dtype.name == "string"
        else {"type": "integer" if spec.dtype.is_integer else "number"}
    )
    for size in reversed(spec.shape.as_list()):
        schema = {"type": "array", "items": schema, **({} if size is None else {"minItems": size, "maxItems": size})}
    return schema


def _example(spec, name):
    """A value of a shape: one row of zeros."""
    if not spec.shape.rank:
        return {"n": 3, "seed": 1}.get(name, 0)
    value = "" if spec.dtype.name == "string" else 0 if spec.dtype.is_integer else 0.0
    for size in reversed(spec.shape.as_list()):
        value = [value] * (1 if size is None else size)
    return value
