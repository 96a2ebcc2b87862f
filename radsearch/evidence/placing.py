"""Where a patch of a model lies on the picture: what `preprocessing.plan` does to a picture, undone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radsearch.models.preprocessing import Plan, plan
from radsearch.models.spec import Preprocessing
from radsearch.study import Vectors

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One direction of a picture, in its pixels and in those of the model's input.

    length: of the picture. shift: added to its pixels' places before they are scaled. scale: then. first: of what was
    scaled, the model's input begins here. patches: of the map, over `size` pixels of the input.
    """

    length: int
    shift: int
    scale: float
    first: int
    patches: int
    size: int

    def input_of(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Places on the picture -> on the model's input."""
        return (places + self.shift) * self.scale - self.first

    def edge(self, patch: int) -> float:
        """Where a patch begins on the picture, which may be beside it."""
        return (patch * self.size / self.patches + self.first) / self.scale - self.shift


class Placing:
    """The way between a map's patches and the pixels of one picture."""

    def __init__(self, height: int, width: int, sides: tuple[int, int], how: Preprocessing) -> None:
        """Args: height, width: of the picture. sides: rows and columns of the map. how: as the model got it."""
        steps = plan(height, width, how)
        self._down = _axis_down(steps, height, sides[0], how)
        self._across = _axis_across(steps, width, sides[1], how)

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """(rows, columns) of the map: whose middle lies on the picture, and not on what it was filled up with."""
        down, across = (_middles(axis) for axis in (self._down, self._across))
        inside: npt.NDArray[np.bool_] = down[:, None] & across[None, :]
        return inside

    def spread(self, values: Vectors, height: int, width: int) -> Vectors:
        """A map's values over the picture drawn with that height and width, float32; NaN where the model saw nothing.

        Between the middles of patches they are interpolated; beyond the last ones they stay as these are.
        """
        down, across = _weights(self._down, height), _weights(self._across, width)
        spread: Vectors = (down @ values.astype(np.float64) @ across.T).astype(np.float32)
        return spread

    def box(self, patch: tuple[int, int]) -> Box:
        """(left, top, right, bottom) of a patch in pixels of the picture, cut to it."""
        (top, bottom), (left, right) = (
            (_within(axis.edge(number), axis), _within(axis.edge(number + 1), axis))
            for axis, number in zip((self._down, self._across), patch, strict=True)
        )
        return left, top, right, bottom


def _axis_down(steps: Plan, height: int, patches: int, how: Preprocessing) -> _Axis:
    scale = steps.height / (steps.canvas or height - 2 * steps.above)
    return _Axis(height, steps.canvas_top - steps.above, scale, steps.top, patches, how.size)


def _axis_across(steps: Plan, width: int, patches: int, how: Preprocessing) -> _Axis:
    scale = steps.width / (steps.canvas or width - 2 * steps.before)
    return _Axis(width, steps.canvas_left - steps.before, scale, steps.left, patches, how.size)


def _middles(axis: _Axis) -> npt.NDArray[np.bool_]:
    middles = np.array([(axis.edge(patch) + axis.edge(patch + 1)) / 2 for patch in range(axis.patches)])
    inside: npt.NDArray[np.bool_] = (middles >= 0) & (middles < axis.length)
    return inside


def _within(edge: float, axis: _Axis) -> float:
    return min(max(edge, 0.0), float(axis.length))


def _weights(axis: _Axis, drawn: int) -> npt.NDArray[np.float64]:
    """(drawn, patches): how much each patch counts for each line of pixels; NaN for what the model did not see."""
    places = (np.arange(drawn) + 0.5) * axis.length / drawn
    inputs = axis.input_of(places)
    patches = inputs * axis.patches / axis.size - 0.5
    below = np.clip(np.floor(patches), 0, axis.patches - 1).astype(int)
    above = np.minimum(below + 1, axis.patches - 1)
    share = np.clip(patches - below, 0.0, 1.0)
    weights = np.zeros((drawn, axis.patches))
    lines = np.arange(drawn)
    np.add.at(weights, (lines, below), 1.0 - share)
    np.add.at(weights, (lines, above), share)
    weights[(inputs < 0) | (inputs > axis.size)] = np.nan
    return weights
