"""The pool of worker processes without processes: starting those takes a second, and few tests are about them."""

from concurrent.futures import Future
from typing import Any

from radsearch.reading.isolation import Limits, Pending
from radsearch.reading.worker import Raised, attempt


class InlinePool:
    """Does the work where it is begun, with the worker's own answer to whatever is raised."""

    def __init__(self, order: Any, workers: int, limits: Limits) -> None:  # noqa: ARG002 -- the pool's own signature
        self._order = order

    def begin(self, task: Any, items: Any) -> Pending[Any]:
        future: Future[list[Any]] = Future()
        answers = [attempt(task, self._order, item) for item in items]
        raised = next((answer.error for answer in answers if isinstance(answer, Raised)), None)
        if raised is not None:
            future.set_exception(raised)
        else:
            future.set_result(answers)
        return Pending(future)

    def close(self) -> None:
        pass
