"""A run in words: its summary, and what has to be said beside its figures."""

from collections.abc import Mapping
from typing import Any

from radsearch.cells import printable

_LISTED = "listed"  # the images that a study names


def summary_lines(told: Mapping[str, Any]) -> list[str]:
    """The run in a few lines of plain text."""
    lines = [
        f"{told['protocol']}, {told['model'].get('model')}",
        f"{told['queries']:,} queries of {told['classes']} classes against {told['index']:,} images",
        f"chance: P@1 {told['chance']['P@1']:.3f}",
    ]
    for name, micro in told["micro"].items():
        low_high = told["interval"].get(name)
        interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
        lines.append(f"{name}: {micro:.3f}{interval}, macro {told['macro'][name]:.3f}")
    lines += [
        f"{level}: P@1 {one['P@1']['micro']:.3f}, macro {one['P@1']['macro']:.3f}"
        for level, one in told["levels"].items()
    ]
    if told["leak"]:
        lines.append(f"with the query's own patient allowed: P@1 {told['leak']['P@1']:.3f}")
    if told["contaminated"]:
        lines.append(f"CONTAMINATED: the model was trained on {', '.join(told['contaminated'])}")
    if unknown := unknown_training(told):
        lines.append(unknown)
    if told["index_recall"]["recall@10"] is not None:
        lines.append(f"the index's own search finds {told['index_recall']['recall@10']:.4f} of the ten nearest")
    if told["shared_patients"]:
        lines.append(f"{told['shared_patients']:,} patients have images among the queries and in the index")
    lines += [f"left out: {number:,} images: {reason}" for reason, number in told["dropped"].items()]
    lines += [f"  {name}: {number:,} without an image to be found" for name, number in told["lost_classes"].items()]
    return [printable(line) for line in lines]


def unknown_training(told: Mapping[str, Any]) -> str | None:
    """What a reader has to be told where it is not known whether the model has seen these images in training."""
    if told["contaminated"] is None:
        return "it is not known what the model was trained on: it may have seen these images"
    if told["training_unknown"]:
        return f"the model may have seen {told['training_unknown']:,} of the images in training: it is not known"
    return None


def without_ids(found: Any) -> Any:
    """What a study found, to be shown: without the lists of images, as an id may be a file's name."""
    if isinstance(found, dict):
        return {name: without_ids(value) for name, value in found.items() if name != _LISTED}
    return found
