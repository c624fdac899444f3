"""Export a session, some, or all as JSON Lines: one event a line, byte for byte, with times, versions and seals.

The file ends with a line that tells whether it is whole. `import.py` puts it back. A file whose name ends with .zst is
packed with zstd; - is standard output. It may run on a live store: each session is taken as it stands.
"""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

try:
    import anyio
    from auditing import showing
    from auditing.options import parser

    from eventstore import ContextEngineError, InvalidInput, open_store
    from projections.transfer.exporting import Exporter
except ImportError as missing:
    sys.exit(f"What an export needs is not installed here ({missing}). Run: pip install '.[audit]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Export.

    Returns:
        0 if everything is in the file; 2 if not, and then there is no file.
    """
    options = _options(arguments)
    try:
        sessions, events = anyio.run(_export, options)
    except ContextEngineError as error:
        told = showing.as_json({"stopped": str(error)}) if options.json else showing.printable(str(error))
        print(told, file=sys.stderr if _to_stdout(options) else sys.stdout)
        return 2
    out = sys.stderr if _to_stdout(options) else sys.stdout
    if options.json:
        print(showing.as_json({"stopped": None, "sessions": sessions, "events": events}), file=out)
    else:
        print(f"Exported {events:,} events of {sessions:,} sessions to {options.output}.", file=out)
    return 0


def _options(arguments: Sequence[str] | None) -> Namespace:
    made = parser(__doc__)
    made.add_argument("sessions", nargs="*", metavar="SESSION", help="which sessions (default: all)")
    made.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to, or -")
    made.add_argument("--zstd", action="store_true", help="pack it, whatever its name")
    return made.parse_args(arguments)


async def _export(options: Namespace) -> tuple[int, int]:
    if options.url.startswith("memory:"):
        raise InvalidInput("Another process's memory cannot be exported: use redis:// or embedded:///directory.")
    async with open_store(options.url, namespace=options.namespace, archive=options.archive) as store:
        exporter = Exporter(store)
        with _writing(options) as write:
            async for line in exporter.lines(options.sessions or None):
                write(line)
        return exporter.sessions, exporter.events


@contextlib.contextmanager
def _writing(options: Namespace) -> Iterator[Callable[[bytes], object]]:
    """Give what writes to the file. The file appears when it is whole."""
    if _to_stdout(options):
        with _packed(sys.stdout.buffer.write, wanted=options.zstd) as write:
            yield write
        sys.stdout.buffer.flush()
        return
    path: Path = options.output
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            with _packed(file.write, wanted=options.zstd or path.suffix == ".zst") as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _packed(write: Callable[[bytes], object], *, wanted: bool) -> Iterator[Callable[[bytes], object]]:
    if not wanted:
        yield write
        return
    import zstandard  # noqa: PLC0415 - only who packs needs it

    packer = zstandard.ZstdCompressor(level=9, write_checksum=True).compressobj()
    yield lambda part: write(packer.compress(part))
    write(packer.flush())


def _to_stdout(options: Namespace) -> bool:
    return str(options.output) == "-"


if __name__ == "__main__":
    sys.exit(main())
