"""The pure parts of the proof: chains, Merkle trees, keys, seals, manifests."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import InvalidInput, MessageAdded
from eventstore.codec import encode as encode_event
from eventstore.feed import Pointer
from eventstore.ids import new_event_id
from eventstore.proof import manifests, merkle
from eventstore.proof.chain import ChainHead, genesis, link
from eventstore.proof.seals import Heads, decode, encode, make_seal
from eventstore.proof.signing import Keyring, Signer, public_key, write_new_key
from eventstore.rawlog import RawEntry
from projections.sealing.book import Book
from projections.sealing.feeds import FeedCheck
from projections.sealing.findings import Kind
from projections.sealing.walking import Mark, Walk

SIGNER = Signer.new()
KEYRING = Keyring([SIGNER.public])

entries = st.lists(st.tuples(st.integers(0, 2**48), st.binary(max_size=20)), max_size=8)
heads = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.builds(ChainHead, st.integers(1, 2**53), st.integers(0, 2**48), st.binary(min_size=32, max_size=32)),
    max_size=20,
)


def chained(session_id: str, log: list[tuple[int, bytes]]) -> ChainHead:
    """Return the chain of a whole log."""
    chain = genesis(session_id.encode())
    for recorded_ms, entry in log:
        chain = link(chain, recorded_ms, entry)
    return chain


def tree(leaves: list[bytes]) -> bytes:
    """Return the Merkle tree hash as RFC 6962 defines it: split at the largest power of two below the size."""
    if len(leaves) < 2:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def sealed(chains: Heads, **changes: object) -> manifests.Manifest:
    """Return a manifest of a store with one partition."""
    seal = make_seal(
        SIGNER, namespace="n", partitions=1, partition=0, after=None, sealed_ms=1, heads=chains, changed=chains
    )
    return manifests.make_manifest("n", 2, {0: (seal.statement, seal.signature, chains)})


class TestChain:
    @pytest.mark.guarantee("A1")
    @given(entries, entries)
    def test_logs_that_differ_have_chains_that_differ(
        self, one: list[tuple[int, bytes]], other: list[tuple[int, bytes]]
    ) -> None:
        """Whatever is changed, left out, put in or exchanged, times included, the chain ends elsewhere."""
        assert (chained("s", one) == chained("s", other)) == (one == other)
        assert chained("s", one).digest != chained("t", one).digest


class TestMerkle:
    @given(st.lists(st.binary(max_size=4), max_size=40))
    def test_the_root_is_that_of_rfc_6962(self, leaves: list[bytes]) -> None:
        """The tree is the one of the RFC, whatever its size."""
        assert merkle.root(leaves) == tree(leaves)

    @given(st.lists(st.binary(max_size=4), min_size=1, max_size=40, unique=True), st.data())
    def test_a_proof_leads_to_the_root_from_its_leaf_alone(self, leaves: list[bytes], data: st.DataObject) -> None:
        """A proof of inclusion holds for its own leaf, place and size, and for nothing else."""
        index = data.draw(st.integers(0, len(leaves) - 1))
        grown = merkle.Tree(leaves)
        path, root = grown.inclusion(index), grown.root
        assert merkle.root_of(leaves[index], index, len(leaves), path) == root
        assert merkle.root_of(b"other", index, len(leaves), path) != root
        assert merkle.root_of(leaves[index], index, len(leaves), [*path, root]) is None
        assert merkle.root_of(leaves[index], len(leaves), len(leaves), path) is None
        if path:
            assert merkle.root_of(leaves[index], index, len(leaves), path[1:]) != root
            assert merkle.root_of(leaves[index], index ^ 1, len(leaves), path) != root
        with pytest.raises(IndexError):
            grown.inclusion(len(leaves))


class TestKeys:
    def test_a_new_key_is_its_owners_alone_and_never_overwritten(self, tmp_path: Path) -> None:
        """The private file can be read by its owner only, both files hold one pair, and a second try is refused."""
        signer = write_new_key(tmp_path / "key")
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
        assert public_key((tmp_path / "key.pub").read_text()) == signer.public
        again = Signer.from_pem((tmp_path / "key").read_text().replace("\n", "\\n"))
        assert Keyring([signer.public]).signed(signer.key_id, b"m", again.sign(b"m"))
        with pytest.raises(InvalidInput, match="never overwritten"):
            write_new_key(tmp_path / "key")

    def test_a_pair_is_written_wholly_or_not_at_all(self, tmp_path: Path) -> None:
        """Where the public file may not be written, no private one is left; where neither can, it says so."""
        (tmp_path / "key.pub").touch()
        with pytest.raises(InvalidInput, match=r"key\.pub exists"):
            write_new_key(tmp_path / "key")
        assert not (tmp_path / "key").exists()
        with pytest.raises(InvalidInput, match="cannot be written: No such file or directory"):
            write_new_key(tmp_path / "nowhere" / "key")

    @pytest.mark.parametrize("pem", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
    def test_what_is_no_key(self, pem: str) -> None:
        """A file that holds no Ed25519 key is refused in a sentence."""
        with pytest.raises(InvalidInput):
            Signer.from_pem(pem)
        with pytest.raises(InvalidInput):
            public_key(pem)


class TestSeals:
    @given(heads)
    def test_a_seal_is_read_back_and_believed(self, chains: Heads) -> None:
        """What was sealed comes back, under the right key alone."""
        seal = make_seal(
            SIGNER, namespace="n", partitions=1, partition=0, after=None, sealed_ms=1, heads=chains, changed=chains
        )
        assert decode(encode(seal)) == seal
        assert seal.signed_by(KEYRING)
        assert not seal.signed_by(Keyring([Signer.new().public]))
        book = Book("n", 1, 0, KEYRING)
        assert book.take([(1, encode(seal))]) is None
        assert book.heads == chains

    @pytest.mark.guarantee("A3")
    @given(heads.filter(bool), st.data())
    def test_a_seal_with_any_byte_changed_is_not_believed(self, chains: Heads, data: st.DataObject) -> None:
        """Whichever byte of a seal is changed, it cannot be read, or is not believed, or says just the same."""
        text = bytearray(
            encode(
                make_seal(
                    SIGNER,
                    namespace="n",
                    partitions=1,
                    partition=0,
                    after=None,
                    sealed_ms=1,
                    heads=chains,
                    changed=chains,
                )
            )
        )
        whole = decode(bytes(text))
        text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
        book = Book("n", 1, 0, KEYRING)
        if book.take([(1, bytes(text))]) is None:
            assert book.heads == chains
            assert book.statement == whole.statement

    def test_manifests(self) -> None:
        """A manifest is read back; one with another chain, key, partition or format is not believed."""
        manifest = sealed({"a": chained("a", [(1, b"x")]), "b": chained("b", [(2, b"y")])})
        assert manifests.decode(manifests.encode(manifest)) == manifest
        assert (manifest.sessions, manifest.events) == (2, 2)
        assert manifests.doubts(manifest, KEYRING) == []
        (part,) = manifest.seals
        assert part.heads is not None
        replace = msgspec.structs.replace
        for broken in (
            replace(manifest, seals=[]),
            replace(manifest, namespace="other"),
            replace(manifest, seals=[part, part]),
            replace(manifest, seals=[replace(part, heads=part.heads[:1])]),
            replace(manifest, seals=[replace(part, heads=[("a", 1, 1, "00")])]),
            replace(manifest, seals=[replace(part, signature="00")]),
            replace(manifest, seals=[replace(part, signature="no hexadecimal")]),
            replace(manifest, seals=[replace(part, statement=replace(part.statement, events=9))]),
        ):
            assert manifests.doubts(broken, KEYRING)
        assert manifests.doubts(manifest, Keyring())
        for text in (b"", b"[]", manifests.encode(replace(manifest, format="contextengine manifest 9"))):
            with pytest.raises(InvalidInput):
                manifests.decode(text)


class TestFeed:
    @pytest.mark.parametrize(
        ("pointers", "trimmed", "last", "bad"),
        [
            ([(2, 2), (3, 1)], False, 3, None),
            ([], True, 3, None),
            ([(3, 1)], True, 3, None),
            ([], False, 3, 1),
            ([(3, 1)], False, 3, 1),
            ([(2, 2), (4, 1)], False, 4, 3),
            ([(2, 2), (2, 2)], False, 2, None),  # what it told beside a forgotten session, it tells again
            ([(3, 1), (2, 2)], False, 3, None),
            ([(2, 2)], False, 3, 3),
            ([(2, 2)], True, 3, 3),
        ],
    )
    def test_every_append_must_be_told(
        self, pointers: list[tuple[int, int]], trimmed: bool, last: int, bad: int | None
    ) -> None:
        """The pointers to a session follow each other up to its end, from the first one on if nothing was trimmed."""
        check = FeedCheck()
        check.take([Pointer("s", *pointer) for pointer in pointers], trimmed=trimmed)
        finding = check.finding("s", last)
        assert (finding.version if finding else None) == bad


GOOD = encode_event(new_event_id(), MessageAdded("user", "x"), None)


class TestWalk:
    @pytest.mark.guarantee("A1")
    @pytest.mark.parametrize(
        ("log", "kind", "version"),
        [
            ([(1, 5, GOOD), (3, 5, GOOD)], "missing", 2),
            ([(2, 5, GOOD)], "missing", 1),
            ([(1, 5, GOOD), (1, 6, GOOD), (2, 6, GOOD)], "disorder", 1),
            ([(1, 5, GOOD), (2, 4, GOOD)], "disorder", 2),
            ([(1, 5, GOOD), (2, 5, None)], "unreadable", 2),
            ([(1, 5, GOOD), (2, 5, b"{}")], "unreadable", 2),
            ([(1, 5, GOOD), (2, 5, GOOD[:-1])], "unreadable", 2),
            ([], "removed", 1),
            ([(1, 5, GOOD)], "truncated", 1),
        ],
    )
    def test_what_is_wrong_in_a_log(self, log: list[tuple[int, int, bytes | None]], kind: str, version: int) -> None:
        """A gap, a version twice, a time that goes back, and what is no event are named at the first version."""
        head = chained("s", [(5, GOOD), (5, GOOD), (5, GOOD)])
        walk = Walk("s", [Mark(head, "a seal")], b"", 0)
        walk.take([RawEntry(*entry) for entry in log])
        walk.end()
        assert walk.finding is not None
        assert (walk.finding.kind.value, walk.finding.version) == (kind, version)

    @given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
    def test_the_first_version_that_differs_is_named(self, first: int, second: int, bad: int) -> None:
        """With the digests of what was sealed it is named exactly, without them as a range that holds it."""
        true, chain, digests, chains = [], genesis(b"s"), b"", {}
        for version in range(1, 7):
            true.append(RawEntry(version, version, GOOD))
            chain = link(chain, version, GOOD)
            digests += chain.digest
            chains[version] = chain
        marks = [Mark(chains[version], "a seal") for version in {first, second, 6}]
        true[bad - 1] = RawEntry(bad, bad, GOOD.replace(b"user", b"tool"))
        for links in (digests, b""):
            walk = Walk("s", marks, links, 0)
            walk.take(true)
            walk.end()
            assert walk.finding is not None
            assert walk.finding.kind is Kind.CHANGED
            assert walk.finding.version <= bad <= walk.finding.until
            assert not links or walk.finding.version == walk.finding.until == bad
