"""The only reader of the environment: every `SEMBLANCE_*` variable becomes a field of one frozen `Settings`.

Built at the edges (`cli`, `api`, `engine.build`) and passed down as values. Nothing here opens files or loads models.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.errors import ConfigurationError

PREFIX = "SEMBLANCE_"
_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # the name is prometheus_client's, which reads it when it is imported


class Settings(BaseSettings):
    """Everything an operator can set, with defaults that work. Secrets print as stars."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False)

    data: Path = Field(Path("semblance-data"), description="Folder that holds the collections.")
    encoder: str = Field(
        "bundle:default",
        description="Which encoder embeds: `bundle:default`, a bundle's folder, `open_clip:MODEL/PRETRAINED`, `hf:ORG/MODEL`, "
        "`adapted:FOLDER`.",
    )
    device: Literal["auto", "cpu", "cuda", "openvino"] = Field(
        "auto", description="Where the encoder runs; `auto` takes CUDA when torch finds it, else OpenVINO for bundles."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Arithmetic of the encoder; `auto` takes bf16 where the processor has it."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of encoder and index; 0 takes every core.")
    redis_url: SecretStr | None = Field(
        None, description="Second cache tier, for example `redis://localhost:6379/0`; without it the in-process tier serves alone."
    )
    redis_timeout_ms: int = Field(
        50, ge=1, le=10_000, description="Longest wait for Redis before its answer counts as a miss, in milliseconds."
    )
    cache_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Secret that seals what Redis holds, the same for all servers on it; without one whoever writes to that Redis "
        "can forge answers.",
    )
    cache_entries: int = Field(20_000, ge=0, description="Entries of the in-process cache; 0 turns it off.")
    cache_ttl_s: int = Field(3_600, ge=1, description="Seconds after which a cached entry is forgotten.")
    index_kind: Literal["auto", "flat", "ivf-sq8", "ivf-pq"] = Field(
        "auto", description="What large collections are indexed by; `auto` goes by size, or by what `semblance index tune` found."
    )
    busy_timeout_ms: int = Field(10_000, ge=0, description="Longest wait for another writer's lock, in milliseconds.")
    max_image_mb: float = Field(20.0, gt=0, description="Largest picture file read, in MB.")
    max_megapixels: float = Field(64.0, gt=0, description="Largest picture decoded, in millions of pixels.")
    fetch_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts catalogues may fetch pictures from, by commas; a leading `*.` admits subdomains. Empty: none.",
    )
    fetch_timeout_s: float = Field(10.0, gt=0, description="Longest wait for one remote picture, in seconds.")
    fetch_redirects: int = Field(3, ge=0, le=20, description="Redirects followed for one remote picture.")
    image_url_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Public hosts HTTP clients may name pictures of, by commas; `*.` admits subdomains, `*` all. Empty: none.",
    )
    host: str = Field("127.0.0.1", description="Address the server binds to.")
    port: int = Field(8000, ge=0, le=65535, description="Port the server binds to; 0 takes a free one.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names the server answers to, by commas; `*.` admits subdomains. Empty: loopback's when bound to it.",
    )
    api_keys: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether requests need a key; `auto` asks for one as soon as other machines can reach the server."
    )
    client_key: SecretStr | None = Field(None, description="API key that `semblance mcp --url` sends to the server it speaks to.")
    rate_limit: float = Field(100.0, ge=0, description="Requests a second of one key; 0 does not count them.")
    rate_burst: int = Field(200, ge=1, description="Requests of one key that may come at once before the rate counts.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the API, by commas, such as `https://shop.example`; `*` admits all."
    )
    audit_days: int = Field(90, ge=0, description="Days for which the log of writes is kept; 0 writes none.")
    max_body_mb: float = Field(32.0, gt=0, description="Largest request body, in MB.")
    max_batch: int = Field(64, ge=1, le=4096, description="Most queries encoded in one call.")
    max_queue: int = Field(512, ge=1, description="Most searches waiting; beyond it a request is answered 503 with `Retry-After`.")
    deadline_s: float = Field(30.0, gt=0, description="Longest time a request may take, in seconds.")
    import_queue: int = Field(64, ge=1, description="Most imports waiting; beyond it a request is answered 503.")
    import_root: Path | None = Field(
        None, description="Folder whose catalogues an import may name by their path on the server; without it they are uploaded."
    )
    max_import_mb: float = Field(1_000.0, gt=0, description="Largest catalogue uploaded, in MB.")
    generator: str = Field(
        "bundle:default",
        description="What draws: `bundle:default`, a decoder's folder, `diffusers:FOLDER_OR_ORG/MODEL` (extra `models`), `none`.",
    )
    fallback: Literal["auto", "always", "never"] = Field(
        "auto", description="When a search starts a drawing unless it says itself; `auto`: when its decision is `generate`."
    )
    drawing_candidates: int = Field(4, ge=1, le=16, description="Candidates drawn per request; the one nearest to it is kept.")
    drawing_threads: int = Field(1, ge=1, le=1024, description="Threads of the process that draws beside the server.")
    drawing_queue: int = Field(16, ge=1, description="Most drawings waiting; beyond it a request is answered 503.")
    drawing_budget: int = Field(200, ge=0, description="Drawings one key may ask for in an hour; 0 does not count them.")
    drawing_cache: int = Field(2_000, ge=0, description="Drawings kept on disk, so that the same request is not drawn twice.")
    lora: Annotated[tuple[str, ...], NoDecode] = Field((), description="LoRA files laid over a `diffusers:` model, by commas.")
    blocked_concepts: Path | None = Field(
        None, description="File of further concepts that are not drawn: one a line, `rule<TAB>words`; added to those built in."
    )
    nudity_threshold: float = Field(0.5, gt=0, le=1, description="Score from which a picture counts as explicit.")
    moderation: Annotated[tuple[Literal["catalogue", "uploads"], ...], NoDecode] = Field(
        (), description="Where pictures that come in are checked for explicit content, by commas: `catalogue`, `uploads`."
    )
    voice_model: str = Field(
        "bundled", description="Which Whisper listens: `bundled` (English), a size such as `base` or `large-v3`, or a folder."
    )
    voice_seconds: float = Field(60.0, gt=0, le=3_600, description="Longest recording a voice search accepts, in seconds.")
    log_queries: bool = Field(
        False, description="Keep what was searched for, in words, with its confidence, in each collection's folder."
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that serve; each has an encoder and a cache of its own.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines as text, or as one JSON object a line.")
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector that traces go to, such as `http://localhost:4318` (extra `tracing`)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much the process logs.")

    @field_validator("fetch_hosts", "image_url_hosts", "allowed_hosts", "cors_origins", "moderation", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(host.strip().lower() for host in value.split(",") if host.strip()) if isinstance(value, str) else value

    @field_validator("lora", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return tuple(path.strip() for path in value.split(",") if path.strip()) if isinstance(value, str) else value

    @cached_property
    def max_pixels(self) -> int:
        """The pixel limit as a count."""
        return int(self.max_megapixels * 1_000_000)

    @cached_property
    def max_image_bytes(self) -> int:
        """The limit of a picture file in bytes."""
        return int(self.max_image_mb * 1_000_000)

    @cached_property
    def max_import_bytes(self) -> int:
        """The limit of an uploaded catalogue in bytes."""
        return int(self.max_import_mb * 1_000_000)

    @cached_property
    def max_body_bytes(self) -> int:
        """The limit of a request body in bytes."""
        return int(self.max_body_mb * 1_000_000)


def share_metrics(folder: Path) -> None:
    """Let this process, and those it starts, count into files of `folder`; before `prometheus_client` is imported."""
    os.environ[_METRICS] = str(folder)


def metrics_folder() -> Path | None:
    """Return the folder that several processes count into; None when this process counts alone."""
    return Path(os.environ[_METRICS]) if os.environ.get(_METRICS) else None


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401  values of any field
    """Read the environment once; keyword arguments win over it.

    Raises `ConfigurationError` naming every variable that is unknown or malformed.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise ConfigurationError(f"unknown setting {', '.join(unknown)}: see `docs/settings.md`, or unset it")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)
        )
        raise ConfigurationError(problems) from None
