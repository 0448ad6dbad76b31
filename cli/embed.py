"""`semblance embed`: texts or pictures in, a `.npy` file of unit rows out."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.failures import usage_error
from cli.output import note, say_json
from cli.progress import meter

if TYPE_CHECKING:
    from engine.config import Settings
    from engine.datatypes import Vectors
    from engine.protocols import Encoder

TEXTS_AT_ONCE, PICTURES_AT_ONCE = 256, 64


def embed(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="X.npy", help="Where to write float32 unit rows [n, 256].")],
    texts: Annotated[str | None, typer.Option("--texts", metavar="FILE", help="A file with one text a line; - for stdin.")] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="DIR_OR_LIST", help="A folder of pictures, or a file with one path a line; - for stdin."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Embed texts or pictures: float32 unit rows in a .npy file.

    Row n of the output is line n of the input; the pictures of a folder, subfolders included, are taken in the order of their
    paths. The file appears when it is complete; a row that cannot be read ends the command and is named.
    """
    if (texts is None) == (images is None):
        raise usage_error("give either --texts FILE or --images DIR_OR_LIST")
    settings = options.settings_for()
    from cli.vectors import vector_file
    from engine.build import build_encoder

    encoder = build_encoder(settings)
    with vector_file(output) as file, meter("embedding", "texts" if images is None else "pictures") as progress:
        total, rows = _of_pictures(images, encoder, settings) if images is not None else _of_texts(str(texts), encoder)
        for vectors in rows:
            file.append(vectors)
            progress.show(file.rows, total)
    if json:
        say_json(
            {
                "output": str(output),
                "rows": file.rows,
                "dimensions": 256,
                "encoder": encoder.name,
                "fingerprint": encoder.fingerprint,
            }
        )
    else:
        note(f"wrote {file.rows} rows of 256 to {output}")


def _of_texts(source: str, encoder: "Encoder") -> "tuple[int | None, Iterator[Vectors]]":
    from cli.rows import batches, line_count, texts

    return line_count(source), (encoder.encode_texts(batch) for batch in batches(texts(source), TEXTS_AT_ONCE))


def _of_pictures(source: str, encoder: "Encoder", settings: "Settings") -> "tuple[int | None, Iterator[Vectors]]":
    from cli.rows import batches, decoded, picture_count, pictures

    loaded = decoded(batches(pictures(source), PICTURES_AT_ONCE), settings, encoder.image_size)
    return picture_count(source), (encoder.encode_images(batch) for batch in loaded)
