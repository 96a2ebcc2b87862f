"""One frozen settings object: the only reader of the environment."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from radsearch.errors import SettingsError

DEFAULT_MODEL = "efficientnet-lite0"

# Nothing that is started here calls home (docs/decisions/0004-orchestration.md).
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command needs to know of its surroundings; README.md documents every variable."""

    index: str = "radsearch-index"
    collection: str = "radsearch"
    qdrant_api_key: str | None = None
    model: str = DEFAULT_MODEL
    models_folder: Path | None = None
    device: str = "auto"
    batch_size: int = 0
    workers: int = 0
    secret: str | None = None
    secret_file: Path = Path("~/.config/radsearch/secret")
    busy_wait_seconds: float = 10.0

    def __repr__(self) -> str:
        """Say nothing secret."""
        return f"Settings(index={self.index!r}, model={self.model!r})"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read `RADSEARCH_*` from the environment.

    Raises:
        SettingsError: a number is none, or a variable of ours is unknown (most likely misspelt).
    """
    variables = os.environ if environment is None else environment
    stated = {name: value for name, value in variables.items() if name.startswith("RADSEARCH_") and value}
    readers = {f"RADSEARCH_{name.upper()}": (name, read) for name, read in _READERS.items()}
    unknown = sorted(name for name in stated if name not in readers and not name.startswith("RADSEARCH_TEST_"))
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}; known are: {', '.join(sorted(readers))}")
    values: dict[str, object] = {}
    for variable, (name, read) in readers.items():
        if variable in stated:
            try:
                values[name] = read(stated[variable])
            except ValueError as error:
                raise SettingsError(f"{variable} must be a number") from error
    settings = Settings(**values)  # type: ignore[arg-type]  # the readers give each field its own type
    if settings.batch_size < 0 or settings.workers < 0 or settings.busy_wait_seconds < 0:
        raise SettingsError("RADSEARCH_BATCH_SIZE, RADSEARCH_WORKERS and RADSEARCH_BUSY_WAIT_SECONDS are 0 or more")
    return settings


def silence_telemetry() -> None:
    """Switch off the usage reports of the libraries that are imported next, unless the user has chosen otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _path(text: str) -> Path:
    return Path(text).expanduser()


_READERS: dict[str, Callable[[str], object]] = {
    "index": str,
    "collection": str,
    "qdrant_api_key": str,
    "model": str,
    "models_folder": _path,
    "device": str,
    "batch_size": int,
    "workers": int,
    "secret": str,
    "secret_file": _path,
    "busy_wait_seconds": float,
}
