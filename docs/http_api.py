"""Renders http-api.md from the application's OpenAPI document; `generate.py` writes it."""

import json
from collections.abc import Iterator
from typing import Any

from api.app import create_app
from engine.config import Settings

INTRODUCTION = """
The server speaks JSON over HTTP. `/docs` on a running server shows the same reference and lets you try it; `/openapi.json` is the
machine-readable form. `semblance serve` listens on `http://127.0.0.1:8000`.

```bash
curl -X PUT localhost:8000/v1/collections/shop
curl localhost:8000/v1/collections/shop/documents -H 'Content-Type: application/json' \\
     -d '{"documents": [{"id": "SKU-1", "title": "Red running shoes", "attributes": {"price": 49.9, "currency": "EUR"}}]}'
curl localhost:8000/v1/collections/shop/search/text -H 'Content-Type: application/json' -d '{"query": "something to jog in"}'
curl localhost:8000/v1/collections/shop/search/image -F image=@photo.jpg -F k=5 -F where='price < 50'
```

## What holds everywhere

- **Errors** are `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type`, `title`, `status`,
  `detail`, `instance`, `request_id`. A wrong filter also has `column`, a refused picture `reason`, a wrong body `errors` with the
  places. A 5xx answer does not say what went wrong inside; the server's log does, under the `request_id`, which is the header
  `X-Request-ID` as well (yours, if you sent one). [Errors](errors.md) lists every kind with its status.
- **Busy**: beyond `SEMBLANCE_MAX_QUEUE` waiting searches the answer is 503 with `Retry-After`; beyond `SEMBLANCE_DEADLINE_S` it is
  504. A client that hangs up frees its place.
- **Sizes**: a body may have `SEMBLANCE_MAX_BODY_MB`, a picture `SEMBLANCE_MAX_IMAGE_MB` and `SEMBLANCE_MAX_MEGAPIXELS`. They are
  enforced while reading.
- **Pictures** inside JSON are base64 or `data:` URIs, or addresses (`image_url`) of hosts in `SEMBLANCE_IMAGE_URL_HOSTS`.
  Only public addresses are reached, checked after the name was looked up and at each redirect. Paths are refused.
- **Attributes** set to null are attributes a product does not have, in `POST` and in `PATCH`.
- **Ids** may contain anything, also slashes: percent-encode them (`encodeURIComponent`, `urllib.parse.quote(id, safe="")`). Only
  `.` and `..` cannot be ids: clients take them out of a path, and what is left is the address of the whole collection.
- **Filters** (`where`) are described in [filters](filters.md).
- **Keys** are asked for as soon as other machines can reach the server: when it binds to another address than loopback, or
  `SEMBLANCE_ALLOWED_HOSTS` names it to the outside (`SEMBLANCE_API_KEYS=on` and `off` decide otherwise). A request sends its key as
  `Authorization: Bearer smb_...` or `X-API-Key`. Without a good key the answer is 401, of the type `key-required` or `key-unknown`;
  403 `key-not-allowed` when its scope (`read`, `write`, `admin`) or collections do not reach so far. `semblance keys create NAME`
  makes one; the page, `/docs` and the probes are open. Pictures in answers then carry a pass in their address, good for a day or
  two, so that a browser can show them.
- **Rates**: `SEMBLANCE_RATE_LIMIT` requests a second of one key, then 429 with `Retry-After`; counted in Redis where there is one.
- **Origins**: pages of other sites may call the API from a browser only if `SEMBLANCE_CORS_ORIGINS` names them.
- **Repeating a write** is safe with `Idempotency-Key`: for a day, the same request under the same key gets the first one's answer
  (with `Idempotency-Replayed: true`) and changes nothing; another request under it is 422, and 409 while the first is under way.
  Only successes are kept: what was refused may be corrected and sent again.
- **Host names**: bound to loopback, the server answers to loopback names alone (`SEMBLANCE_ALLOWED_HOSTS` names others).
- **Every write** is listed in `<data>/_audit/<day>.jsonl`: time, request id, key, address, method, path, status.
- **OpenAI clients** work with `/v1/embeddings`: `OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")`; `usage` counts
  words.
""".strip()


def http_api_page(written: str) -> str:
    """Render the page; `written` is the remark that says who wrote it."""
    document = create_app(Settings()).openapi()
    return "\n\n".join(["# HTTP API", written, INTRODUCTION, *_sections(document)]) + "\n"


def _sections(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"## {tag['name'].capitalize()}\n\n{tag['description']}"
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(document, method, path, operation)


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n\n{operation['description']}"
    parameters = [item for item in operation.get("parameters", []) if item["in"] == "query"]
    if parameters:
        rows = [(item["name"], item["required"], item["schema"], item["description"]) for item in parameters]
        yield _table("query parameter", rows)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolve(document, content["schema"])
        if "properties" not in schema:  # a file as it is
            yield f"Body, `{kind}`: the file."
            continue
        fields = [
            (name, name in schema.get("required", []), field, field.get("description", ""))
            for name, field in schema["properties"].items()
        ]
        fields.sort(key=lambda field: not field[1])
        yield f"Body, `{kind}`:"
        yield _table("field", fields)
        if kind == "application/json":
            yield _example(schema)
    yield from _answers(document, operation["responses"])


def _answers(document: dict[str, Any], responses: dict[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        schema = _resolve(document, response.get("content", {}).get("application/json", {}).get("schema", {}))
        if status == "200" and "examples" in schema:
            yield "Answer:"
            yield _example(schema)
    others = ", ".join(sorted(status for status in responses if status != "200"))
    if others:
        yield f"Other statuses: {others}."


def _table(heading: str, rows: list[tuple[str, bool, dict[str, Any], str]]) -> str:
    lines = [f"| `{name}`{' (required)' if required else ''} | {_type(schema)} | {text} |" for name, required, schema, text in rows]
    return f"| {heading} | type | meaning |\n| --- | --- | --- |\n" + "\n".join(lines)


def _type(schema: dict[str, Any]) -> str:
    words = " or ".join(dict.fromkeys(_kinds(schema)))
    bounds = [f"{word} {schema[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = [f"default {json.dumps(schema['default'])}"] if schema.get("default") not in (None, [], {}, "") else []
    return ", ".join([words, *bounds, *default])


def _kinds(schema: dict[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield " or ".join(f"`{value}`" for value in schema["enum"])
    elif options := schema.get("anyOf") or schema.get("oneOf"):
        for option in options:
            yield from _kinds(option)
    elif "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    elif schema.get("type") == "array":
        yield f"list of {' or '.join(dict.fromkeys(_kinds(schema['items'])))}"
    elif schema.get("type") != "null":
        yield "file" if schema.get("format") == "binary" else schema.get("type", "any")


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _example(schema: dict[str, Any]) -> str:
    example = schema["examples"][0]
    ordered = {name: example[name] for name in schema["properties"] if name in example}
    return f"```json\n{json.dumps(ordered, indent=2, ensure_ascii=False)}\n```"
