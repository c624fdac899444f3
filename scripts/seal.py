"""Seal the logs: extend each session's hash chain by what is new, and sign where all chains stand.

The key is never in Redis. Make one with --new-key FILE: FILE.pub is for those who verify. Run this where the users of
Redis cannot read FILE, once, or with --every SECONDS for good; and keep a manifest (--manifest FILE) where they cannot
write. Then `verify.py` tells whether anything that was sealed has been changed.

Exit codes: 0 if everything is sealed; 1 if something was not, because it is not what it was; 2 if it could not begin.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

try:
    import anyio
    import typer
    from auditing import showing
    from auditing.options import Key, replace, signer_of, text_of
    from command import Code, Script
    from options import LOCAL, Archive, Json, Namespace, Url, store_of

    from eventstore import SealsDoubtful
    from eventstore.proof.manifests import encode
    from eventstore.proof.signing import public_key, write_new_key
    from eventstore.store import DEFAULT_NAMESPACE
    from projections.sealing.sealer import Round, Sealer
    from workers.sealing import SealingWorker
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")

main = Script(__doc__)


def _interval(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise typer.BadParameter("it takes a number of seconds above 0")
    return seconds


@main.command
async def seal(
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    new_key: Annotated[Path | None, typer.Option(metavar="FILE", help="make a key and do nothing else")] = None,
    key: Key = None,
    trusted: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="the public key of an earlier signer, on whose seals to build; may be given more than once",
        ),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the newest seals here, after every round")
    ] = None,
    roots_only: Annotated[
        bool,
        typer.Option("--roots-only", help="leave the sessions out of the manifest: it is small, and tells less"),
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(callback=_interval, metavar="SECONDS", help="go on until SIGTERM, and seal at this interval"),
    ] = None,
    as_json: Json = False,
) -> int:
    """Seal."""
    if new_key is not None:
        made = write_new_key(new_key)
        print(f"{new_key} is the key: keep it from Redis and its users. {new_key}.pub verifies.")
        print(f"Its id is {made.key_id}.")
        return Code.DONE
    signer, believed = signer_of(key), [public_key(text_of(path)) for path in trusted or ()]
    async with store_of(url, namespace, archive, create=every is not None) as store:
        sealer = Sealer(store, signer, believed)

        async def sealed(done: Round) -> None:
            if manifest is not None:
                replace(manifest, encode(await sealer.manifest(heads=not roots_only)))
            _tell(done, as_json=as_json)

        if every is not None:
            return await _until_signal(sealer, every, sealed)
        done = await sealer.seal()
        await sealed(done)
        return Code.WRONG if done.findings else Code.DONE


async def _until_signal(sealer: Sealer, every: float, sealed: Callable[[Round], Awaitable[None]]) -> int:
    """Seal until a signal."""
    refused = False
    doubtful: SealsDoubtful | None = None

    async def noted(done: Round) -> None:
        nonlocal refused
        refused = refused or bool(done.findings)
        await sealed(done)

    worker = SealingWorker(sealer, every=every, sealed=noted)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                nonlocal doubtful
                try:
                    await worker.run()
                except SealsDoubtful as error:
                    doubtful = error
                tasks.cancel_scope.cancel()

            tasks.start_soon(work)
            async for _ in signals:
                await worker.stop()
    if doubtful is not None:
        raise doubtful
    return Code.WRONG if refused else Code.DONE


def _tell(done: Round, *, as_json: bool) -> None:
    if as_json:
        told = {"seals": done.seals, "sessions": done.sessions, "events": done.events}
        print(showing.as_json({**told, "findings": showing.findings(done.findings)}), flush=True)
        return
    print(f"Sealed {done.events:,} new events of {done.sessions:,} sessions with {done.seals:,} seals.", flush=True)
    if done.findings:
        showing.findings_table(done.findings)


if __name__ == "__main__":
    sys.exit(main())
