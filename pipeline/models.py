"""Which embedding models there are: the bundled one, and those that the operator's file of models declares."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from pipeline.embedders.onnx import (
    BUNDLED_MODEL,
    BUNDLED_TOKENIZER,
    CHECKSUMS,
    MODEL_WHEEL,
    OnnxEmbedder,
    Pooling,
    installed,
)
from pipeline.embedding import Embedder, EmbeddingModel, ModelDefinitionError, ModelUnavailableError, UnknownModelError
from pipeline.text.chunking import OVERLAP_TOKENS, Limits
from workflows.model.policies import parse_rate
from workflows.settings import Config, SettingsError

FILE_VARIABLE = "CELERIAC_MODELS"
DEFAULT_VARIABLE = "CELERIAC_MODEL"
THREADS_VARIABLE = "CELERIAC_EMBED_THREADS"
MAX_THREADS = 64
OVERLAP_VARIABLE = "CELERIAC_CHUNK_OVERLAP"
MAX_OVERLAP_TOKENS = 512

BUNDLED = "all-MiniLM-L6-v2"
LONGEST_CHUNK = 512
"""Tokens of a chunk, unless the operator says otherwise: longer ones blur what each is about."""

GUESSED_SHARE = 0.75
"""Of a model's longest input that chunks fill when they are counted by another tokenizer than its own."""

_WEIGHTS = frozenset({".onnx", ".onnx_data", ".safetensors", ".bin"})
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$"


class _Spec(BaseModel, ABC):
    """What every model says of itself.

    Attributes:
        dimension: Numbers of a vector.
        max_tokens: Longest input, special tokens included.
        chunk_tokens: How long chunks are made.
        revision: Raised when the weights behind the name change; where it is not given, it follows from the rest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    dimension: int = Field(ge=2, le=16_000)
    max_tokens: int = Field(512, ge=32, le=1_000_000)
    chunk_tokens: int | None = Field(None, ge=32, le=8192)
    revision: str | None = Field(None, min_length=1, max_length=100)

    @model_validator(mode="after")
    def _chunks_fit(self) -> _Spec:
        if self.chunk_tokens is not None and self.chunk_tokens > self.max_tokens:
            raise ValueError(f"chunk_tokens ({self.chunk_tokens}) must not exceed max_tokens ({self.max_tokens})")
        return self

    def key(self) -> str:
        """Changes with anything that its embedder is made from."""
        return f"{type(self).__name__}:{self.model_dump_json()}:{_overlap_tokens()}:{_threads()}"

    def to_model(self) -> EmbeddingModel:
        """What stamps its vectors."""
        return EmbeddingModel(
            self.name, self.revision or self._derived(), self.dimension, self._limits(), self._tokenizer_name()
        )

    @abstractmethod
    def load(self) -> Embedder:
        """An embedder; the model itself is loaded at the first text."""

    def _limits(self) -> Limits:
        longest = self.chunk_tokens or min(self._sure_tokens(), LONGEST_CHUNK)
        return Limits(longest, 2, _overlap_tokens())

    def _sure_tokens(self) -> int:
        return self.max_tokens

    def _tokenizer_name(self) -> str:
        return self.name

    def _derived(self) -> str:
        """Hash of all that a vector depends on; neither where a server or a folder lies nor what it costs does."""
        told: dict[str, Any] = self.model_dump(
            mode="json",
            include={"backend", "model", "pooling", "document_prefix", "query_prefix", "dimension", "shorten"},
        )
        folder = getattr(self, "path", None)
        if isinstance(folder, Path):
            told["weights"] = _bytes_of_weights(folder, self.name)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


class BundledSpec(_Spec):
    """The model that comes with the installation: int8, ONNX, without any download."""

    def load(self) -> Embedder:
        """See `_Spec.load`."""
        return OnnxEmbedder(
            self.to_model(),
            installed(*BUNDLED_MODEL),
            installed(*BUNDLED_TOKENIZER),
            longest=self.max_tokens,
            threads=_threads(),
            checksums=CHECKSUMS,
        )


class OnnxSpec(_Spec):
    """`backend: onnx`: a folder with `model.onnx` and `tokenizer.json`."""

    backend: Literal["onnx"]
    path: Path
    file: str = Field("model.onnx", min_length=1)
    pooling: Pooling = "mean"
    query_prefix: str = ""
    document_prefix: str = ""

    def load(self) -> Embedder:
        """See `_Spec.load`."""
        return OnnxEmbedder(
            self.to_model(),
            self.path / self.file,
            self.path / "tokenizer.json",
            longest=self.max_tokens,
            threads=_threads(),
            pooling=self.pooling,
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
        )


class OpenAiSpec(_Spec):
    """`backend: openai`: a server that answers `POST URL/embeddings` as OpenAI's does."""

    backend: Literal["openai"]
    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    model: str = Field(min_length=1, max_length=200)
    api_key_variable: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_]*$")
    tokenizer: Path | None = None
    batch_texts: int = Field(64, ge=1, le=2048)
    batch_tokens: int = Field(8192, ge=1, le=1_000_000)
    rate: str | None = Field(None, pattern=r"^[1-9][0-9]*/[0-9]*(s|m|h)$")
    price: float = Field(0.0, ge=0)
    shorten: bool = False
    query_prefix: str = ""
    document_prefix: str = ""

    @field_validator("rate")
    @classmethod
    def _is_rate(cls, given: str | None) -> str | None:
        if given is not None:
            parse_rate(given)
        return given

    def to_model(self) -> EmbeddingModel:
        """See `_Spec.to_model`."""
        return replace(super().to_model(), price=self.price, rate=self.rate)

    def load(self) -> Embedder:
        """See `_Spec.load`."""
        from pipeline.embedders.http import HttpEmbedder

        return HttpEmbedder(
            self.to_model(),
            self.tokenizer or installed(*BUNDLED_TOKENIZER),
            url=self.url,
            served_name=self.model,
            key_variable=self.api_key_variable,
            most_texts=self.batch_texts,
            most_tokens=self.batch_tokens,
            shorten=self.shorten,
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
        )

    def _sure_tokens(self) -> int:
        return self.max_tokens if self.tokenizer is not None else int(self.max_tokens * GUESSED_SHARE)

    def _tokenizer_name(self) -> str:
        return self.name if self.tokenizer is not None else BUNDLED


class FastEmbedSpec(_Spec):
    """`backend: fastembed`: a model that fastembed knows, in a folder."""

    backend: Literal["fastembed"]
    model: str = Field(min_length=1, max_length=200)
    path: Path

    def load(self) -> Embedder:
        """See `_Spec.load`."""
        from pipeline.embedders.fast import FastEmbedder

        return FastEmbedder(self.to_model(), self.model, self.path, threads=_threads())


class SentenceTransformersSpec(_Spec):
    """`backend: sentence-transformers`: a folder as `SentenceTransformer.save` writes it."""

    backend: Literal["sentence-transformers"]
    path: Path
    device: str = Field("cpu", pattern=r"^[a-z]+(:[0-9]+)?$")
    query_prefix: str = ""
    document_prefix: str = ""

    def load(self) -> Embedder:
        """See `_Spec.load`."""
        from pipeline.embedders.sentences import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(
            self.to_model(),
            self.path,
            device=self.device,
            threads=_threads(),
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
        )


Spec = BundledSpec | OnnxSpec | OpenAiSpec | FastEmbedSpec | SentenceTransformersSpec

_DECLARED: TypeAdapter[OnnxSpec | OpenAiSpec | FastEmbedSpec | SentenceTransformersSpec] = TypeAdapter(
    Annotated[OnnxSpec | OpenAiSpec | FastEmbedSpec | SentenceTransformersSpec, Field(discriminator="backend")]
)


def bundled() -> BundledSpec:
    """The model of this installation."""
    return BundledSpec(name=BUNDLED, dimension=384, max_tokens=256, revision=f"int8-{version(MODEL_WHEEL)}")


def find(name: str | None = None, config: Config | None = None) -> Spec:
    """The model of a name; without one the default: `CELERIAC_MODEL`, else the bundled one.

    Raises:
        UnknownModelError: there is none of that name.
        ModelDefinitionError: the file of models is wrong.
    """
    config = config or Config.from_env()
    wanted = name or config.text(DEFAULT_VARIABLE, BUNDLED)
    if wanted == BUNDLED:
        return bundled()
    known = declared(config)
    if wanted not in known:
        names = ", ".join([BUNDLED, *sorted(known)])
        raise UnknownModelError(
            f"there is no embedding model '{wanted[:100]}'; there are {names}. Declare others in the file that "
            f"{FILE_VARIABLE} names"
        )
    return known[wanted]


def declared(config: Config) -> dict[str, Spec]:
    """The models of the operator's file by name; none where there is no file.

    Raises:
        ModelDefinitionError: the file cannot be read, or is wrong; the message says where.
    """
    named = config.text(FILE_VARIABLE, "")
    if not named:
        return {}
    path = Path(named).expanduser().absolute()
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise ModelDefinitionError(
            f"the file of models {path} cannot be read: {error.strerror}", f"mend {FILE_VARIABLE}, or unset it"
        ) from error


@lru_cache(maxsize=4)
def _read(path: Path, _changed_at: int) -> dict[str, Spec]:
    hint = "docs/guide/embedding.md shows how a file of models looks"
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelDefinitionError(f"{path} is no YAML: {error}", hint) from error
    models = given.get("models") if isinstance(given, dict) else None
    if not isinstance(models, dict) or set(given) != {"models"}:
        raise ModelDefinitionError(f"{path} must have one key, `models`: a mapping of names to models", hint)
    found: dict[str, Spec] = {}
    for name, told in models.items():
        place = f"{path}: model '{name}'"
        if name == BUNDLED:
            raise ModelDefinitionError(f"{place} has the name of the bundled model", "give it another name")
        if not isinstance(told, dict):
            raise ModelDefinitionError(f"{place} is no mapping", hint)
        try:
            spec = _DECLARED.validate_python({**_resolved(told, path.parent), "name": name})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:]) or "backend"
            raise ModelDefinitionError(f"{place}: {where}: {first['msg']}", hint) from error
        found[str(name)] = spec
    return found


def _resolved(told: dict[Any, Any], folder: Path) -> dict[Any, Any]:
    """Paths are those beside the file, not of whichever folder a process works in."""
    return {
        key: str(folder / Path(value).expanduser())
        if key in ("path", "tokenizer") and isinstance(value, str)
        else value
        for key, value in told.items()
    }


def _bytes_of_weights(folder: Path, name: str) -> int:
    if not folder.is_dir():
        raise ModelUnavailableError(
            f"the folder {folder} of the model '{name}' is not there",
            f"mend `path` in the file that {FILE_VARIABLE} names, or put the model there: nothing is downloaded",
        )
    return sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in _WEIGHTS and file.is_file())


def _overlap_tokens() -> int:
    overlap = Config.from_env().integer(OVERLAP_VARIABLE, OVERLAP_TOKENS)
    if not 0 <= overlap <= MAX_OVERLAP_TOKENS:
        raise SettingsError(f"{OVERLAP_VARIABLE}={overlap} is no overlap", f"use 0 to {MAX_OVERLAP_TOKENS} tokens")
    return overlap


def _threads() -> int:
    threads = Config.from_env().integer(THREADS_VARIABLE, 1)
    if not 1 <= threads <= MAX_THREADS:
        raise SettingsError(f"{THREADS_VARIABLE}={threads} is no number of threads", f"use 1 to {MAX_THREADS}")
    return threads
