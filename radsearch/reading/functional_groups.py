"""Enhanced multi-frame objects: where an attribute of one frame stands (PS3.3 C.7.6.16)."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

GROUP_TAGS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def group_with(header: Dataset, frame_index: int, macro: str, keyword: str) -> Dataset:
    """The item that holds `keyword` for this frame: its own functional group, the shared one, or the header itself."""
    for item in _functional_groups(header, frame_index):
        sequence = item.get(macro)
        if sequence and keyword in sequence[0]:
            item_found: Dataset = sequence[0]
            return item_found
    return header


def _functional_groups(header: Dataset, frame_index: int) -> Iterator[Dataset]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    if frame_index < len(per_frame):
        yield per_frame[frame_index]
    yield from (header.get("SharedFunctionalGroupsSequence") or [])[:1]
