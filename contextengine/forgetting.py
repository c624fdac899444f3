"""The engine forgets: a session is erased everywhere, and a signed tombstone is left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from contextengine.runtime import Open
from eventstore.errors import InvalidInput, shown
from eventstore.proof.tombstones import Tombstone
from projections.forgetting.forgetter import Forgetter

if TYPE_CHECKING:
    from eventstore.proof.signing import Signer

KEY_VARIABLE = "CONTEXTENGINE_SEAL_KEY"


class Forgets(Open):
    """Forgetting, for those who have to: what else happens in a session only ever adds to its log."""

    async def forget_session(
        self,
        session_id: str,
        *,
        by: str = "",
        reason: str = "",
        relatives: bool = False,
        signing_key: Signer | str | None = None,
        unsigned: bool = False,
        without_archive: bool = False,
    ) -> Tombstone:
        """Erase a session for good: its log, views, places in lists, what the totals count of it, its feed entries.

        From the first moment it reads as a session that never was, and takes no appends: they raise `SessionForgotten`,
        now and for ever. A tombstone is left that holds no content and not even the id, but its SHA-256: so whoever
        knows the id can prove that there was such a session and that it was forgotten. If it is interrupted at any
        point, run it again: it completes. docs/OPERATIONS.md tells what no engine can reach: backups, replicas'
        files, the server's append-only file until it is rewritten; and that seals and manifests name sessions.

        Args:
            session_id: A session, or a thread that holds but checkpoints.
            by: Who wants it, for the tombstone. It is kept for good, so it should name no person.
            reason: Why, likewise.
            relatives: Whether its forks, and the conversations that agents have about it, are forgotten as well.
            signing_key: The sealing key, or its PEM. By default that of ``CONTEXTENGINE_SEAL_KEY``.
            unsigned: Whether the tombstone may go without a signature. To who verifies, it is a finding then.
            without_archive: Whether to go on where the archive lacks files of it, or none was named: they are lost for
                good, say. They may hold its content still, so the tombstone names them (``files``).

        Returns:
            The tombstone; the one from before if the session had been forgotten already.

        Raises:
            UnknownSession: There is no such session, and there was none.
            SessionShared: It has relatives, and they were not to be forgotten. Nothing was done.
            FilesOutOfReach: The archive lacks files of it, or none was named. Nothing was done.
            NotPermitted: The user may not erase: it takes the role ``custodian``. Nothing was done.
            InvalidInput: An argument cannot be accepted, or there is no key.
            StoreUnavailable: The server does not answer. Run it again.
        """
        runtime = self._here()
        flags = {"relatives": relatives, "unsigned": unsigned, "without_archive": without_archive}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise InvalidInput(f"{name} must be True or False, not {shown(flag)}.")
        forgetter = Forgetter(runtime.store, _signer(signing_key, unsigned=unsigned), without_archive=without_archive)
        family = await forgetter.family([session_id], along=relatives)
        stones = [await forgetter.forget(each, by=by, reason=reason) for each in reversed(family)]
        if relatives:  # one that was interrupted is not to be found any more by what it descends from
            await forgetter.complete()
        for each in family:
            runtime.unlearn(each)
        await runtime.tally.refresh()
        return stones[-1]


def _signer(key: Signer | str | None, *, unsigned: bool) -> Signer | None:
    """Return what signs; None if nothing is to.

    Raises:
        InvalidInput: There is no key, or it is none.
    """
    if unsigned and key is None:
        return None
    given = key if key is not None else os.environ.get(KEY_VARIABLE)
    if not given:
        raise InvalidInput(
            f"A tombstone is signed: give the sealing key (signing_key=, or {KEY_VARIABLE}), or say unsigned=True. "
            "scripts/seal.py --new-key makes a key."
        )
    try:
        from eventstore.proof.signing import Signer  # noqa: PLC0415 - it needs the extra "audit"
    except ImportError as missing:
        raise InvalidInput(f"Signing needs cryptography ({missing}): pip install 'contextengine[audit]'.") from None
    if isinstance(given, Signer):
        return given
    if not isinstance(given, str):
        raise InvalidInput(f"signing_key must be a Signer or a private key in PEM, not {shown(given)}.")
    return Signer.from_pem(given)
