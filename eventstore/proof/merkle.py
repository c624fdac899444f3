"""Merkle trees as of RFC 6962, section 2.1 (Certificate Transparency): one hash for many leaves, short proofs for each.

Leaves and inner nodes are hashed under different prefixes, so that no inner node can pass for a leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


class Tree:
    """The tree over some leaves, with all of its hashes.

    Attributes:
        root: The hash of the whole tree; that of no leaves is the hash of nothing.
    """

    def __init__(self, leaves: Iterable[bytes]) -> None:
        """Hash everything."""
        self._levels = [[leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))
        self.root = self._levels[-1][0] if self._levels[0] else hashlib.sha256(b"").digest()

    def inclusion(self, index: int) -> list[bytes]:
        """Return what proves that a leaf is in the tree: the hashes beside its way to the root, from below.

        Raises:
            IndexError: There is no such leaf.
        """
        if not 0 <= index < len(self._levels[0]):
            raise IndexError(f"there is no leaf {index} among {len(self._levels[0])}")
        path = []
        for level in self._levels[:-1]:
            if (sibling := index ^ 1) < len(level):
                path.append(level[sibling])
            index //= 2
        return path


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the hash of the whole tree."""
    return Tree(leaves).root


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root to which a proof leads; None if it is no proof for this place in a tree of this size."""
    if not 0 <= index < size:
        return None
    found, rest = leaf_hash(leaf), list(path)
    while size > 1:
        if index ^ 1 < size:
            if not rest:
                return None
            sibling = rest.pop(0)
            found = _node(sibling, found) if index & 1 else _node(found, sibling)
        index, size = index // 2, (size + 1) // 2
    return None if rest else found


def _above(level: Sequence[bytes]) -> list[bytes]:
    """Pair neighbours. The last one of an odd number goes up as it is, which is RFC 6962's split at a power of two."""
    return [_node(*level[at : at + 2]) if at + 1 < len(level) else level[at] for at in range(0, len(level), 2)]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
