"""Voice: synthesised speech is heard, and everything that is none has its answer."""

import io
import shutil
import subprocess
import wave

import numpy as np
import pytest

from engine import voice
from engine.audio import RATE, decode_audio
from engine.config import Settings
from engine.errors import InvalidAudio, InvalidInput, MissingExtra, ModelError
from engine.protocols import Transcriber
from engine.testing import FakeTranscriber
from engine.voice import WhisperTranscriber, build_transcriber, hear

SAID = {
    "red running shoes": {"red", "running", "shoes"},
    "blue shirt for men": {"blue", "shirt", "men"},
    "black leather handbag for women": {"black", "leather", "handbag", "women"},
    "green dress": {"green", "dress"},
}
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="apt-get install espeak-ng")


def say(words: str, *options: str) -> bytes:
    return subprocess.run(["espeak-ng", "--stdout", *options, words], capture_output=True, check=True).stdout


def wav(samples: np.ndarray, rate: int = RATE, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def encoded(samples: np.ndarray, container: str, codec: str, rate: int = 48_000) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 960)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def noise(seconds: float, level: float = 0.2) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, int(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def whisper():
    pytest.importorskip("faster_whisper")
    return build_transcriber(Settings())


def reason_of(data: bytes, listener: Transcriber = FakeTranscriber(), **settings) -> str:  # noqa: B008
    with pytest.raises(InvalidAudio) as caught:
        hear(data, listener, Settings(**settings))
    assert ":" in str(caught.value)  # a fact and a remedy
    return caught.value.reason


@needs_espeak
@pytest.mark.parametrize("words", SAID)
def test_synthesised_speech_is_heard(whisper, words):
    heard = hear(say(words, "-s", "140"), whisper, Settings())
    assert heard.language == "en"
    assert len(SAID[words] & set(heard.text.lower().replace("-", " ").replace(",", "").rstrip(".").split())) >= len(SAID[words]) - 1


@needs_espeak
def test_the_same_recording_gives_the_same_words_in_noise_too(whisper):
    clean = decode_audio(say("red running shoes", "-s", "140"), max_seconds=60)
    noisy = wav(clean + noise(len(clean) / RATE, 0.01)[: len(clean)])
    assert "shoes" in hear(noisy, whisper, Settings()).text.lower()
    assert hear(noisy, whisper, Settings()) == hear(noisy, whisper, Settings())


def test_noise_and_tones_are_not_words(whisper):
    assert reason_of(wav(noise(4)), whisper) in ("silence", "no_words")
    assert reason_of(wav(tone(4)), whisper) in ("silence", "no_words")


def test_an_english_model_says_so_when_asked_for_another_language(whisper):
    with pytest.raises(InvalidInput, match=r"English only, not 'zh'.*SEMBLANCE_VOICE_MODEL"):
        hear(wav(tone(1)), whisper, Settings(), language="zh")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (wav(np.zeros(0)), "empty"),
        (wav(tone(0.05)), "empty"),
        (wav(np.zeros(3 * RATE)), "silence"),
        (wav(np.full(3 * RATE, 1e-4)), "silence"),
        (b"%PDF-1.7 no sound", "not_audio"),
        (b"#EXTM3U\n#EXT-X-MEDIA:URI=file:///etc/passwd\n", "not_audio"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_audio"),
        (b"RIFF\x24\0\0\0WAVEjunk", "not_audio"),
        (b"OggS" + b"\0" * 100, "not_audio"),
        (b"\x1a\x45\xdf\xa3" + b"\xff" * 64, "not_audio"),
    ],
)
def test_what_is_no_recording_has_its_reason(data, reason):
    assert reason_of(data) == reason


def test_an_hour_is_refused_early():
    import time

    hour = wav(np.tile(tone(60, 8_000), 60).astype(np.float32), rate=8_000)
    started = time.process_time()
    assert reason_of(hour, voice_seconds=5) == "too_long"
    assert time.process_time() - started < 5
    assert hear(wav(tone(4.9)), FakeTranscriber(), Settings(voice_seconds=5)).text


@pytest.mark.parametrize(
    ("container", "codec"),
    [("ogg", "libopus"), ("webm", "libopus"), ("mp3", "libmp3lame"), ("flac", "flac"), ("mp4", "aac"), ("adts", "aac")],
)
def test_what_browsers_and_telephones_record_is_decoded(container, codec):
    pytest.importorskip("av")
    samples = decode_audio(encoded(tone(2), container, codec), max_seconds=10)
    assert len(samples) / RATE == pytest.approx(2, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples[RATE // 2 : RATE // 2 + RATE]))
    assert int(spectrum.argmax()) == pytest.approx(440, abs=2)


def test_stereo_and_other_rates_become_mono_at_16_khz():
    both = np.repeat(tone(1, 44_100), 2)
    samples = decode_audio(wav(both, rate=44_100, channels=2), max_seconds=10)
    assert len(samples) == pytest.approx(RATE, abs=80)
    assert samples.dtype == np.float32
    assert 0.4 < np.abs(samples).max() < 0.8


def test_the_toy_listener_counts():
    assert hear(wav(np.concatenate([tone(0.4), np.zeros(RATE)])), FakeTranscriber(), Settings()).text == "red green"
    assert isinstance(FakeTranscriber(), Transcriber)


def test_models_that_are_not_there(monkeypatch, tmp_path):
    pytest.importorskip("faster_whisper")
    with pytest.raises(ModelError, match="cannot be loaded"):
        WhisperTranscriber.load(str(tmp_path / "nothing"))
    monkeypatch.setattr(voice, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"semblance\[voice\]"):
        WhisperTranscriber.load("bundled")
