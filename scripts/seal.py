"""Seal the logs: extend each session's hash chain by what is new, and sign where all chains stand.

The key is never in Redis. Make one with --new-key FILE: FILE.pub is for those who verify. Run this where the users of
Redis cannot read FILE, once, or with --every SECONDS for good; and keep a manifest (--manifest FILE) where they cannot
write. Then `verify.py` tells whether anything that was sealed has been changed.
"""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

try:
    import anyio
    from auditing import showing
    from auditing.options import parser, replace, signer_of, text_of

    from eventstore import ContextEngineError, InvalidInput, SealsDoubtful, open_store
    from eventstore.proof.manifests import encode
    from eventstore.proof.signing import public_key, write_new_key
    from projections.sealing.sealer import Round, Sealer
    from workers.sealing import SealingWorker
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Seal.

    Returns:
        0 if everything is sealed; 1 if something was not, because it is not what it was; 2 if it could not begin.
    """
    options = _options(arguments)
    try:
        if options.new_key is not None:
            made = write_new_key(options.new_key)
            print(f"{options.new_key} is the key: keep it from Redis and its users. {options.new_key}.pub verifies.")
            print(f"Its id is {made.key_id}.")
            return 0
        return anyio.run(_run, options)
    except ContextEngineError as error:
        print(showing.as_json({"stopped": str(error)}) if options.json else showing.printable(str(error)))
        return 2


def _options(arguments: Sequence[str] | None) -> Namespace:
    made = parser(__doc__)
    made.add_argument("--new-key", type=Path, metavar="FILE", help="make a key and do nothing else")
    made.add_argument("--key", type=Path, metavar="FILE", help="the key (default: CONTEXTENGINE_SEAL_KEY)")
    made.add_argument(
        "--trusted",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the public key of an earlier signer, on whose seals to build; may be given more than once",
    )
    made.add_argument("--manifest", type=Path, metavar="FILE", help="write the newest seals here, after every round")
    made.add_argument(
        "--roots-only", action="store_true", help="leave the sessions out of the manifest: it is small, and tells less"
    )
    made.add_argument("--every", type=float, metavar="SECONDS", help="go on until SIGTERM, and seal at this interval")
    options = made.parse_args(arguments)
    if options.every is not None and not 0 < options.every < float("inf"):
        made.error("--every takes a number of seconds above 0")
    return options


async def _run(options: Namespace) -> int:
    signer = signer_of(options.key)
    trusted = [public_key(text_of(path)) for path in options.trusted]
    if options.url.startswith("memory:"):
        raise InvalidInput("Another process's memory cannot be sealed: use redis:// or embedded:///directory.")
    async with open_store(options.url, namespace=options.namespace, archive=options.archive) as store:
        sealer = Sealer(store, signer, trusted)
        if options.every is None:
            done = await sealer.seal()
            await _write(options, sealer)
            _tell(options, done)
            return 1 if done.findings else 0
        return await _go_on(options, sealer)


async def _go_on(options: Namespace, sealer: Sealer) -> int:
    """Seal until a signal."""
    refused = False
    doubtful: SealsDoubtful | None = None

    async def sealed(done: Round) -> None:
        nonlocal refused
        refused = refused or bool(done.findings)
        await _write(options, sealer)
        _tell(options, done)

    worker = SealingWorker(sealer, every=options.every, sealed=sealed)
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
    return 1 if refused else 0


async def _write(options: Namespace, sealer: Sealer) -> None:
    if options.manifest is not None:
        replace(options.manifest, encode(await sealer.manifest(heads=not options.roots_only)))


def _tell(options: Namespace, done: Round) -> None:
    if options.json:
        told = {"seals": done.seals, "sessions": done.sessions, "events": done.events}
        print(showing.as_json({**told, "findings": showing.findings(done.findings)}), flush=True)
        return
    print(f"Sealed {done.events:,} new events of {done.sessions:,} sessions with {done.seals:,} seals.", flush=True)
    if done.findings:
        showing.findings_table(done.findings)


if __name__ == "__main__":
    sys.exit(main())
