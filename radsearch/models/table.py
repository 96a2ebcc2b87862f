"""The table of models: the rows that come with radsearch, and the user's own from `models.toml` in the settings folder.

Both are TOML of the same form (docs/models.md). Reading it imports no heavy library.
"""

import functools
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import urlsplit

from radsearch.errors import SettingsError, UnknownNameError
from radsearch.models import adapted
from radsearch.models.joining import joined
from radsearch.models.spec import ModelSpec, Precision, Preprocessing

USER_TABLE = "models.toml"
LIBRARIES = (
    "efficientnet_lite",
    "medclip",
    "medimageinsight",
    "open_clip",
    "radimagenet",
    "segment_anything",
    "timm",
    "transformers",
)
SCHEMES = ("package", "hub", "url", "path")
NORMALISATIONS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_PREPROCESSING = {field.name for field in fields(Preprocessing)}
_SPEC = {field.name for field in fields(ModelSpec)} - {"name", "preprocessing", "shares", "base", "head"}
_SHORTHANDS = {"like", "path", "normalise"}
_KEYS = _PREPROCESSING | _SPEC | _SHORTHANDS
_CHOICES: dict[str, tuple[str, ...]] = {
    "library": LIBRARIES,
    "resize": get_args(get_type_hints(Preprocessing)["resize"]),
    "interpolation": get_args(get_type_hints(Preprocessing)["interpolation"]),
    "crop": get_args(get_type_hints(Preprocessing)["crop"]),
    "scale": get_args(get_type_hints(Preprocessing)["scale"]),
    "normalise": tuple(NORMALISATIONS),
}
_TYPES: dict[str, type] = {
    **dict.fromkeys(("size", "shortest_side", "dimension", "context"), int),
    **dict.fromkeys(("text", "gated", "own_preprocessing"), bool),
    **dict.fromkeys(("mean", "std", "trained_on", "files", "precisions", "blocks", "joins"), list),
    "config": dict,
}
_CHANNELS = 3
_LONGEST_NAME = 200  # a folder's name may have 255 bytes, of which some are ours
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")
_DEFAULTS: dict[str, Any] = {"resize": "squash", "interpolation": "bicubic", "family": "own", "revision": ""}


@functools.cache
def built_in_models() -> dict[str, ModelSpec]:
    """The rows that come with radsearch, by name."""
    text = (resources.files("radsearch.models") / "table.toml").read_text(encoding="utf-8")
    return _rows(tomllib.loads(text), {}, where="table.toml", folder=Path())


def models_of(settings_folder: Path | None) -> dict[str, ModelSpec]:
    """All rows: ours, those of `models.toml` in the settings folder, where there is one, and those derived from others.

    Raises:
        SettingsError: that file is no TOML, or a row of it says something that is no use; file, row and key are named.
            What is said of a derived one is damaged.
    """
    if settings_folder is None:
        return built_in_models()
    known = _with_own(settings_folder.expanduser() / USER_TABLE)
    return {**known, **adapted.rows(settings_folder.expanduser(), known)}


def _with_own(file: Path) -> dict[str, ModelSpec]:
    ours = built_in_models()
    if not file.is_file():
        return ours
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    return {**ours, **_rows(stated, ours, where=str(file), folder=file.parent)}


def _rows(
    stated: Mapping[str, Any], known: Mapping[str, ModelSpec], *, where: str, folder: Path
) -> dict[str, ModelSpec]:
    rows: dict[str, ModelSpec] = {}
    for name, row in stated.items():
        try:
            _check_name(name, known)
            rows[name] = _row(name, row, {**known, **rows}, folder)
        except SettingsError as error:
            raise SettingsError(f"{where}, model {name!r}: {error}") from None
    return rows


def _row(name: str, row: object, known: Mapping[str, ModelSpec], folder: Path) -> ModelSpec:
    if not isinstance(row, dict):
        raise SettingsError(f"a model is a table: [{name}]")
    _check_keys(row)
    stated: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if "joins" in stated:
        return joined(name, stated, known)
    base = _base(row, known)
    if "config" in stated:
        stated["config"] = tuple(sorted({**(dict(base.config) if base else {}), **stated["config"]}.items()))
    if "path" in stated:
        stated["weights"] = f"path:{_at_home(folder, stated['path'])}"
    if "normalise" in stated:
        stated["mean"], stated["std"] = NORMALISATIONS[stated["normalise"]]
    changes = {key: value for key, value in stated.items() if key in _PREPROCESSING}
    rest = {key: value for key, value in stated.items() if key in _SPEC}
    if base is not None:
        if "size" in changes and base.preprocessing.shortest_side == base.preprocessing.size:
            changes.setdefault("shortest_side", changes["size"])
        shares = "" if {"weights", "revision"} & rest.keys() else base.folder_name
        if "weights" in rest:
            rest = {"files": (), "revision": "", "gated": False, **rest}
        spec = replace(base, **rest, name=name, shares=shares, preprocessing=replace(base.preprocessing, **changes))
    else:
        spec = _whole(name, {**_DEFAULTS, **changes, **rest})
    _check_together(spec)
    return spec


def _at_home(folder: Path, path: str) -> Path:
    try:
        return (folder / Path(path).expanduser()).resolve()
    except (RuntimeError, ValueError) as error:  # nobody's home, or no path
        raise SettingsError(f"path: {error}") from None


def _check_name(name: str, known: Mapping[str, ModelSpec]) -> None:
    """A name becomes a folder's and a vector's."""
    if name in known:
        raise SettingsError("a model that comes with radsearch has this name; choose another one")
    if not name or not all(letter.isalnum() or letter in "-_.+" for letter in name) or name.startswith("."):
        raise SettingsError("a name has letters, digits, '-', '_', '+' and '.' only")
    if len(name.encode()) > _LONGEST_NAME:
        raise SettingsError(f"a name has at most {_LONGEST_NAME} letters")


def _base(row: Mapping[str, Any], known: Mapping[str, ModelSpec]) -> ModelSpec | None:
    if "like" not in row:
        return None
    if row["like"] not in known:
        raise SettingsError(f"like: {UnknownNameError('model', row['like'], known)}")
    if known[row["like"]].joins:
        raise SettingsError(f"like: {row['like']} joins others; name those with joins instead")
    return known[row["like"]]


def _whole(name: str, stated: dict[str, Any]) -> ModelSpec:
    for key in ("library", "weights", "size", "pooling", "dimension"):
        if key not in stated:
            words = "path (or weights)" if key == "weights" else key
            raise SettingsError(f"{words} is missing")
    if "mean" not in stated or "std" not in stated:
        raise SettingsError(f"normalise is missing: one of {', '.join(NORMALISATIONS)}, or mean and std")
    stated.setdefault("shortest_side", stated["size"])
    stated.setdefault("crop", "floor" if stated["library"] == "transformers" else "round")
    how = Preprocessing(**{key: value for key, value in stated.items() if key in _PREPROCESSING})
    return ModelSpec(name=name, preprocessing=how, **{key: value for key, value in stated.items() if key in _SPEC})


def _check_keys(row: Mapping[str, Any]) -> None:
    for key, value in row.items():
        _check(key, value)
    for one, other in (("path", "weights"), ("normalise", "mean"), ("normalise", "std")):
        if one in row and other in row:
            raise SettingsError(f"{one} and {other} say the same thing; keep one of them")


def _check(key: str, value: object) -> None:
    if key not in _KEYS:
        nearest = get_close_matches(key, _KEYS, n=1)
        raise SettingsError(f"unknown key {key!r}" + (f" (did you mean {nearest[0]!r}?)" if nearest else ""))
    wanted = _TYPES.get(key, str)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        words = {int: "a whole number", bool: "true or false", list: "a list", dict: "a table", str: "a text"}
        raise SettingsError(f"{key} has to be {words[wanted]}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise SettingsError(f"{key} is one of {', '.join(_CHOICES[key])}, not {value!r}")
    if isinstance(value, list):
        _check_list(key, value)


def _check_list(key: str, value: list[Any]) -> None:
    if key in ("mean", "std"):
        if len(value) != _CHANNELS or not all(
            isinstance(number, (int, float)) and not isinstance(number, bool) for number in value
        ):
            raise SettingsError(f"{key} is three numbers, on values of 0 to 1")
    elif key == "blocks":
        if not all(isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in value):
            raise SettingsError("blocks is a list of whole numbers, 1 or more")
    elif not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{key} is a list of texts")


def _check_together(spec: ModelSpec) -> None:
    how = spec.preprocessing
    _check_place(spec)
    if how.size < 1 or spec.dimension < 1:
        raise SettingsError("size and dimension have to be 1 or more")
    if how.shortest_side < how.size:
        raise SettingsError(f"shortest_side has to be {how.size} (size) or more, not {how.shortest_side}")
    if not all(math.isfinite(number) for number in how.mean):
        raise SettingsError("mean is three numbers, on values of 0 to 1")
    if not all(0 < number < math.inf for number in how.std):
        raise SettingsError("std has to be above 0")
    if not spec.precisions or not set(spec.precisions) <= set(get_args(Precision)):
        raise SettingsError(f"precisions are some of {', '.join(get_args(Precision))}")
    if spec.blocks and sum(spec.blocks) != spec.dimension:
        raise SettingsError(f"blocks add up to the dimension, {spec.dimension}, not to {sum(spec.blocks)}")
    if spec.context < 0 or (spec.text and not spec.context):
        raise SettingsError("context is 1 or more tokens, for a model with text")
    if not all(isinstance(value, (str, int, float)) for _, value in spec.config):
        raise SettingsError("config holds texts, numbers, true and false only")


def _check_place(spec: ModelSpec) -> None:
    """What is fetched is pinned: by a commit, or by a hash."""
    try:
        urlsplit(spec.repository)
    except ValueError as error:
        raise SettingsError(f"weights: {error}") from None
    if spec.scheme not in SCHEMES or not spec.repository:
        raise SettingsError(f"weights begin with one of {', '.join(f'{scheme}:' for scheme in SCHEMES)}")
    if spec.scheme == "hub" and not _COMMIT.fullmatch(spec.revision):
        raise SettingsError("revision is the commit on the hub, 40 hexadecimal digits: a branch may change")
    if spec.scheme == "url" and not _HASH.fullmatch(spec.revision):
        raise SettingsError("revision is the hash of the file, sha256:... or md5:...")
    if spec.scheme == "package" and not all(part.isidentifier() for part in spec.repository.split(".")):
        raise SettingsError("weights from a package are package:MODULE")
    if spec.scheme == "url" and not (spec.repository.startswith("https://") and spec.files):
        raise SettingsError("weights from an address need https and files, the names of the files to keep")
    if spec.scheme == "url" and not spec.is_archive and len(spec.files) > 1:
        raise SettingsError("an address that is no .zip archive gives one file")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in spec.files):
        raise SettingsError("files lie in the folder of the weights: relative names, without '..'")
    if spec.text_tower and not _COMMIT.fullmatch(spec.text_tower.partition("@")[2]):
        raise SettingsError("text_tower is ORG/NAME@COMMIT, with 40 hexadecimal digits")
