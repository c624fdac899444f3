"""`scripts/forget.py`, and what `scripts/verify.py` says of what it leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.proofs import SIGNER, bad, called, seal, talk, verify

from contextengine import ContextEngine
from eventstore import EventStore, SessionForgotten, open_store
from eventstore.proof.signing import Signer
from eventstore.proof.tombstones import Tombstone, decode, encode
from eventstore.redis.store import RedisStore
from projections.forgetting.erasing import open_eraser
from projections.forgetting.forgetter import Forgetter
from projections.forgetting.graves import grave_of


class Desk:
    """Runs the script on a store of the test's own."""

    def __init__(self, url: str, namespace: str, key: Path) -> None:
        self._where = ["--url", url, "--namespace", namespace]
        self._url, self._namespace, self.key = url, namespace, str(key)

    def forget(self, *arguments: str, signed: bool = True) -> tuple[int, dict[str, Any]]:
        """Return the script's exit code, and what it told."""
        code, out = called("forget.py", *arguments, *(["--key", self.key] if signed else []), "--json", *self._where)
        return code, json.loads(out)

    @property
    def arguments(self) -> list[str]:
        """Return what every run is told."""
        return ["--key", self.key, *self._where]

    def on_engine(self, work: Callable[[ContextEngine], Awaitable[Any]]) -> Any:
        """Do something on an engine."""

        async def run() -> Any:
            async with ContextEngine(self._url, namespace=self._namespace) as engine:
                return await work(engine)

        return asyncio.run(run())

    def sessions(self) -> set[str]:
        """Return the sessions that there are."""

        async def listed(engine: ContextEngine) -> set[str]:
            return {session.session_id for session in await engine.list_sessions()}

        found: set[str] = self.on_engine(listed)
        return found


@pytest.fixture
def desk(redis_url: str, namespace: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Two people's sessions, and a fork."""
    monkeypatch.delenv("CONTEXTENGINE_SEAL_KEY", raising=False)
    key = directory / "seal.key"
    key.write_text(SIGNER.private_pem())
    made = Desk(redis_url, namespace, key)

    async def fill(engine: ContextEngine) -> None:
        for session_id, user_id in (("a1", "ann"), ("a2", "ann"), ("b1", "bob")):
            await engine.create_session(session_id, user_id)
            await engine.add_conversation_message(session_id, "user", "hi")
        await engine.fork_session("a2", 2, "fork")

    made.on_engine(fill)
    return made


@pytest.mark.guarantee("F4")
def test_all_sessions_of_a_user(desk: Desk) -> None:
    """A user's sessions go, forks along with them if told to; a try tells and does nothing; others stay."""
    assert set(desk.forget("--user", "ann", "--dry-run")[1]["would_forget"]) == {"a1", "a2", "fork"}
    assert desk.sessions() == {"a1", "a2", "b1", "fork"}
    code, told = desk.forget("a1", "a2")
    assert (code, told["shared"], set(told["forgotten"])) == (1, {"a2": ["fork"]}, {"a1"})
    code, told = desk.forget("--user", "ann", "--relatives", "--by", "desk", "--reason", "asked")
    assert (code, set(told["forgotten"])) == (0, {"a2", "fork"})
    assert {(stone["by"], stone["reason"]) for stone in told["forgotten"].values()} == {("desk", "asked")}
    assert desk.sessions() == {"b1"}
    assert desk.forget("--user", "ann")[0] == 0


@pytest.mark.guarantee("F5")
def test_the_sessions_of_a_user_are_completed_by_the_same_command(
    desk: Desk, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was interrupted is in no list of the user's any more, and is completed nevertheless."""

    async def interrupted() -> None:
        async with open_store(redis_url, namespace=namespace) as store:
            monkeypatch.setattr(type(open_eraser(store)), "unpoint", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await Forgetter(store, SIGNER).forget("b1")
            monkeypatch.undo()

    asyncio.run(interrupted())
    code, told = desk.forget("--user", "bob")
    assert (code, told["forgotten"], len(told["completed"])) == (0, {}, 1)
    assert desk.forget("--complete")[1]["completed"] == []


def test_a_user_without_sessions_is_told(desk: Desk) -> None:
    """Silence would be taken for "done", where a name was mistyped."""
    assert called("forget.py", "--user", "nobody", *desk.arguments) == (0, "No session was forgotten.\n")


def test_what_it_cannot_do(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key nothing is done, an unknown session is named, and nothing to do is no command."""
    code, told = desk.forget("a1", signed=False)
    assert code == 2
    assert "no key" in told["stopped"]
    code, told = desk.forget("nobody", "a1")
    assert (code, told["unknown"], set(told["forgotten"])) == (1, ["nobody"], {"a1"})
    assert desk.forget("b1", "--unsigned", signed=False)[1]["forgotten"]["b1"]["signature"] == ""
    assert called("forget.py", "--json") == (2, "")
    assert "name sessions" in capsys.readouterr().err


@pytest.mark.guarantee("F5")
def test_what_was_interrupted_is_completed_from_the_tombstone_alone(
    desk: Desk, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever completes it needs no id of a session."""

    async def interrupted() -> None:
        async with open_store(redis_url, namespace=namespace) as store:
            forgetter = Forgetter(store, SIGNER)
            monkeypatch.setattr(type(open_eraser(store)), "unpoint", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await forgetter.forget("b1", by="desk")
            monkeypatch.undo()
            assert await open_eraser(store).remains()
            with pytest.raises(SessionForgotten):
                await talk(store, "b1", "x")

    asyncio.run(interrupted())
    code, told = desk.forget("--complete")
    assert (code, [(stone["version"], stone["by"]) for stone in told["completed"]]) == (0, [(2, "desk")])
    assert desk.forget("--complete")[1]["completed"] == []

    async def left() -> dict[str, list[str]]:
        async with open_store(redis_url, namespace=namespace) as store:
            return await open_eraser(store).remains()

    assert asyncio.run(left()) == {}


@pytest.mark.guarantee("F6")
def test_the_wrong_archive(desk: Desk, redis_url: str, namespace: str, directory: Path) -> None:
    """With an archive that lacks the file nothing is done to any session; who goes on is told what may be left."""
    right, wrong = (["--archive", f"file://{directory}/{name}"] for name in ("right", "wrong"))

    async def end(engine: ContextEngine) -> None:
        await engine.end_session("a1")

    desk.on_engine(end)
    where = ["--url", redis_url, "--namespace", namespace]
    assert called("archive.py", "run", "a1", "--idle", "0s", "--rest", "0", *where, *right)[0] == 0
    (file,) = (directory / "right").iterdir()
    for named in (wrong, []):
        for way in (["b1", "a1"], ["b1", "a1", "--dry-run"]):
            code, told = desk.forget(*way, *named)
            assert (code, told["forgotten"], file.name in told["stopped"]) == (2, {}, True)
            assert "--without-archive" in told["stopped"]
    assert desk.sessions() == {"a1", "a2", "b1", "fork"}
    code, out = called("forget.py", "a1", *desk.arguments, *wrong, "--without-archive")
    assert (code, f"MAY HOLD CONTENT of a1: {file.name}" in out, file.exists()) == (0, True, True)
    public = directory / "key.pub"
    public.write_text(SIGNER.public_pem())
    assert f"out of reach: {file.name}" in called("verify.py", *where, "--public-key", str(public))[1]
    code, told = desk.forget("a1", *right)
    assert (code, "files" in told["forgotten"]["a1"], file.exists()) == (0, False, False)


class TestTheCheck:
    @pytest.fixture
    async def store(self, redis_url: str, namespace: str) -> Any:
        """A sealed store with a session that was forgotten."""
        async with open_store(redis_url, namespace=namespace) as store:
            await talk(store, "a", "one", "two")
            await talk(store, "b", "one")
            await seal(store)
            await Forgetter(store, SIGNER).forget("a")
            assert (await verify(store)).proved
            yield store

    @pytest.mark.guarantee("F3")
    @pytest.mark.parametrize(
        ("change", "signer"),
        [
            ({"version": 1}, SIGNER),
            ({"digest": "00" * 32}, SIGNER),
            ({"session": "00" * 32}, SIGNER),
            ({"namespace": "other"}, SIGNER),
            ({"forgotten_ms": 0, "begun_ms": 1000}, SIGNER),
            ({}, None),
            ({}, Signer.new()),
        ],
        ids=["version", "digest", "session", "namespace", "half done", "unsigned", "a stranger's"],
    )
    async def test_a_tombstone_that_cannot_be_believed(
        self, store: EventStore, change: dict[str, Any], signer: Signer | None
    ) -> None:
        """One that is unsigned, of somebody else's key, of another session, half done or against a seal is found."""
        eraser, grave = open_eraser(store), grave_of("a", store.partitions)
        stands = decode(await eraser.tombstone(grave) or b"")
        await eraser.keep(grave, encode(msgspec.structs.replace(stands, **change).signed(signer)))
        assert bad(await verify(store)) == {("tombstone", "a", 0)}
        assert bad(await verify(store, "a")) == {("tombstone", "a", 0)}

    @pytest.mark.guarantee("F3")
    async def test_tampering_with_tombstones(self, store: EventStore) -> None:
        """A changed word, something that is no tombstone, and a tombstone taken away are found."""
        eraser, grave = open_eraser(store), grave_of("a", store.partitions)
        stands = decode(await eraser.tombstone(grave) or b"")
        assert isinstance(stands, Tombstone)
        for wrong in (encode(msgspec.structs.replace(stands, reason="other")), b"{}", b"\xff"):
            await eraser.keep(grave, wrong)
            assert bad(await verify(store)) == {("tombstone", "a", 0)}
        assert isinstance(store, RedisStore)
        await store.links.call("DEL", store.keys.tombstones(grave.partition))
        assert bad(await verify(store)) == {("removed", "a", 1)}

    @pytest.mark.guarantee("F3")
    async def test_something_is_left(self, store: EventStore) -> None:
        """Whatever there is of a forgotten session is named, be its name known from seals or from nowhere."""
        assert isinstance(store, RedisStore)
        await talk(store, "unsealed", "one")
        await Forgetter(store, SIGNER).forget("unsealed")
        keys = store.keys
        for session_id in ("a", "unsealed"):
            session_key = session_id.encode()
            log = keys.log(keys.partition(session_key), session_key)
            views = [(b"history@1", b""), (b"writes@1", b"\0c1"), (b"session@7.3", b""), (b"compacting", b"")]
            for key in (log, *(keys.of_session(what, session_key + suffix) for what, suffix in views)):
                await store.links.call(*(("XADD", key, "1-1", "e", "x") if key == log else ("SET", key, "x")))
                assert {kind for kind, _, _ in bad(await verify(store))} == {"tombstone"}
                await store.links.call("DEL", key)
            assert (await verify(store)).proved
