"""The devices that models run on."""

from pathlib import Path

from radsearch.errors import SettingsError


def expected_gpus(setting: str) -> int:
    """How many GPUs `RADSEARCH_DEVICE` will come to, as far as can be told without torch: 0 for a CPU."""
    if setting == "auto":
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
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
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            raise SettingsError(
                f"there is no device {name!r} here; RADSEARCH_DEVICE is auto, cpu, cuda, cuda:N, or several with commas"
            ) from error
    return names
