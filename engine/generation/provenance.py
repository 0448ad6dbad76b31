"""Where a drawing came from: its digest, and the marks that travel inside the file.

Here belong reading and writing provenance. Who may see a drawing and where it may go are in `engine.generation.safety` and
`engine.ingest`.
"""

import hashlib

import numpy as np

from engine.drawings import GenerationRequest


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
