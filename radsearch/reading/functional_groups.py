"""Enhanced multi-frame objects: where an attribute of one frame stands (PS3.3 C.7.6.16)."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

from radsearch.reading.elements import items_of

GROUP_TAGS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def group_with(header: Dataset, frame_index: int, macro: str, keyword: str) -> Dataset:
    """The item that holds `keyword` for this frame: its own functional group, the shared one, or the header itself."""
    for group in _functional_groups(header, frame_index):
        for item in items_of(group, macro)[:1]:
            if keyword in item:
                return item
    return header


def _functional_groups(header: Dataset, frame_index: int) -> Iterator[Dataset]:
    per_frame = items_of(header, GROUP_TAGS[0])
    if frame_index < len(per_frame):
        yield per_frame[frame_index]
    yield from items_of(header, GROUP_TAGS[1])[:1]
