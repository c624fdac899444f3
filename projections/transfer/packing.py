"""Packing lines with zstd, where it is installed."""

from __future__ import annotations

import asyncio

LEVEL = 9
PACKED_AT_ONCE = 1024 * 1024


class Packer:
    """Packs what comes piece by piece, with a checksum, holding up no event loop. It keeps what is packed in memory."""

    def __init__(self) -> None:
        """Begin with nothing."""
        import zstandard  # noqa: PLC0415 - only who packs needs it

        self._packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._packed: list[bytes] = []
        self._waiting: list[bytes] = []
        self._size = 0

    async def add(self, part: bytes) -> None:
        """Add some bytes."""
        self._waiting.append(part)
        self._size += len(part)
        if self._size >= PACKED_AT_ONCE:
            await self._pack()

    async def finish(self) -> bytes:
        """Return everything, packed."""
        await self._pack()
        return b"".join([*self._packed, self._packer.flush()])

    async def _pack(self) -> None:
        waiting, self._waiting, self._size = b"".join(self._waiting), [], 0
        self._packed.append(await asyncio.to_thread(self._packer.compress, waiting))
