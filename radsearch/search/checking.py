"""Is there any image that a filter's values mean? Asked before a search, so that a misspelt one is said."""

from radsearch.errors import UnknownNameError
from radsearch.index import Index
from radsearch.search.told import CHECKED_FIELDS
from radsearch.study import XR_CODES, SearchFilter


def require_values(index: Index, where: SearchFilter) -> None:
    """Refuse values that no indexed image has, with the list of those that there are.

    Raises:
        UnknownNameError: the message names the values and the nearest one.
    """
    for name in CHECKED_FIELDS:
        of_pathology = (*where.pathology_none, *where.pathology_all) if name == "pathology" else ()
        asked = {
            *getattr(where, name, ()),
            *of_pathology,
            *where.any_of.get(name, ()),
            *where.none_of.get(name, ()),
        }
        for value in sorted(asked):
            if not index.about(SearchFilter(any_of={name: (value,)})):
                present = [str(one) for one in index.facets(name, SearchFilter())]
                present += ["XR"] if name == "modality" and {*XR_CODES}.intersection(present) else []
                raise UnknownNameError(name, value, present, where=f"the index {index.location} holds")
