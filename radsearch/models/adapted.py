"""Models that were derived from others by a head: a folder each below the settings folder, and a row of its own.

A folder holds `head.safetensors`, the numbers; `head.json`, what is said of them; `patients.txt`, the pseudonyms of
those that it was trained on, so that nobody reports figures on them as if they were new.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from radsearch.errors import ModelUnavailableError, SettingsError
from radsearch.models.heads import Head
from radsearch.models.spec import ModelSpec, Precision
from radsearch.plain_files import open_plain
from radsearch.study import Fingerprint

ADAPTED = "adapted"
_NUMBERS, _SAID, _PATIENTS = "head.safetensors", "head.json", "patients.txt"
_FORMAT = 1
_MOST_BYTES = 1 << 28  # 2,000 landmarks of 30,000 numbers are half of it
_LONGEST = 40
_SHORT = 4  # letters of the hash in a name; all of them where another model has those already
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*", re.IGNORECASE)
_TENSORS = ("landmarks", "widths", "projection", "offset", "outputs", "shares")
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def save(  # noqa: PLR0913 -- what a derived model is made of
    settings_folder: Path, base: ModelSpec, out: str, head: Head, *, on: Fingerprint, said: Mapping[str, Any],
    patients: Iterable[str],
) -> str:  # fmt: skip
    """Keep a head, and so add a row.

    Args:
        settings_folder: below it the folder of the model is made, whole or not at all.
        base: the row that it was trained on.
        out: what the archive is called; the name is `BASE+OUT-HASH`.
        head: the numbers.
        on: the fingerprint of the vectors that it was trained on.
        said: how it was made, in JSON.
        patients: pseudonyms of the training patients.

    Returns:
        The name.

    Raises:
        SettingsError: no name can be made of `out`, or the folder cannot be written.
    """
    check_out(out)
    from safetensors.numpy import save as packed

    numbers = packed({
        "landmarks": head.landmarks.astype(np.float16),
        **{name: np.array(getattr(head, name), np.float32) for name in _TENSORS[1:]},
    })  # fmt: skip
    digest = hashlib.sha256(numbers).hexdigest()
    folder = settings_folder.expanduser() / ADAPTED
    names = (f"{base.name}+{out}-{digest[:letters]}" for letters in (_SHORT, len(digest)))
    name = next(one for one in names if not (folder / one).exists() or hash_of(folder / one) == digest)
    told = {"format": _FORMAT, "base": base.name, "on": asdict(on), "dimension": head.dimension, **said}
    place = folder / name
    half = place.with_name(f".{name}.{secrets.token_hex(4)}")
    try:
        half.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half.mkdir(mode=0o700)
        (half / _NUMBERS).write_bytes(numbers)
        (half / _SAID).write_text(json.dumps(told, indent=1), encoding="utf-8")
        (half / _PATIENTS).write_text("".join(f"{one}\n" for one in sorted(set(patients))), encoding="utf-8")
        if place.is_dir():  # the same numbers: made before, maybe with other words
            for file in half.iterdir():
                file.replace(place / file.name)
            half.rmdir()
        else:
            os.rename(half, place)  # noqa: PTH104 -- Path.rename says the same
    except OSError as error:
        raise SettingsError(f"the model cannot be kept in {place.parent} ({error.strerror})") from error
    return name


def check_out(out: str) -> None:
    """Raises SettingsError where no name can be made of what an archive is called."""
    if not _NAME.fullmatch(out) or len(out) > _LONGEST:
        raise SettingsError(
            f"the name of what is made has letters, digits, '-', '_' and '.' only, {_LONGEST} at most, and begins with "
            "a letter"
        )


def rows(settings_folder: Path, known: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """The rows of all derived models that are whole (`refuse_damaged` says what is wrong with another)."""
    found = {}
    for place in sorted((settings_folder / ADAPTED).glob("*/")):
        if not place.name.startswith("."):
            with contextlib.suppress(SettingsError):
                found[place.name] = _row(place, known)
    return found


def refuse_damaged(settings_folder: Path, name: str, known: Mapping[str, ModelSpec]) -> None:
    """Say what is wrong with a derived model that has no row.

    Raises:
        SettingsError: there is a folder of that name, and what is said in it is damaged, or its base is no model here.
    """
    place = settings_folder / ADAPTED / name
    if name and Path(name).name == name and place.is_dir():
        _row(place, known)


def _row(place: Path, known: Mapping[str, ModelSpec]) -> ModelSpec:
    told = described(place)
    base = known.get(told["base"])
    if base is None:
        raise SettingsError(f"{place}: it was derived from {told['base']}, which is no model here; remove the folder")
    of_base = re.compile(rf"{re.escape(base.name)}\+{_NAME.pattern}", re.IGNORECASE)
    if place.name in known or not of_base.fullmatch(place.name):
        raise SettingsError(f"{place} is named as no model that was derived from {base.name}; remove the folder")
    return replace(
        base,
        name=place.name,
        family="adapted",
        dimension=told["dimension"],
        text=False,
        context=0,
        blocks=(),
        precisions=(cast("Precision", told["on"]["precision"]),),
        shares=base.folder_name,
        notes=f"Learned from {told.get('images', '?')} labelled images of {told.get('patients', '?')} patients.",
        base=base,
        head=place,
    )


def described(place: Path) -> dict[str, Any]:
    """What is said of a derived model. Raises SettingsError where that is damaged."""
    try:
        told = json.loads(_content(place / _SAID))
        on = Fingerprint(**told["on"])
        sound = told["format"] == _FORMAT and type(told["dimension"]) is int and told["dimension"] > 0
        sound = sound and isinstance(told["base"], str) and on.precision in get_args(Precision)
    except _DAMAGED as error:
        raise SettingsError(f"{place / _SAID} is damaged; remove the folder, and adapt again") from error
    if not sound:
        raise SettingsError(f"{place / _SAID} is of another version; remove the folder, and adapt again")
    return cast("dict[str, Any]", told)


def _content(file: Path) -> bytes:
    """All of a plain file. Raises OSError where it is none, or larger than any of ours."""
    with open_plain(file) as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return content


def trained_on(place: Path) -> Fingerprint:
    """The fingerprint of the vectors that the head was trained on."""
    return Fingerprint(**described(place)["on"])


def refuse_other_base(spec: ModelSpec, here: Fingerprint) -> None:
    """Refuse to derive vectors from others than the head was trained on.

    Args:
        spec: the derived row.
        here: the fingerprint of its base as it is here, or in an index.

    Raises:
        ModelUnavailableError: it differs; the message says in what.
    """
    assert spec.head is not None  # noqa: S101 -- for the type checker: the caller has seen that it has a head
    differences = trained_on(spec.head).differences(here)
    if differences:
        raise ModelUnavailableError(
            f"{spec.name} was learned on other vectors of {here.model}: {'; '.join(differences)}; adapt again"
        )


def patients_of(place: Path) -> frozenset[str]:
    """Pseudonyms of the training patients. Raises SettingsError where the list is lost."""
    try:
        return frozenset(_content(place / _PATIENTS).decode().split("\n")) - {""}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{place / _PATIENTS} cannot be read: nobody can tell whom the model knows") from error


def hash_of(place: Path) -> str:
    """Of the head's numbers. Raises SettingsError where they cannot be read."""
    try:
        return hashlib.sha256(_content(place / _NUMBERS)).hexdigest()
    except OSError as error:
        raise SettingsError(f"{place / _NUMBERS} cannot be read ({error.strerror})") from error


def load(spec: ModelSpec) -> Head:
    """The head of a row that was derived.

    Raises:
        SettingsError: its numbers are damaged, or do not fit its base.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpacked

    assert spec.base is not None  # noqa: S101 -- for the type checker: the caller has seen that it has a head
    assert spec.head is not None  # noqa: S101 -- likewise
    file = spec.head / _NUMBERS
    try:
        numbers = {name: value.astype(np.float32) for name, value in unpacked(_content(file)).items()}
        landmarks, widths, projection, offset, outputs, shares = (numbers[name] for name in _TENSORS)
    except (*_DAMAGED, SafetensorError) as error:
        raise SettingsError(f"{file} is damaged; remove the folder, and adapt again") from error
    parts = spec.base.parts
    marks = len(landmarks)
    shapes = {
        "landmarks": (marks, spec.base.dimension), "widths": (len(parts),), "projection": (marks, spec.dimension),
        "offset": (spec.dimension,), "outputs": shares.shape, "shares": shares.shape,
    }  # fmt: skip
    sound = marks > 0 and all(numbers[name].shape == shape for name, shape in shapes.items())
    sound = sound and all(np.isfinite(value).all() for value in numbers.values()) and bool((widths > 0).all())
    sound = sound and bool((outputs >= 1).all() and (shares > 0).all()) and int(outputs.sum()) == spec.dimension
    if not sound:
        raise SettingsError(f"{file} does not fit its model; remove the folder, and adapt again")
    lengths = tuple(int(length) for length in outputs)
    return Head(parts, landmarks, widths, projection, offset, lengths, tuple(float(share) for share in shares))
