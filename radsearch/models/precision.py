"""In which precision a model runs: bfloat16 or float16 only where the row allows it and there are units."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from radsearch.errors import SettingsError
from radsearch.models.spec import ModelSpec, Precision

# What Linux calls the units of x86 (AVX-512, AMX) and of ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_precision(spec: ModelSpec, wanted: str, device: str) -> Precision:
    """The precision of a model that an index does not hold yet (one that it holds keeps its own).

    Args:
        spec: its row says what it may run in, best first.
        wanted: one of these, or `auto` for the first that the device has units for.
        device: as torch names it.

    Raises:
        SettingsError: the row does not allow what is wanted.
    """
    if wanted == "auto":
        fitting = [precision for precision in spec.precisions if _has_units(precision, device)]
        return fitting[0] if fitting else spec.precisions[0]
    for precision in spec.precisions:
        if precision == wanted:
            return precision
    if wanted not in _DTYPES:
        raise SettingsError(f"RADSEARCH_PRECISION is auto, {', '.join(_DTYPES)}, not {wanted!r}")
    allowed = " or ".join(spec.precisions)
    raise SettingsError(f"{spec.name} may run in {allowed} only, not in {wanted}: leave RADSEARCH_PRECISION at auto")


def dtype_of(precision: Precision) -> torch.dtype:
    """As torch names it."""
    return _DTYPES[precision]


def narrow(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights of the products in that precision, as autocast would make them in every pass."""
    for part in module.modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)):
            part.to(dtype)


def _has_units(precision: Precision, device: str) -> bool:
    if precision == "float32":
        return True
    if device.startswith("cuda"):
        return precision == "float16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and precision == "bfloat16" and bool(_BFLOAT16_FLAGS & _processor_flags())


def _processor_flags() -> set[str]:
    """What the processor says that it can; nothing where Linux is not there to say it."""
    described = Path("/proc/cpuinfo")
    if os.name != "posix" or not described.is_file():
        return set()
    return _flags(described.read_text(encoding="utf-8", errors="replace").splitlines())


def _flags(lines: Sequence[str]) -> set[str]:
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(flags.split())
    return set()
