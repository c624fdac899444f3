"""Verify that nobody has changed the logs: every version, time, entry, feed and seal, of one session or of all.

It only reads, and may run on a live store. Seals are believed that were signed with the key whose public half is given;
a manifest that was kept elsewhere proves, besides, that nothing was cut off the end. docs/AUDIT.md tells what each of
them proves and what it cannot.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

try:
    import anyio
    from auditing import showing
    from auditing.options import add_trust, keyring_of, manifests_of, parser

    from eventstore import ContextEngineError, InvalidInput, open_store
    from projections.sealing.findings import Verdict
    from projections.sealing.verifier import Verifier
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify.

    Returns:
        0 if everything that was sealed is as it was; 1 if something is wrong; 2 if it could not be looked at; 3 if
        nothing is wrong, but nothing is proved either: no public key was given, or nothing was sealed.
    """
    options = _options(arguments)
    try:
        verdict = anyio.run(_verify, options)
    except ContextEngineError as error:
        print(
            showing.as_json({"proved": False, "stopped": str(error)}) if options.json else showing.printable(str(error))
        )
        return 2
    if options.require_sealed and verdict.unsealed_events and not verdict.findings:
        verdict.doubts.append(f"{verdict.unsealed_events:,} events are newer than the seals.")
    if options.json:
        print(showing.as_json(showing.verdict_as_json(verdict)))
    else:
        _print(verdict)
    return 1 if verdict.findings else 3 if verdict.doubts else 0


def _options(arguments: Sequence[str] | None) -> Namespace:
    made = parser(__doc__)
    made.add_argument("sessions", nargs="*", metavar="SESSION", help="which sessions (default: all)")
    add_trust(made)
    made.add_argument(
        "--require-sealed", action="store_true", help="end with 3 if there are events that are newer than the seals"
    )
    return made.parse_args(arguments)


async def _verify(options: Namespace) -> Verdict:
    keyring, manifests = keyring_of(options.public_key), manifests_of(options.manifest)
    if options.url.startswith("memory:"):
        raise InvalidInput("Another process's memory cannot be verified: use redis:// or embedded:///directory.")
    async with open_store(options.url, namespace=options.namespace, archive=options.archive) as store:
        return await Verifier(store, keyring, manifests).verify(options.sessions or None)


def _print(verdict: Verdict) -> None:
    showing.facts(
        {
            "namespace": verdict.namespace,
            "sessions": f"{verdict.sessions:,}",
            "archived": f"{verdict.archived:,} of these",
            "events": f"{verdict.events:,}",
            "proved by seals": f"{verdict.sealed_events:,}",
            "newer than the seals": f"{verdict.unsealed_events:,}",
            "seals": f"{verdict.seals:,}, the newest of {showing.time(verdict.sealed_ms)}",
            "manifests": f"{verdict.manifests:,}",
            "forgotten": f"{len(verdict.forgotten):,}",
        }
    )
    print()
    for each in verdict.forgotten:
        print(showing.printable(showing.forgotten(each)))
    for note in verdict.notes:
        print(f"Note: {showing.printable(note)}\n")
    if verdict.findings:
        showing.findings_table(verdict.findings)
        print(f"\nNOT AS IT WAS: {len(verdict.findings):,} findings.")
    elif verdict.doubts:
        print(f"NOT PROVED: {' '.join(verdict.doubts)}")
    else:
        print("PROVED: everything that was sealed is as it was.")


if __name__ == "__main__":
    sys.exit(main())
