"""Verify that nobody has changed the logs: every version, time, entry, feed and seal, of one session or of all.

It only reads, and may run on a live store. Seals are believed that were signed with the key whose public half is given;
a manifest that was kept elsewhere proves, besides, that nothing was cut off the end. docs/AUDIT.md tells what each of
them proves and what it cannot.

Exit codes: 0 if everything that was sealed is as it was; 1 if something is wrong; 2 if it could not be looked at; 3 if
nothing is wrong, but nothing is proved either: no public key was given, or nothing was sealed.
"""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import typer
    from auditing import showing
    from auditing.counting import events_of
    from auditing.options import Manifests, PublicKeys, keyring_of, manifests_of
    from command import Code, Script, stopped
    from options import LOCAL, Archive, Json, Namespace, Sessions, Url, store_of
    from printing import counting, printable

    from eventstore import ContextEngineError
    from eventstore.store import DEFAULT_NAMESPACE
    from projections.sealing.findings import Verdict
    from projections.sealing.verifier import Verifier
except ImportError as missing:
    sys.exit(f"What an audit needs is not installed here ({missing}). Run: pip install '.[audit]'")

main = Script(__doc__)


@main.command
async def verify(
    sessions: Sessions = None,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    public_key: PublicKeys = None,
    manifest: Manifests = None,
    require_sealed: Annotated[
        bool, typer.Option("--require-sealed", help="end with 3 if there are events that are newer than the seals")
    ] = False,
    as_json: Json = False,
) -> int:
    """Verify."""
    try:
        keyring, manifests = keyring_of(public_key), manifests_of(manifest)
        async with store_of(url, namespace, archive) as store:
            with counting("events", await events_of(store, sessions)) as seen:
                verdict = await Verifier(store, keyring, manifests, seen).verify(sessions or None)
    except ContextEngineError as error:
        return stopped(error, for_machines=as_json, told={"proved": False})
    if require_sealed and verdict.unsealed_events and not verdict.findings:
        verdict.doubts.append(f"{verdict.unsealed_events:,} events are newer than the seals.")
    if as_json:
        print(showing.as_json(showing.verdict_as_json(verdict)))
    else:
        _print(verdict)
    return Code.WRONG if verdict.findings else Code.UNPROVED if verdict.doubts else Code.DONE


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
        print(printable(showing.forgotten(each)))
    for note in verdict.notes:
        print(f"Note: {printable(note)}\n")
    if verdict.findings:
        showing.findings_table(verdict.findings)
        print(f"\nNOT AS IT WAS: {len(verdict.findings):,} findings.")
    elif verdict.doubts:
        print(f"NOT PROVED: {' '.join(verdict.doubts)}")
    else:
        print("PROVED: everything that was sealed is as it was.")


if __name__ == "__main__":
    sys.exit(main())
