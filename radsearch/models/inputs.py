"""Pictures -> a network's batch: they travel to the device as bytes and are resized and normalised there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from radsearch.models.preprocessing import plan
from radsearch.models.resizing import resize
from radsearch.models.spec import Preprocessing
from radsearch.study import Picture

_BYTE_RANGE = 255.0
_LEAST_RANGE = 1e-8  # of a picture of one value, as MedSAM's own code has it
_GREY_AXES = 2
_FOUR_AXES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A network's input.

    pixels: (n, 3, size, size) float32, normalised. extents: (n, 2) rows and columns that the picture takes of it, from
    the upper left corner; None where it takes all.
    """

    pixels: torch.Tensor
    extents: torch.Tensor | None = None


class Inputs:
    """Makes batches on one device for one preprocessing."""

    def __init__(self, how: Preprocessing, device: torch.device) -> None:
        self._how = how
        self._device = device
        self._mean = torch.tensor(how.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(how.std, device=device).view(1, 3, 1, 1)

    def of_prepared(self, squares: Sequence[Picture]) -> Batch:
        """Of pictures that went through `prepare` with this preprocessing."""
        if self._how.resize != "longest":
            return Batch(self._normalised(self._stack(squares)))
        return self._padded([self._stack([square]) for square in squares])

    def of_pictures(self, pictures: Sequence[Picture]) -> Batch:
        """Of pictures as they were rendered, of any size: they are resized on the device, one shape at a time."""
        parts: list[torch.Tensor] = [torch.empty(0)] * len(pictures)
        for shape in {picture.shape for picture in pictures}:
            places = [place for place, picture in enumerate(pictures) if picture.shape == shape]
            stack = self._stack([pictures[place] for place in places])
            resized = resize(stack, plan(shape[0], shape[1], self._how), self._how.interpolation)
            for place, picture in zip(places, resized.split(1), strict=True):
                parts[place] = picture
        if self._how.resize == "longest":
            return self._padded(parts)
        return Batch(self._normalised(torch.cat([part.expand(-1, 3, -1, -1) for part in parts])))

    def _stack(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """(n, 1 or 3, rows, columns) float32 byte values on the device, of pictures of one height and width."""
        if all(picture.ndim == _GREY_AXES for picture in pictures):
            stacked = torch.from_numpy(np.stack(pictures)).unsqueeze(1)
        else:
            stacked = torch.from_numpy(np.stack([_coloured(picture) for picture in pictures])).permute(0, 3, 1, 2)
        if self._device.type == "cuda":
            stacked = stacked.pin_memory()  # so that the copy does not wait for the device
        return stacked.to(self._device, non_blocking=True).float()

    def _normalised(self, values: torch.Tensor) -> torch.Tensor:
        if self._how.scale == "min-max":
            least, most = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
            values = (values - least) / (most - least).clamp_min(_LEAST_RANGE)
            return ((values - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        normalised = (values - self._mean * _BYTE_RANGE) / (self._std * _BYTE_RANGE)
        return normalised.contiguous(memory_format=torch.channels_last)

    def _padded(self, parts: Sequence[torch.Tensor]) -> Batch:
        """Fill up with zeros after normalisation: Segment Anything's padding is no picture value."""
        size = self._how.size
        pixels = torch.zeros((len(parts), 3, size, size), device=self._device)
        for canvas, part in zip(pixels, parts, strict=True):
            canvas[:, : part.shape[2], : part.shape[3]] = self._normalised(part)[0]
        extents = torch.tensor([part.shape[2:] for part in parts], device=self._device)
        return Batch(pixels.contiguous(memory_format=torch.channels_last), extents)


def pooled_map(features: torch.Tensor) -> torch.Tensor:
    """(n, channels, rows, columns) -> (n, channels), the mean over the positions; what is pooled already stays."""
    return features.mean(dim=(2, 3)) if features.ndim == _FOUR_AXES else features


def mean_of_map(features: torch.Tensor, batch: Batch, *, without_padding: bool) -> torch.Tensor:
    """(n, channels, rows, columns) -> (n, channels): the mean over the positions, or over those that hold picture."""
    if not without_padding or batch.extents is None:
        return pooled_map(features)
    counts = held_positions(features.shape[2], features.shape[3], batch)
    return (features * counts).sum(dim=(2, 3)) / counts.sum(dim=(2, 3))


def held_positions(rows: int, columns: int, batch: Batch) -> torch.Tensor:
    """(n, 1, rows, columns): which positions of a map hold picture, and not padding alone."""
    device, size = batch.pixels.device, batch.pixels.shape[2]
    if batch.extents is None:
        return torch.ones((len(batch.pixels), 1, rows, columns), dtype=torch.bool, device=device)
    held = (batch.extents * torch.tensor([rows, columns], device=device) + size - 1) // size
    down = torch.arange(rows, device=device) < held[:, :1]
    across = torch.arange(columns, device=device) < held[:, 1:]
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


def _coloured(picture: Picture) -> npt.NDArray[np.uint8]:
    return picture if picture.ndim > _GREY_AXES else np.repeat(picture[..., None], 3, axis=2)
