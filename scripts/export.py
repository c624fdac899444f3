"""Export a session, some, or all as JSON Lines: one event a line, byte for byte, with times, versions and seals.

The file ends with a line that tells whether it is whole. `import.py` puts it back. A file whose name ends with .zst is
packed with zstd; - is standard output. It may run on a live store: each session is taken as it stands.

Exit codes: 0 if everything is in the file; 2 if not, and then there is no file.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

try:
    import typer
    from auditing import showing
    from auditing.counting import events_of
    from command import Code, Script, stopped
    from options import LOCAL, Archive, Json, Namespace, Sessions, Url, store_of
    from printing import counting

    from eventstore import ContextEngineError, InvalidInput
    from eventstore.store import DEFAULT_NAMESPACE
    from projections.transfer.exporting import Exporter
except ImportError as missing:
    sys.exit(f"What an export needs is not installed here ({missing}). Run: pip install '.[audit]'")

STANDARD_OUTPUT = Path("-")

main = Script(__doc__)


@main.command
async def export(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="where to, or -")],
    sessions: Sessions = None,
    url: Url = LOCAL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    archive: Archive = None,
    zstd: Annotated[bool, typer.Option("--zstd", help="pack it, whatever its name")] = False,
    as_json: Json = False,
) -> int:
    """Export."""
    out = sys.stderr if output == STANDARD_OUTPUT else sys.stdout
    try:
        async with store_of(url, namespace, archive) as store:
            exporter = Exporter(store)
            with (
                counting("lines", await events_of(store, sessions)) as seen,
                _writing(output, packed=zstd or output.suffix == ".zst") as write,
            ):
                async for line in exporter.lines(sessions or None):
                    write(line)
                    seen(1)
    except ContextEngineError as error:
        return stopped(error, for_machines=as_json, out=out)
    if as_json:
        print(showing.as_json({"stopped": None, "sessions": exporter.sessions, "events": exporter.events}), file=out)
    else:
        print(f"Exported {exporter.events:,} events of {exporter.sessions:,} sessions to {output}.", file=out)
    return Code.DONE


@contextlib.contextmanager
def _writing(path: Path, *, packed: bool) -> Iterator[Callable[[bytes], object]]:
    """Give what writes to the file. The file appears when it is whole."""
    if path == STANDARD_OUTPUT:
        with _packed(sys.stdout.buffer.write, wanted=packed) as write:
            yield write
        sys.stdout.buffer.flush()
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            with _packed(file.write, wanted=packed) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except ContextEngineError:  # a server or an archive that does not answer is an OSError, too, and none of the file's
        raise
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


if __name__ == "__main__":
    sys.exit(main())
