"""The demo, run as a newcomer runs it: as a process of its own, in a directory of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.terminals import on_a_terminal

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import demo  # noqa: E402 - it lies among the scripts
from demonstration.processes import Pair  # noqa: E402

DEMO = [sys.executable, str(ROOT / "scripts" / "demo.py")]
CONTROL_CODES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"ref": "K7"}'}}


def environment(directory: Path) -> dict[str, str]:
    """Return an environment in which temporary directories are made in a directory, and nothing asks for colours."""
    unwanted = {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "CONTEXTENGINE_URL"}
    return {key: value for key, value in os.environ.items() if key not in unwanted} | {"TMPDIR": str(directory)}


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with its output in a pipe, and make sure that it leaves nothing behind."""
    done = subprocess.run(
        [*DEMO, *arguments],
        env=environment(directory),
        cwd=directory,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert processes_of(directory) == []
    return done


def processes_of(directory: Path) -> list[str]:
    """Return the command lines that name a directory."""
    if Path("/proc/self/cmdline").exists():
        found = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    else:
        listed = subprocess.run(["/bin/ps", "-A", "-o", "args"], capture_output=True, text=True, check=True)
        found = listed.stdout.splitlines()
    return [line for line in found if str(directory) in line]


def _command_line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it has just ended


def write(path: Path, *lines: dict[str, Any]) -> str:
    """Write lines of JSON to a file and return its path."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_nothing_is_missing(directory: Path) -> None:
    """The demo records, kills, compares and says so, in plain text where its output is piped, and leaves nothing."""
    done = run(directory, "--sessions", "9")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "nothing is missing: 9 sessions, 187 messages, 29 context values, compared one by one" in done.stdout
    assert not CONTROL_CODES.search(done.stdout)
    assert list(directory.iterdir()) == []


def test_two_processes_are_killed_and_two_others_started(directory: Path) -> None:
    """The server and the worker that are compared are not the ones that recorded."""
    out = run(directory, "--sessions", "1").stdout
    killed = re.findall(r"kill -9 (\d+)", out)
    started = re.findall(r"(?:server|worker) +pid (\d+)", out)
    assert started[:2] == killed
    assert len(set(started)) == 4


def test_a_session_is_shown(directory: Path) -> None:
    """A newcomer sees a chat with tool calls and their results, metrics, context, the log, and what to do next."""
    out = run(directory, "--sessions", "1").stdout
    assert 'calls get_booking(booking_ref="K7QX2M")' in out
    assert 'get_booking: {"booking_ref": "K7QX2M"' in out
    assert re.search(r"request_count +4 ", out)
    assert re.search(r"chosen_flights +\[", out)
    assert '{"type":"SessionStarted"' in out
    assert "--input" in out
    assert "docs/GUARANTEES.md" in out
    assert "XRANGE '{contextengine:3}:log:travel-rebooking' - +" in out


def test_a_history_is_made_shorter(directory: Path) -> None:
    """The longest history begins with a summary in the end, costs less, and all its originals are still there."""
    done = run(directory, "--sessions", "3")
    shown = done.stdout[done.stdout.index("Make a history shorter") :]
    assert re.search(r"\[Summary of \d+ earlier messages\]", shown)
    before, after = (
        int(n.replace(",", "")) for n in re.findall(r"(?:before|after) +\d+ messages, (\d[\d,]*) tokens", shown)
    )
    assert after < before
    assert re.search(r"all \d+ originals are still in the log", shown)


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        (
            [
                {
                    "session_id": "a",
                    "reward": 1,
                    "context": {"k": None},
                    "messages": [{"role": "user", "content": "x"}],
                },
                {"session_id": "b", "user_id": "u", "metadata": {"m": 1}, "messages": []},
            ],
            "5 sessions, 3 messages, 3 context values",
        ),
        (
            [
                {"role": "assistant", "content": None, "tool_calls": [CALL], "message_type": "action"},
                {"role": "tool", "content": "\x1b[31mred\x07\r\n\x00", "tool_call_id": "c1", "name": "look_up"},
                {"role": "user", "content": [{"type": "text", "text": "[bold]no markup[/]"}, {"type": "image_url"}]},
                {"role": "critic", "content": {"score": 3}, "tool_calls": ["odd"]},
            ],
            "5 sessions, 20 messages, 0 context values",
        ),
        (
            [{"channel": f"c{n % 2}", "author": f"a{n % 3}", "text": f"m{n}", "ts": n} for n in range(60)],
            "5 sessions, 150 messages, 0 context values",
        ),
    ],
    ids=["conversations", "messages", "chat log"],
)
def test_own_files(directory: Path, lines: list[dict[str, Any]], counts: str) -> None:
    """Each form of input is recorded and survives whole, and what is in it plays no tricks on a terminal."""
    done = run(directory, "--input", write(directory / "own.jsonl", *lines), "--sessions", "5")
    assert done.returncode == 0, done.stderr
    assert f"nothing is missing: {counts}, compared one by one" in done.stdout
    assert not CONTROL_CODES.search(done.stdout)


def test_a_file_is_taken_whole(directory: Path) -> None:
    """Without --sessions every conversation of a file is recorded, and few are repeated up to 48 sessions."""
    many = [{"messages": [{"role": "user", "content": "x"}]} for _ in range(60)]
    assert "60 sessions, 60 messages" in run(directory, "--input", write(directory / "many.jsonl", *many)).stdout
    assert "48 sessions, 48 messages" in run(directory, "--input", write(directory / "few.jsonl", *many[:1] * 2)).stdout


def test_bad_lines_are_refused_before_anything_starts(directory: Path) -> None:
    """A line that is no conversation ends the demo with exit code 2, its number, and nothing started."""
    path = write(directory / "bad.jsonl", {"role": "user", "content": "x"}, {"level": "info"})
    done = run(directory, "--input", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path}, line 2: it is neither a conversation")
    assert list(directory.iterdir()) == [directory / "bad.jsonl"]


def test_a_missing_file_is_refused(directory: Path) -> None:
    """A file that is not there ends the demo with exit code 2 and one sentence."""
    done = run(directory, "--input", "nowhere.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nowhere.jsonl cannot be read: No such file or directory.\n"


def test_a_named_directory_is_kept(directory: Path) -> None:
    """With --dir the data stays when the demo has ended, and a directory that holds something is refused."""
    kept = directory / "kept"
    assert run(directory, "--dir", str(kept), "--sessions", "1").returncode == 0
    assert any((kept / "appendonlydir").iterdir())
    log = [json.loads(line) for line in (kept / "worker.log").read_text(encoding="utf-8").splitlines()]
    assert [line["action"] for line in log].count("worker_started") == 2
    again = run(directory, "--dir", str(kept))
    assert (again.returncode, again.stdout) == (2, "")
    assert "is not empty" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_leaves_nothing_behind(directory: Path, number: signal.Signals) -> None:
    """Ctrl-C, even pressed twice, ends the server, the worker and the temporary directory too."""
    with subprocess.Popen(DEMO, env=environment(directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while b"Record" not in process.stdout.readline():
            pass
        process.send_signal(number)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert complaint.decode().strip() == "Stopped. Nothing is left running."
    assert processes_of(directory) == []
    assert list(directory.iterdir()) == []


def test_a_closed_pipe_leaves_nothing_behind(directory: Path) -> None:
    """When nobody reads the output any more (as with head), the demo tidies up and ends without a traceback."""
    with subprocess.Popen(DEMO, env=environment(directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1
    assert processes_of(directory) == []
    assert list(directory.iterdir()) == []


def test_a_terminal_sees_progress(directory: Path) -> None:
    """On a terminal the numbers move while the agents talk."""
    code, _, shown = on_a_terminal(Path(DEMO[1]), ["--sessions", "3"], environment=environment(directory))
    assert code == 0
    assert len(set(re.findall(r"appended\W+([\d,]+) +of", shown))) > 3
    assert "nothing is missing: 3 sessions" in shown


class TestPlantedLosses:
    """The demo finds what is missing, when something is."""

    @staticmethod
    def lose(monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]) -> int:
        """Run the demo in this process, with damage done to the log between the kill and the second start."""
        kill: Callable[[Pair], Awaitable[None]] = Pair.kill

        async def kill_and_damage(pair: Pair) -> None:
            await kill(pair)
            damage(pair.server.directory)

        monkeypatch.setattr(Pair, "kill", kill_and_damage)
        return demo.main(["--sessions", "3"])

    def test_a_lost_end_of_the_log_is_found(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """When the disk has kept only a part of the log, the demo says which session lacks what, with exit code 1."""

        def cut(directory: Path) -> None:
            (log,) = (directory / "appendonlydir").glob("*.incr.aof")
            os.truncate(log, log.stat().st_size // 2)

        assert self.lose(monkeypatch, cut) == 1
        shown = capsys.readouterr()
        assert "What is there now is not what was there before the kill." in shown.err
        assert "Session 'travel-rebooking': its history had 21 messages and has" in shown.err
        assert "nothing is missing" not in shown.out

    def test_a_changed_word_is_found(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """When one word of one message is another, the demo shows it, with exit code 1."""

        def change(directory: Path) -> None:
            (log,) = (directory / "appendonlydir").glob("*.incr.aof")
            content = log.read_bytes()
            assert b"Is 85 minutes" in content
            log.write_bytes(content.replace(b"Is 85 minutes", b"Is 84 minutes"))

        assert self.lose(monkeypatch, change) == 1
        shown = capsys.readouterr()
        assert "Session 'travel-rebooking': message 7 was " in shown.err
        assert "Is 84 minutes" in shown.err
        assert "nothing is missing" not in shown.out

    def test_nothing_of_it_remains(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        """A demo that fails tidies up like any other."""
        monkeypatch.setenv("TMPDIR", str(directory))
        monkeypatch.setattr("tempfile.tempdir", None)

        def forget(directory: Path) -> None:
            for log in (directory / "appendonlydir").iterdir():
                log.unlink()

        assert self.lose(monkeypatch, forget) == 1
        assert processes_of(directory) == []
        assert list(directory.iterdir()) == []
