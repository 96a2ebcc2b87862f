"""The devices that models run on."""

import os
from pathlib import Path

from radsearch.errors import SettingsError

_KINDS = ("cpu", "cuda")


def expected_gpus(setting: str) -> int:
    """How many GPUs `RADSEARCH_DEVICE` will come to, as far as can be told without torch: 0 for a CPU."""
    if setting == "auto":
        present = len(list(Path("/dev").glob("nvidia[0-9]*")))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return present
        names = [name.strip() for name in visible.split(",")]
        hidden = next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))
        return min(present, hidden)  # CUDA looks no further than the first that is none
    return sum(name.strip().startswith("cuda") for name in setting.split(","))


def devices_of(setting: str) -> list[str]:
    """The devices that `RADSEARCH_DEVICE` names: `auto` is every GPU there is, or the CPU; several go with commas.

    Raises:
        SettingsError: there is no such device.
    """
    import torch

    if setting == "auto":
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]
    names = [name.strip() for name in setting.split(",") if name.strip()]
    for name in names or [setting]:
        try:
            found = torch.device(name).type in _KINDS and torch.empty(0, device=name).ndim == 1
        except (RuntimeError, AssertionError):
            found = False
        if not found:
            raise SettingsError(
                f"there is no device {name!r} here; RADSEARCH_DEVICE is auto, cpu, cuda, cuda:N, or several with commas"
            )
    return names
