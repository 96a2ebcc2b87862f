"""One frozen settings object: the only reader of the environment."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from radsearch.errors import SettingsError

LEAST_FILE_MEMORY_MB = 256  # a reading process takes about 100 before it has read anything
DEFAULT_MODEL = "efficientnet-lite0"
TEXT_POLICIES = ("refuse", "crop", "allow")
TESSERACT = "tesseract"

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
    qdrant_ca: Path | None = None
    qdrant_grpc: int = 0
    qdrant_seconds: int = 60
    qdrant_shards: int = 0
    qdrant_replicas: int = 0
    qdrant_write_consistency: int = 0
    quantization: str = "turbo4"
    vectors: str = "float32"
    model: str = DEFAULT_MODEL
    models_folder: Path | None = None
    thumbnails_folder: Path | None = None
    catalogue: Path | None = None
    viewer: str | None = None
    audit: Path | None = None
    access: Path | None = None
    open_datasets: tuple[str, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    settings_folder: Path = Path("~/.config/radsearch")
    batch_size: int = 0
    workers: int = 0
    secret: str | None = None
    secret_file: Path = Path("~/.config/radsearch/secret")
    busy_wait_seconds: float = 10.0
    cine_frames: int = 16
    volume_frames: int = 0
    file_seconds: float = 60.0
    file_memory_mb: int = 4096
    runs_folder: Path | None = None
    reports_folder: Path | None = None
    archive_folder: Path | None = None
    manifest: Path | None = None
    dataset: str | None = None
    show_file_names: int = 0
    burned_in: str = "crop"
    blank_text: int = 0

    @property
    def on_server(self) -> bool:
        """Whether the index is on a server, else in a folder. Raises SettingsError for any other address."""
        scheme, slashes, _ = self.index.partition("://")  # what comes after may be a password
        if slashes and scheme.lower() not in ("http", "https"):
            raise SettingsError(f"the index is neither a folder nor an http(s) URL, but begins with {scheme}://")
        return bool(slashes)

    @property
    def index_folder(self) -> Path:
        """The folder of an index that is in one. Raises SettingsError where its user is not known."""
        try:
            return Path(self.index).expanduser().absolute()
        except RuntimeError as error:
            raise SettingsError(f"the index {self.index!r} is in the home of a user who is not known here") from error

    def __repr__(self) -> str:
        """Say nothing secret."""
        return f"Settings(index={without_credentials(self.index)!r}, model={self.model!r})"


def without_credentials(location: str) -> str:
    """A folder or an address to show: without a name, a password, a query or a fragment."""
    if "://" not in location:
        return location
    parts = urlsplit(location)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read `RADSEARCH_*` from the environment.

    Raises:
        SettingsError: a number is none, or a variable of ours is unknown (most likely misspelt).
    """
    variables = os.environ if environment is None else environment
    stated = {name: value for name, value in variables.items() if name.startswith("RADSEARCH_") and value}
    unknown = sorted(name for name in stated if name not in VARIABLES and not name.startswith("RADSEARCH_TEST_"))
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}; known are: {', '.join(sorted(VARIABLES))}")
    values: dict[str, object] = {}
    for variable, text in stated.items():
        if variable in VARIABLES:
            field, read = VARIABLES[variable]
            try:
                values[field] = read(text)
            except (ValueError, RuntimeError) as error:
                wanted = {int: "a whole number", float: "a number"}.get(read, "a path")  # type: ignore[call-overload]
                raise SettingsError(f"{variable} has no usable value: {wanted} is wanted") from error
    settings = Settings(**values)  # type: ignore[arg-type]  # each variable is read as its field's type
    if settings.qdrant_seconds < 1:
        raise SettingsError("RADSEARCH_QDRANT_SECONDS is 1 or more")
    if settings.viewer is not None and not (
        settings.viewer.startswith(("https://", "http://")) and "{study}" in settings.viewer
    ):
        raise SettingsError("RADSEARCH_VIEWER is an http(s) address with {study} for the Study Instance UID")
    for variable, (field, read) in VARIABLES.items():
        if read in (int, float) and not 0 <= getattr(settings, field) < float("inf"):
            raise SettingsError(f"{variable} is 0 or more")
    if 0 < settings.file_memory_mb < LEAST_FILE_MEMORY_MB:
        raise SettingsError(f"RADSEARCH_FILE_MEMORY_MB is {LEAST_FILE_MEMORY_MB} or more, or 0 for no limit")
    _check_text_policy(settings, variables)
    return settings


def _check_text_policy(settings: Settings, variables: Mapping[str, str]) -> None:
    if settings.burned_in not in TEXT_POLICIES:
        raise SettingsError(f"RADSEARCH_BURNED_IN is one of {', '.join(TEXT_POLICIES)}, not {settings.burned_in!r}")
    if settings.blank_text not in (0, 1):
        raise SettingsError("RADSEARCH_BLANK_TEXT is 0 or 1")
    if settings.blank_text and shutil.which(TESSERACT, path=variables.get("PATH", os.defpath)) is None:
        raise SettingsError(
            f"RADSEARCH_BLANK_TEXT=1 needs the program {TESSERACT}, which is not here: install it (Debian and Ubuntu: "
            "apt-get install tesseract-ocr), or set it to 0"
        )


def silence_telemetry() -> None:
    """Switch off the usage reports of the libraries that are imported next, unless the user has chosen otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


# Variable -> the field it sets, and how its text is read.
VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "RADSEARCH_INDEX": ("index", str),
    "RADSEARCH_COLLECTION": ("collection", str),
    "RADSEARCH_QDRANT_API_KEY": ("qdrant_api_key", str),
    "RADSEARCH_QDRANT_CA": ("qdrant_ca", _path),
    "RADSEARCH_QDRANT_GRPC": ("qdrant_grpc", int),
    "RADSEARCH_QDRANT_SECONDS": ("qdrant_seconds", int),
    "RADSEARCH_QDRANT_SHARDS": ("qdrant_shards", int),
    "RADSEARCH_QDRANT_REPLICAS": ("qdrant_replicas", int),
    "RADSEARCH_QDRANT_WRITE_CONSISTENCY": ("qdrant_write_consistency", int),
    "RADSEARCH_QUANTIZATION": ("quantization", str),
    "RADSEARCH_VECTORS": ("vectors", str),
    "RADSEARCH_MODEL": ("model", str),
    "RADSEARCH_MODELS": ("models_folder", _path),
    "RADSEARCH_THUMBNAILS": ("thumbnails_folder", _path),
    "RADSEARCH_CATALOGUE": ("catalogue", _path),
    "RADSEARCH_VIEWER": ("viewer", str),
    "RADSEARCH_AUDIT": ("audit", _path),
    "RADSEARCH_ACCESS": ("access", _path),
    "RADSEARCH_OPEN_DATASETS": ("open_datasets", _names),
    "RADSEARCH_DEVICE": ("device", str),
    "RADSEARCH_PRECISION": ("precision", str),
    "RADSEARCH_SETTINGS": ("settings_folder", _path),
    "RADSEARCH_BATCH_SIZE": ("batch_size", int),
    "RADSEARCH_WORKERS": ("workers", int),
    "RADSEARCH_SECRET": ("secret", str),
    "RADSEARCH_SECRET_FILE": ("secret_file", _path),
    "RADSEARCH_BUSY_WAIT_SECONDS": ("busy_wait_seconds", float),
    "RADSEARCH_CINE_FRAMES": ("cine_frames", int),
    "RADSEARCH_VOLUME_FRAMES": ("volume_frames", int),
    "RADSEARCH_FILE_SECONDS": ("file_seconds", float),
    "RADSEARCH_FILE_MEMORY_MB": ("file_memory_mb", int),
    "RADSEARCH_RUNS": ("runs_folder", _path),
    "RADSEARCH_REPORTS": ("reports_folder", _path),
    "RADSEARCH_ARCHIVE": ("archive_folder", _path),
    "RADSEARCH_MANIFEST": ("manifest", _path),
    "RADSEARCH_DATASET": ("dataset", str),
    "RADSEARCH_SHOW_FILE_NAMES": ("show_file_names", int),
    "RADSEARCH_BURNED_IN": ("burned_in", str),
    "RADSEARCH_BLANK_TEXT": ("blank_text", int),
}
