"""Where a hit matches what is searched by: both pictures side by side with the evidence on them, in a dialog."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from PIL import Image

from radsearch.errors import NothingToSearchError, RadSearchError
from radsearch.evidence.comparing import Compared, compare
from radsearch.index import Stored
from radsearch.search import Part
from radsearch.study import Fingerprint, Picture
from ui import session
from ui.door import stay
from ui.escaping import as_markdown
from ui.hiding import may_show
from ui.pictures import address_of, picture_of, webp_of
from ui.searching import Surroundings, Upload, usual_models
from ui.shared import around
from ui.state import State, sole_query
from ui.telling import say
from ui.viewer import View, show_picture

_WORDS = "Where do they match?"
_MEANING = (
    "The heat shows what each place adds to the cosine; frames of one number match best. It says what the "
    "similarity is made of. It does not find disease."
)
_FROM_THUMBNAIL = "the thumbnail is taken, as the original cannot be had here; the figure is not quite the search's."
_LEAST_BESIDE = 0.01  # of the cosine, to be worth a word


@dataclass(frozen=True, slots=True)
class _Query:
    """One of the images that are searched by: an upload, or an indexed one by its id. part: of its picture."""

    name: str
    upload: Upload | None = None
    point: str | None = None
    part: Part | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return self.upload.token if self.upload else None, self.point, self.part


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    compared: Compared
    notes: tuple[str, ...]


def draw_match() -> None:
    """The dialog, where it was asked for."""
    if st.session_state.get("matched"):
        _draw()


def _forget() -> None:
    for name in ("matched", "match-found"):
        st.session_state.pop(name, None)


@st.dialog(_WORDS, width="large", on_dismiss=_forget)
def _draw() -> None:
    stay()
    point = st.session_state.get("matched")
    queries = _queries(session.current(), session.uploads())
    if not (point and queries):
        return
    try:
        shared = around()
        query, model = _choose(queries, shared)
        found = _found(point, query, model, shared)
    except RadSearchError as error:
        say(str(error))
        return
    _show(found)
    state = session.current()
    if len(queries) > 1 or len(state.models) > 1 or state.disliked:
        st.caption("The score of the hit is of all that is searched by together; this is of two pictures by one model.")


def _queries(state: State, uploads: Sequence[Upload]) -> list[_Query]:
    """All images that are searched by; a part only where it is of the only one."""
    part = Part(*(edge / 1000 for edge in state.part)) if state.part and sole_query(state, uploads) else None
    files = [_Query(f"file {number}", upload, part=part) for number, upload in enumerate(uploads, 1)]
    ids = [_Query(f"image {number}", point=point, part=part) for number, point in enumerate(state.ids, 1)]
    liked = [_Query(f"liked {number}", point=point) for number, point in enumerate(state.liked, 1)]
    return [*files, *ids, *liked]


def _choose(queries: Sequence[_Query], shared: Surroundings) -> tuple[_Query, str]:
    """Of several images or models one at a time."""
    with shared.index() as index:
        models = session.current().models or usual_models(index.card, shared.settings)
    by_name = {query.name: query for query in queries}
    name, model = queries[0].name, models[0]
    with st.container(horizontal=True):
        if len(queries) > 1:
            name = st.selectbox("compared with", list(by_name), key="match-query", width=160)
        if len(models) > 1:
            model = st.selectbox("model", models, key="match-model", width=260)
    return by_name[name], model


def _found(point: str, query: _Query, model: str, shared: Surroundings) -> _Found:
    """Worked out once while the dialog shows the same."""
    key = point, query.key, model, shared.place
    kept: tuple[object, _Found] | None = st.session_state.get("match-found")
    if kept is None or kept[0] != key:
        with st.spinner("Comparing"):
            kept = key, _compare(point, query, model, shared)
        st.session_state["match-found"] = kept
    return kept[1]


def _compare(point: str, query: _Query, model: str, shared: Surroundings) -> _Found:
    """The index is not held while pictures are read or the model runs; it is asked as the visitor may ask it."""
    with shared.index() as index:
        asked = [one for one in (point, query.point) if one]
        points = {stored.id: stored for stored in index.retrieve(asked)}
        held = index.card.models.get(model)
    if any(one not in points for one in asked):
        raise NothingToSearchError("No image of that id is in the index.")
    if held is None:
        raise NothingToSearchError(f"The index holds no vectors of {model}.")
    shared.audit.note("open", ids=list(points))
    notes: list[str] = []
    of_query = _picture(query, points.get(query.point or ""), shared, notes)
    of_hit = _indexed(points[point], "the hit", shared, notes)
    _require_same(held, shared)
    with shared.embedders.using(held) as embedder:
        return _Found(compare(embedder, of_query, of_hit), tuple(notes))


def _require_same(held: Fingerprint, shared: Surroundings) -> None:
    """Raises IndexMismatchError where the model here is not the one of the index."""
    with shared.embedders.using(held) as embedder:
        fingerprint = embedder.fingerprint
    with shared.index() as index:
        index.check(fingerprint)


def _picture(query: _Query, stored: Stored | None, shared: Surroundings, notes: list[str]) -> Picture:
    if query.upload is not None:
        file = query.upload.file
    elif stored is not None and query.part is not None:
        file = shared.originals.query_file(stored)
    else:
        return _indexed(stored, "the query", shared, notes)
    return (file.cut(query.part) if query.part else file).shown.rendered.picture


def _indexed(stored: Stored | None, name: str, shared: Surroundings, notes: list[str]) -> Picture:
    """From the archive; else the thumbnail, with a note on why."""
    try:
        if stored is not None and shared.originals.are_known(stored):
            return shared.originals.picture(stored)
    except RadSearchError as error:
        notes.append(as_markdown(may_show(str(error), shared.settings)))
    notes.append(f"Of {name} {_FROM_THUMBNAIL}")
    kept = None if stored is None else picture_of(stored.payload.get("thumbnail"))
    if kept is None:
        raise NothingToSearchError(f"No picture of {name} is kept: set RADSEARCH_CATALOGUE, or ingest once more.")
    return np.asarray(Image.open(io.BytesIO(kept)).convert("RGB"))


def _show(found: _Found) -> None:
    heat = st.toggle("Show where", value=True, key="match-heat")
    drawn = found.compared.drawn(heat=heat)
    for column, image, name in zip(st.columns(2), drawn, ("query", "hit"), strict=True):
        with column:
            address = address_of(webp_of(np.asarray(image), max(image.size)))
            show_picture(View(address or "", f"The {name}", height="min(60vh, 520px)"), key=f"match-picture-{name}")
            st.caption(name)
    st.write(_figures(found.compared))
    st.caption(_MEANING)
    for note in found.notes:
        st.caption(note)


def _figures(found: Compared) -> str:
    pairs = ", ".join(f"{number}: {pair.share:.4f}" for number, pair in enumerate(found.evidence.pairs, 1))
    added = f"The brightest place adds {found.highest:.4f}, the framed pairs {pairs or 'nothing'}."
    words = [f"Cosine {found.cosine:.3f} by {found.model}.", added]
    if found.beside_exact:
        words.append(f"{found.beside_exact}.")
    beside = max(found.beside)
    if beside > _LEAST_BESIDE * abs(found.cosine):
        words.append(f"{beside:.3f} comes from what a picture was filled up with.")
    return " ".join(words)
