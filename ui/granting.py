"""Who may see what: the file of `RADSEARCH_ACCESS`, which gives data sets to groups of the identity provider's."""

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radsearch.errors import SettingsError

EVERYTHING = "*"
_LARGEST = 1 << 20  # bytes

Word = Annotated[str, Field(min_length=1)]


class Access(BaseModel):
    """As the file says it.

    groups: of the provider -> names of data sets; `*` for all, and for images of no data set. groups_claim: of the
    identity token, that holds a visitor's groups. name_claim: that the audit names him by. hours: that a login counts.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    groups: dict[Word, list[Word] | Literal["*"]] = Field(default_factory=dict)
    groups_claim: Word = "groups"
    name_claim: Word = "sub"
    hours: Annotated[float, Field(gt=0, le=24 * 30)] = 12.0

    def datasets_of(self, groups: Iterable[str]) -> tuple[str, ...] | None:
        """What somebody of these groups may see: names of data sets, none of them, or None for everything."""
        granted = [self.groups[name] for name in groups if name in self.groups]
        if EVERYTHING in granted or any(EVERYTHING in one for one in granted):
            return None
        return tuple(sorted({name for one in granted for name in one}))


# Where a login is asked for and no file says more: whoever the provider lets in may see everything.
ANYBODY = Access()


def read_access(file: Path) -> Access:
    """Read it; a change counts from the next click on.

    Raises:
        SettingsError: it cannot be read, or says something else. Nobody is let in then.
    """
    try:
        told = file.stat()
        return _access(file, (told.st_mtime_ns, told.st_ctime_ns, told.st_ino, told.st_size))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file of RADSEARCH_ACCESS cannot be read ({type(error).__name__})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("the file of RADSEARCH_ACCESS is no TOML") from error
    except ValidationError as error:
        where = str(error.errors()[0]["loc"][0])  # and not which group: who reads this is not let in
        raise SettingsError(f"the file of RADSEARCH_ACCESS has no usable {where}") from error


@lru_cache(maxsize=4)
def _access(file: Path, version: tuple[int, ...]) -> Access:  # noqa: ARG001 -- what it is kept by
    with file.open("rb") as stream:
        return Access.model_validate(tomllib.loads(stream.read(_LARGEST).decode("utf-8")))


def groups_in(claim: Any) -> tuple[str, ...]:
    """The names in a claim, which is a list of them, or one alone; what is neither has none."""
    if isinstance(claim, str):
        return (claim,)
    return tuple(one for one in claim if isinstance(one, str)) if isinstance(claim, list | tuple) else ()
