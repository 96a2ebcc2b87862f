"""Rows that join others: several networks that see the same input, whose vectors side by side are one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from radsearch.errors import SettingsError, UnknownNameError
from radsearch.models.spec import ModelSpec

_STATED = frozenset({"joins", "family", "licence", "source", "notes"})
_LEAST = 2


def joined(name: str, stated: Mapping[str, Any], known: Mapping[str, ModelSpec]) -> ModelSpec:
    """The row that joins others: each of its blocks, and so each of theirs, counts alike.

    Args:
        name: its own.
        stated: `joins`, the names of the others, and what else it may say.
        known: rows by name.

    Raises:
        SettingsError: it says more, fewer than two are joined, one is unknown, or they see different inputs.
    """
    strange = sorted(stated.keys() - _STATED)
    if strange:
        raise SettingsError(f"a row with joins takes {strange[0]} over from the rows that it joins")
    for part in stated["joins"]:
        if part not in known:
            raise SettingsError(f"joins: {UnknownNameError('model', part, known)}")
    parts = tuple(known[part] for part in stated["joins"])
    if len(set(stated["joins"])) < max(_LEAST, len(parts)):
        raise SettingsError("joins names two rows or more, each once")
    _check_alike(parts)
    rest = {key: value for key, value in stated.items() if key != "joins"}
    return replace(
        parts[0],
        **{
            "notes": "",
            **rest,
            "name": name,
            "library": "joined",
            "joins": parts,
            "pooling": "vectors side by side",
            "dimension": sum(part.dimension for part in parts),
            "blocks": tuple(length for part in parts for length in part.parts),
            "config": (),
            "text": False,
            "context": 0,
            "text_tower": "",
            "gated": any(part.gated for part in parts),
            "precisions": tuple(one for one in parts[0].precisions if all(one in part.precisions for part in parts)),
            "trained_on": _together([part.trained_on for part in parts]),
        },
    )


def _check_alike(parts: Sequence[ModelSpec]) -> None:
    for part in parts[1:]:
        if part.preprocessing != parts[0].preprocessing:
            raise SettingsError(
                f"joins: {part.name} sees another input than {parts[0].name}; give it a row of its own with the same "
                "size, resize, interpolation and normalisation"
            )
    for part in parts:
        if part.joins or part.pooling.endswith("without padding"):
            raise SettingsError(f"joins: {part.name} joins others or leaves padding out: it cannot be one")
    if not set.intersection(*(set(part.precisions) for part in parts)):
        raise SettingsError("joins: no precision is allowed to all of them")


def _together(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Nothing where nothing is known of one: a list that is not whole would say too little."""
    return tuple(dict.fromkeys(one for names in lists for one in names)) if all(lists) else ()
