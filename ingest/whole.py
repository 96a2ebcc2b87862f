"""One run in this process: the pipeline's chunks, a few at a time."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ingest.pipeline import Ingestion
from ingest.sources import SourceFile

_TOLD_FILES = 64  # between two words of progress while files are looked at


def ingest_all(ingestion: Ingestion, files: Callable[[], Iterable[SourceFile]], progress: Callable[[], None]) -> None:
    """Run the whole pipeline in this process, a few chunks at a time."""
    under_way: set[Future[int]] = set()
    with ThreadPoolExecutor(ingestion.chunks_in_flight) as threads:
        try:
            for chunks in ingestion.passes(lambda: _telling(files(), progress)):
                for chunk in chunks:
                    under_way.add(threads.submit(ingestion.ingest_chunk, chunk))
                    if len(under_way) >= ingestion.chunks_in_flight:
                        under_way = _settle(under_way, progress)
                while under_way:
                    under_way = _settle(under_way, progress)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            ingestion.stop()  # or the chunks under way would be finished first
            raise
    progress()


def _telling(files: Iterable[SourceFile], progress: Callable[[], None]) -> Iterator[SourceFile]:
    for number, file in enumerate(files):
        if number % _TOLD_FILES == 0:
            progress()
        yield file


def _settle(under_way: set[Future[int]], progress: Callable[[], None]) -> set[Future[int]]:
    done, rest = wait(under_way, timeout=1.0, return_when=FIRST_COMPLETED)
    while not done:
        progress()
        done, rest = wait(under_way, timeout=1.0, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    progress()
    return rest
