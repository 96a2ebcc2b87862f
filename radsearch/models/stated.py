"""What a model's own files say of its preprocessing, held against its row; libraries are asked for defaults only."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radsearch.errors import ModelUnavailableError
from radsearch.models.spec import ModelSpec

_TOLERANCE = 1e-4
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
_BYTE_RANGE = 255.0
_SQUASHED_FROM = 384  # ConvNext's processor crops below this size only
_WHOLE_CROP = 1.0
# What transformers' processor classes have defaults for.
_PROCESSOR_KEYS = (
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "default_to_square"),
    *("size", "crop_size", "crop_pct", "pad_size", "resample", "rescale_factor", "image_mean", "image_std"),
)


def refuse_disagreement(spec: ModelSpec, folder: Path) -> None:
    """Check a row against the files of its weights, unless the row says that it departs from them.

    Raises:
        ModelUnavailableError: they state another preprocessing; every field is named with both values.
    """
    if not spec.own_preprocessing or spec.library not in _DIALECTS:
        return
    row = asdict(spec.preprocessing)
    where = "in its row" if spec.scheme == "path" else f'in a row of your own with like = "{spec.name}"'
    try:
        differing = [
            f"{field} {_said(value)} (the row: {_said(row[field])})"
            for field, value in stated_preprocessing(folder, spec.library).items()
            if not _same(value, row[field])
        ]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # the files hold anything
        raise ModelUnavailableError(
            f"what the files of {spec.name} state of its preprocessing is not understood "
            f"({type(error).__name__}: {' '.join(str(error).split())}); in models.toml, {where}, give the right values "
            "and own_preprocessing = false"
        ) from error
    if differing:
        raise ModelUnavailableError(
            f"the files of {spec.name} state another preprocessing than its row: {'; '.join(differing)}; "
            f"in models.toml, {where}, give the right values, or own_preprocessing = false to keep the row's"
        )


def stated_preprocessing(folder: Path, library: str = "") -> dict[str, object]:
    """What the files of a snapshot say, by the names of `Preprocessing`'s fields; nothing where they say nothing.

    A way to resize that `Preprocessing` does not know comes as words in `resize`.

    Args:
        folder: where the snapshot lies; it may hold files of several libraries.
        library: whose files count; without it, the first that there are.

    Raises:
        ModelUnavailableError: a file that counts is no JSON.
    """
    for name, dialect in _DIALECTS.items():
        stated = dialect(folder) if library in ("", name) else {}
        if stated:
            return stated
    return {}


def _of_transformers(folder: Path) -> dict[str, object]:
    """As in transformers, `processor_config.json` goes before `preprocessor_config.json`; timm's file comes last."""
    config = _read(folder / "processor_config.json").get("image_processor")
    config = config or _read(folder / "preprocessor_config.json")
    if not config:
        return _of_timm(folder)
    given = {key: value for key, value in config.items() if value is not None}
    says = {**_defaults_of_processor(given, folder), **given}
    return {**_geometry(says), **_normalisation(says)}


def _defaults_of_processor(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the processor's class assumes where its file is silent; an unknown class is taken at its word."""
    import transformers
    from transformers.models.auto import image_processing_auto as known

    name = given.get("image_processor_type") or given.get("feature_extractor_type")
    if name is None:
        model_type = str(_read(folder / "config.json").get("model_type"))
        name = known.IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type, {}).get("torchvision") or ""  # type: ignore[attr-defined]
    kind = getattr(transformers, name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast"), None)
    if kind is None:
        steps = {"do_resize": "size", "do_center_crop": "crop_size", "do_pad": "pad_size"}
        return {"do_rescale": True, "do_normalize": True, **{step: key in given for step, key in steps.items()}}
    return {key: getattr(kind, key) for key in _PROCESSOR_KEYS if getattr(kind, key, None) is not None}


def _geometry(says: Mapping[str, Any]) -> dict[str, object]:
    if not says.get("do_resize") or not says.get("size"):
        return {}
    size = _sides(says["size"], square=says.get("default_to_square", True))
    crop = _sides(says.get("crop_size") or {}, square=True) if says.get("do_center_crop") else {}
    interpolation = {"interpolation": _RESAMPLE[says["resample"]]} if "resample" in says else {}
    if size.keys() == {"height", "width"} and size["height"] == size["width"] and crop in ({}, size):
        return {"size": size["height"], "resize": "squash", **interpolation}
    if size.keys() == {"shortest_edge"}:
        return {**_shortest(size["shortest_edge"], crop, says.get("crop_pct")), **interpolation}
    padded = _sides(says.get("pad_size") or {}, square=True) if says.get("do_pad") else {}
    if size.keys() == {"longest_edge"} and set(padded.values()) == {size["longest_edge"]} and not crop:
        return {"size": size["longest_edge"], "resize": "longest", **interpolation}
    return {"resize": f"to {size}" + (f", then cropped to {crop}" if crop else ""), **interpolation}


def _shortest(edge: int, crop: Mapping[str, int], crop_pct: float | None) -> dict[str, object]:
    """With `crop_pct` as ConvNext's processor, which resnet-50 has too."""
    if crop_pct is not None and not crop:
        if edge >= _SQUASHED_FROM:
            return {"size": edge, "resize": "squash"}
        return {"size": edge, "resize": "shortest", "shortest_side": int(edge / crop_pct)}
    if len(set(crop.values())) == 1 and crop["height"] <= edge:
        return {"size": crop["height"], "resize": "shortest", "shortest_side": edge}
    return {"resize": f"shortest to {edge}, " + (f"then cropped to {crop}" if crop else "not cropped")}


def _sides(size: Any, *, square: bool) -> dict[str, int]:
    """One number is both sides or, where the class says so, the shorter one; two are height and width."""
    if isinstance(size, Mapping):
        return {key: value for key, value in size.items() if value is not None}
    if isinstance(size, int):
        return {"height": size, "width": size} if square else {"shortest_edge": size}
    return {"height": size[0], "width": size[-1]}


def _normalisation(says: Mapping[str, Any]) -> dict[str, object]:
    """Mean and deviation on values of 0 to 1, whatever scale the file has them on."""
    if says.get("do_normalize") and not {"image_mean", "image_std"} <= says.keys():
        return {}
    scale = _BYTE_RANGE * (says.get("rescale_factor", 1 / _BYTE_RANGE) if says.get("do_rescale") else 1.0)
    mean, std = (says["image_mean"], says["image_std"]) if says.get("do_normalize") else (0.0, 1.0)
    return {"mean": _three(mean, scale), "std": _three(std, scale)}


def _of_open_clip(folder: Path) -> dict[str, object]:
    """The network's own size goes before that of the preprocessing, as in open_clip itself."""
    config = _read(folder / "open_clip_config.json")
    if "model_cfg" not in config:
        return {}
    from open_clip import CLIPVisionCfg
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    says = merge_preprocess_dict(PreprocessCfg(), config.get("preprocess_cfg") or {})
    sides = config["model_cfg"]["vision_cfg"].get("image_size", CLIPVisionCfg.image_size)
    ways = {"squash": "squash", "shortest": "shortest", "longest": "longest, centred in a square"}
    return {
        **_square(sides, ways[says["resize_mode"]], 1.0),
        "interpolation": says["interpolation"],
        "mean": _three(says["mean"]),
        "std": _three(says["std"]),
    }


def _of_timm(folder: Path) -> dict[str, object]:
    """`config.json` with a `pretrained_cfg`, or in its older form without."""
    config = _read(folder / "config.json")
    if "architecture" not in config:
        return {}
    from timm.data.config import resolve_data_config

    own = config.get("pretrained_cfg") or config
    says = resolve_data_config({}, pretrained_cfg=own)
    ways = {"center": "shortest", "squash": "squash", "border": "longest, with a border"}
    return {
        **_square(list(says["input_size"][1:]), ways.get(says["crop_mode"], "shortest"), says["crop_pct"]),
        "interpolation": says["interpolation"],
        "mean": _three(says["mean"]),
        "std": _three(says["std"]),
    }


def _square(sides: Any, way: str, crop_pct: float) -> dict[str, object]:
    """What open_clip and timm do: scale to the side over `crop_pct`, rounded down, then crop the centre."""
    size = _sides(sides, square=True)
    side = size["height"]
    if side != size["width"]:
        return {"resize": f"to {size}"}
    if way == "squash" and crop_pct != _WHOLE_CROP:
        return {"size": side, "resize": f"squash to {math.floor(side / crop_pct)}, then cropped to {side}"}
    shorter = {"shortest_side": math.floor(side / crop_pct)} if way == "shortest" else {}
    return {"size": side, "resize": way, **shorter}


_DIALECTS: dict[str, Callable[[Path], dict[str, object]]] = {
    "transformers": _of_transformers,
    "open_clip": _of_open_clip,
    "timm": _of_timm,
}


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelUnavailableError(f"{file} is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _three(numbers: Any, scale: float = 1.0) -> tuple[float, ...]:
    several = [numbers] if isinstance(numbers, (int, float)) else list(numbers)
    return tuple(number / scale for number in (several * 3 if len(several) == 1 else several))


def _same(stated: object, row: object) -> bool:
    if isinstance(stated, tuple) and isinstance(row, tuple):
        return len(stated) == len(row) and all(map(_same, stated, row))
    if isinstance(stated, (int, float)) and isinstance(row, (int, float)):
        return math.isclose(stated, row, rel_tol=0, abs_tol=_TOLERANCE)
    return stated == row


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_said, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)
