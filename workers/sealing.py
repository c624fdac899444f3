"""The sealing worker: seals what is new, again and again. It has the key, so it runs where Redis' users cannot look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from eventstore.errors import StoreRefused, StoreUnavailable
from eventstore.logs import get_logger
from projections.sealing.sealer import Round, Sealer

log = get_logger("sealing")


class SealingWorker:
    """Seals at intervals.

    It reads the heads of the sessions, not the feeds: so it holds up no trimming, and needs no consumer group. What is
    appended and changed between two seals is not proved; the interval is how long that may be.

    Args:
        sealer: What seals.
        every: Seconds between two rounds.
        sealed: Awaited after each round with what it did: an exporter of manifests, say.
    """

    def __init__(
        self, sealer: Sealer, *, every: float, sealed: Callable[[Round], Awaitable[None]] | None = None
    ) -> None:
        """Begin stopped."""
        self._sealer = sealer
        self._every = every
        self._sealed = sealed
        self._stopping = anyio.Event()

    async def run(self) -> None:
        """Seal until `stop` is called, and once more then.

        While the server is away it keeps trying.

        Raises:
            SealsDoubtful: The seals in the store cannot be believed: somebody has to look.
        """
        while True:
            last = self._stopping.is_set()
            try:
                done = await self._sealer.seal()
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("The server does not serve.", action="sealer_waiting", error=str(error))
            else:
                log.info("Sealed.", action="sealed", seals=done.seals, sessions=done.sessions, events=done.events)
                if self._sealed is not None:
                    await self._sealed(done)
            if last:
                return
            with anyio.move_on_after(self._every):
                await self._stopping.wait()

    async def stop(self) -> None:
        """Ask for a last round. `run` returns after it."""
        self._stopping.set()
