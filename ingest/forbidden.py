"""What the index holds of files that the policy refuses now: it leaves the index, unless a copy of them is allowed."""

from collections.abc import Mapping

from radsearch.index import Index, Stored
from radsearch.study import FileIdentity


class Forbidden:
    """Points that are to leave. Those of the refused content itself do so at once; others when the run is over.

    The others are of an earlier state of the file, whose pixels are the same; or of another file of the same instance,
    which may come yet, and may be allowed.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._at_once: list[str] = []
        self._later: dict[str, list[str]] = {}  # by instance: few, as only files that were changed have any

    def refuse(self, identity: FileIdentity, known: Mapping[str, Stored]) -> None:
        """A file is refused. `known`: what the index holds of its instance, by id."""
        own = {point for point, stored in known.items() if stored.payload.get("content") == identity.content}
        others = [point for point in known if point not in own]
        self._at_once += own
        if others:
            self._later[identity.instance] = others

    def allow(self, identity: FileIdentity) -> None:
        """A file is allowed: what the index holds of its instance stays, or is replaced by what is made of it."""
        self._later.pop(identity.instance, None)

    def take_out(self) -> int:
        """Delete what leaves at once; gives how many points."""
        gone, self._at_once = self._at_once, []
        if gone:
            self._index.delete(gone)
        return len(gone)

    def take_out_the_rest(self) -> int:
        """When no further copy comes."""
        gone, self._later = [point for points in self._later.values() for point in points], {}
        if gone:
            self._index.delete(gone)
        return len(gone)
