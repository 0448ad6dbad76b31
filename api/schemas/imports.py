"""Imports as clients ask for them, and the rows they refused."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.schemas.fields import example


class ImportRequest(BaseModel):
    """A catalogue on the server, below the folder that `SEMBLANCE_IMPORT_ROOT` names."""

    model_config = example({"path": "feeds/products.csv", "prune": True, "mapping": {"title": "productDisplayName"}})
    path: Annotated[str, Field(min_length=1, max_length=1_000, description="The catalogue, relative to the import folder.")]
    prune: Annotated[bool, Field(description="Remove products that the catalogue no longer lists.")] = False
    encoding: Annotated[str | None, Field(max_length=40, description="Text encoding of a CSV that is not UTF-8.")] = None
    mapping: Annotated[dict[str, str], Field(max_length=20, description="Parts of a product by the columns that hold them.")] = {}


class ImportErrorOut(BaseModel):
    """A row that did not go in, or not whole; `row` as a shopkeeper counts, `code` as in docs/errors.md."""

    row: int
    id: str | None
    reason: str
    code: str


class ImportErrors(BaseModel):
    """Rows that an import refused or remarked on; `next` is the offset of the next page, null at the end."""

    model_config = example(
        {
            "errors": [{"row": 17, "id": "SKU-16", "reason": "the picture 'a.jpg' is empty (0 bytes)", "code": "image_empty"}],
            "next": None,
        }
    )
    errors: list[ImportErrorOut]
    next: int | None


def upload_body() -> dict[str, Any]:
    """Document the forms of an import, which its route reads by hand."""
    file = {"type": "string", "format": "binary", "description": "The catalogue: CSV, JSON lines, JSON, an XML feed or Parquet."}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"], "examples": [{"file": "(the file)"}]}
    raw = {"schema": {"type": "string", "format": "binary"}, "example": "id,title\nSKU-1,Red running shoes\n"}
    path = ImportRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    content = {
        "multipart/form-data": {"schema": form},
        "text/csv": raw,
        "application/jsonl": raw | {"example": '{"id": "SKU-1", "title": "Red running shoes"}\n'},
        "application/vnd.apache.parquet": raw | {"example": "(the file)"},
        "application/json": {"schema": path},
    }
    return {"requestBody": {"required": True, "content": content}}
