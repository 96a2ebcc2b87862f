"""Parts of a large archive as flow runs of their own, which any worker of the pool can take."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Completed, Failed

from radsearch.errors import SettingsError

TRIES = 3  # of a part whose worker was killed
_POLL_SECONDS = 2.0
_LONELY_SECONDS = 120.0
_AWAY_SECONDS = 10.0


@dataclass(slots=True)
class _Part:
    number: int
    run: UUID | None = None
    tries: int = 0
    state: State[Any] | None = None

    @property
    def ended(self) -> bool:
        return self.state is not None and self.state.is_final()


@dataclass(slots=True)
class Partitions:
    """The parts of one archive, run by a deployment; of a part that crashed another run is made.

    deployment: of the flow that takes a part, `FLOW/NAME`. parameters: of every part; its number and the number of all
    are added. parts: how many.
    """

    deployment: str
    parameters: Mapping[str, Any]
    parts: int
    _parts: list[_Part] = field(default_factory=list)

    def run(self) -> State[Any]:
        """Start all, wait for all; Failed where a part is not completed in the end.

        Raises:
            SettingsError: there is no such deployment.
        """
        self._parts = [_Part(number) for number in range(1, self.parts + 1)]
        with get_client(sync_client=True) as client:
            try:
                client.read_deployment_by_name(self.deployment)
            except ObjectNotFound as error:
                raise SettingsError(f"there is no deployment {self.deployment} to run the parts") from error
            try:
                self._wait(client)
            except BaseException:
                self._cancel(client)
                raise
        return self._state()

    def _wait(self, client: SyncPrefectClient) -> None:
        progress = create_progress_artifact(0.0, key="partitions-progress", description=f"{self.parts} parts")
        assert isinstance(progress, UUID)  # noqa: S101 -- typed for callers in a coroutine too
        begun, said, ended = time.monotonic(), False, 0
        for part in self._parts:
            self._start(part)
        while not all(part.ended for part in self._parts):
            time.sleep(_POLL_SECONDS)
            for part in self._parts:
                if not part.ended:
                    self._look(client, part)
            if (now_ended := sum(part.ended for part in self._parts)) > ended:
                ended = now_ended
                update_progress_artifact(progress, 100.0 * ended / self.parts)
            waiting = all(part.state is None or part.state.type is StateType.SCHEDULED for part in self._parts)
            if waiting and not said and time.monotonic() - begun > _LONELY_SECONDS:
                said = True
                get_run_logger().warning("no worker has taken a part yet: is there one with room beside this run?")

    def _start(self, part: _Part) -> None:
        part.tries += 1
        run = run_deployment(
            self.deployment,
            parameters={**self.parameters, "part": part.number, "parts": self.parts},
            flow_run_name=f"part {part.number} of {self.parts}, try {part.tries}",
            timeout=0,
        )
        assert isinstance(run, FlowRun)  # noqa: S101 -- typed for callers in a coroutine too
        part.run, part.state = run.id, run.state

    def _look(self, client: SyncPrefectClient, part: _Part) -> None:
        assert part.run is not None  # noqa: S101 -- it was started
        try:
            part.state = client.read_flow_run(part.run).state
        except httpx.TransportError:  # the server is away for a moment; the parts go on without it
            get_run_logger().warning("Prefect's server does not answer: asked again")
            time.sleep(_AWAY_SECONDS)
            return
        if part.state is not None and part.state.type is StateType.CRASHED and part.tries < TRIES:
            get_run_logger().warning("part %d crashed and is run again", part.number)
            self._start(part)

    def _cancel(self, client: SyncPrefectClient) -> None:
        for part in self._parts:
            if part.run is not None and not part.ended:
                with suppress(httpx.HTTPError):
                    client.set_flow_run_state(part.run, Cancelling(message="the run of all parts has ended"))

    def _state(self) -> State[Any]:
        rows = [
            {
                "part": part.number,
                "tries": part.tries,
                "state": part.state.name if part.state else "",
                "message": (part.state.message or "") if part.state else "",
            }
            for part in self._parts
        ]
        create_table_artifact(rows, key="partitions", description=self.deployment)
        undone = [row for row in rows if row["state"] != "Completed"]
        if undone:
            reason = f"part {undone[0]['part']}: {undone[0]['message'] or undone[0]['state']}"
            return Failed(message=f"{len(undone)} of {self.parts} parts were not completed; {reason}")
        return Completed(message=f"{self.parts} parts completed")
