"""Which frames of a file are taken: every one of a volume, a few evenly spaced ones of a cine."""

from dataclasses import dataclass

from radsearch.settings import Settings


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """The most frames that are taken of one file; 0 for all.

    cine: of a film, whose neighbouring frames show nearly the same (ultrasound, angiography, fluoroscopy).
    volume: of all other multi-frame objects (enhanced CT and MR, tomosynthesis, NIfTI), whose frames are slices.
    """

    cine: int
    volume: int

    def of(self, frames: int, *, is_cine: bool) -> tuple[int, ...]:
        """The numbers, from 1, of the frames taken out of `frames`."""
        return evenly_spaced(frames, self.cine if is_cine else self.volume)


ALL_FRAMES = FrameChoice(cine=0, volume=0)


def choice_of(settings: Settings) -> FrameChoice:
    """The choice that the settings ask for."""
    return FrameChoice(settings.cine_frames, settings.volume_frames)


def evenly_spaced(frames: int, most: int) -> tuple[int, ...]:
    """At most so many numbers of 1 .. frames: the middles of equal parts; all where `most` is 0.

    Of 120 frames and 4: 16, 46, 76, 106 (the parts are 30 frames long, and have their middles at 15.5, 45.5, ...).
    """
    if most == 0 or frames <= most:
        return tuple(range(1, frames + 1))
    return tuple((2 * part + 1) * frames // (2 * most) + 1 for part in range(most))
