"""What to say where a model is not the one that an index was made with, and what to do then."""

from dataclasses import replace

from radsearch.study import Fingerprint


def made_otherwise(location: str, held: Fingerprint, here: Fingerprint) -> str:
    """Of a model that the index holds: in what the one here differs, and the way out."""
    way_out = "build a new index, or use the version that built this one"
    if replace(here, precision=held.precision) == held:
        way_out = f"set RADSEARCH_PRECISION to {held.precision}, or leave it open, or build a new index"
    elif bool(here.blanking) != bool(held.blanking):
        way_out = f"{way_back(held)}, or build a new index"
    elif replace(here, weights=held.weights) == held:
        way_out = (
            "bring the weights that it was built with (another revision or copy of them is here now), "
            "or build a new index"
        )
    differences = "; ".join(held.differences(here))
    return f"the vectors of {here.model} in the index {location} were made otherwise ({differences}); {way_out}"


def blanked_otherwise(location: str, held: Fingerprint, new: Fingerprint) -> str:
    """Of a model that is new to the index, whose pictures would be others than those of the models there."""
    theirs, its = (one.blanking or "with their text" for one in (held, new))
    return (
        f"{new.model} would see other pictures than the models of the index {location} "
        f"({theirs} -> {its}); {way_back(held)}, or build a new index"
    )


def way_back(held: Fingerprint) -> str:
    """To the pictures that the index was made of."""
    return f"set RADSEARCH_BLANK_TEXT to {int(bool(held.blanking))}"
