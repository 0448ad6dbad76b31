"""Where a drawing came from: its digest, and the marks that travel inside the file.

Here belong writing and recognising provenance. Who may see a drawing is decided in `engine.generation.safety`; that none becomes
a product is held by `engine.ingest`, which asks `is_synthetic`.
"""

import hashlib
import io
import re
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import PngImagePlugin

from engine.drawings import GeneratedImage, GenerationRequest

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's name for a picture made by a model alone (https://cv.iptc.org/newscodes/digitalsourcetype/)."""

COMPOSITE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""The same for a photo that a model changed."""

XMP_KEYWORD = "XML:com.adobe.xmp"
_DRAWN = re.compile(rb"digitalsourcetype/trainedAlgorithmicMedia\b")
_MARKED_BY_US = re.compile(rb"urn:semblance:drawing:")
_PNG = b"\x89PNG\r\n\x1a\n"
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:semblance="urn:semblance:drawing:"
 Iptc4xmpExt:DigitalSourceType={source}
 Iptc4xmpExt:AISystemUsed={model}
 xmp:CreatorTool={model}
 semblance:synthetic="true"
 semblance:seed={seed}
 semblance:promptDigest={digest}/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def prompt_digest(request: GenerationRequest) -> str:
    """Digest what was asked for, in words and as vectors: 32 hex digits. Seed, size and steps are not part of it."""
    fields = [
        request.prompt.encode(),
        np.ascontiguousarray(request.vectors, "<f4").tobytes(),
        np.array(request.weights, "<f8").tobytes(),
    ]
    digest = hashlib.blake2b(digest_size=16, person=b"prompt")
    for field in fields:
        digest.update(len(field).to_bytes(8, "little") + field)
    return digest.hexdigest()


def to_png(drawing: GeneratedImage, *, restyled: bool = False) -> bytes:
    """Write a drawing as PNG with its provenance: XMP with IPTC's digital source type, and plain text fields.

    `restyled` says that it was made from a photo. The prompt itself is not written, only its digest: files travel further than
    a customer may want their words to.
    """
    info = PngImagePlugin.PngInfo()
    source = COMPOSITE_TYPE if restyled else SOURCE_TYPE
    given = {"source": source, "model": drawing.model, "seed": str(drawing.seed), "digest": drawing.prompt_digest}
    packet = _PACKET.format(**{name: quoteattr(value) for name, value in given.items()})
    info.add_itxt(XMP_KEYWORD, packet)
    info.add_text("Software", drawing.model)
    info.add_text("Comment", "A drawing made by a model, not a photo of a product.")
    buffer = io.BytesIO()
    drawing.image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def is_synthetic(data: bytes) -> bool:
    """Say whether a picture file says of itself that a model drew it, or carries this engine's mark.

    Reads what is written in the file, in any format that keeps XMP or C2PA as plain bytes, and PNG's compressed texts. A file
    from which the mark was removed cannot be recognised.
    """
    return _marked(data) or (data.startswith(_PNG) and any(_marked(text) for text in _compressed_texts(data)))


def _marked(data: bytes) -> bool:
    return bool(_DRAWN.search(data) or _MARKED_BY_US.search(data))


def _compressed_texts(data: bytes) -> list[bytes]:
    if b"iTXt" not in data and b"zTXt" not in data:
        return []
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as picture:
            return [value if isinstance(value, bytes) else str(value).encode() for value in picture.info.values()]
    except Exception:  # a damaged file is judged by whoever decodes it
        return []
