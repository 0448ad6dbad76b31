"""From untrusted bytes to samples: the one way a recording enters the engine.

The container is recognised by its first bytes and named to the decoder, so that no recording can pose as a playlist that makes the
decoder open files or addresses of its own. Decoding stops at the longest recording accepted. What is said is for `engine.voice`.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from engine.errors import InvalidAudio, MissingExtra

RATE = 16_000
MIN_S = 0.1
QUIET = 1e-3
"""Peak below which a recording is silence: -60 dB of full scale."""

_CONTAINERS = (
    ("wav", re.compile(rb"(RIFF|RF64)....WAVE", re.DOTALL)),
    ("ogg", re.compile(rb"OggS")),
    ("matroska", re.compile(rb"\x1a\x45\xdf\xa3")),
    ("flac", re.compile(rb"fLaC")),
    ("mp4", re.compile(rb"....ftyp", re.DOTALL)),
    ("aac", re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")),
    ("mp3", re.compile(rb"ID3|\xff[\xe0-\xff]")),
)
_ACCEPTED = "WAV, MP3, M4A, AAC, FLAC, Ogg or WebM"


def decode_audio(data: bytes, *, max_seconds: float) -> Float32[np.ndarray, " s"]:
    """Decode a recording to mono samples at 16 kHz between -1 and 1.

    Raises `InvalidAudio` (empty, not_audio, too_long, silence) and `MissingExtra`.
    """
    if not data:
        raise InvalidAudio("the recording is empty: 0 bytes were sent", reason="empty")
    kind = next((name for name, magic in _CONTAINERS if magic.match(data)), None)
    if kind is None:
        raise InvalidAudio(f"the file is no recording (it starts with {data[:12]!r}): send {_ACCEPTED}", reason="not_audio")
    samples = _decoded(data, kind, max_seconds)
    if len(samples) < MIN_S * RATE:
        raise InvalidAudio(f"the recording lasts {len(samples) / RATE:.2f} s: speak for longer", reason="empty")
    if float(np.abs(samples).max()) < QUIET:
        raise InvalidAudio("the recording is silent: check the microphone", reason="silence")
    return samples


def _decoded(data: bytes, kind: str, max_seconds: float) -> Float32[np.ndarray, " s"]:
    try:
        import av  # noqa: PLC0415  an extra
    except ImportError:
        raise MissingExtra("hearing voice queries", "voice") from None
    try:
        with av.open(io.BytesIO(data), mode="r", format=kind, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise InvalidAudio("the file has no sound in it: send a recording", reason="not_audio")
            return _collected(_samples(container, av), max_seconds)
    except av.FFmpegError as error:
        raise InvalidAudio(
            f"the {kind} recording is damaged ({error.strerror}): record it again, as {_ACCEPTED}", reason="not_audio"
        ) from None


def _samples(container: Any, av: Any) -> Iterator[Float32[np.ndarray, " s"]]:  # noqa: ANN401  PyAV's objects
    """Decode piece by piece; a damaged piece in the middle is left out, as players do."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    frames = container.decode(audio=0)
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            break
        except av.InvalidDataError:
            continue
        for piece in resampler.resample(frame):
            yield piece.to_ndarray().reshape(-1)
    for piece in resampler.resample(None):
        yield piece.to_ndarray().reshape(-1)


def _collected(pieces: Iterator[Float32[np.ndarray, " s"]], max_seconds: float) -> Float32[np.ndarray, " s"]:
    kept: list[Float32[np.ndarray, " s"]] = []
    length = 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length > max_seconds * RATE:
            raise InvalidAudio(
                f"the recording is longer than the {max_seconds:g} s accepted: say it shorter, or raise SEMBLANCE_VOICE_SECONDS",
                reason="too_long",
            )
    samples = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    return np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
