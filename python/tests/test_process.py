"""Finding the program, comparing versions, the join string: each mistake has its words."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import traceback
from pathlib import Path

import pytest
import torch

import mistura
from mistura import InputError, Interrupted, Lost, Refused, RolledBack, process
from mistura.errors import carried, raised
from mistura.link import Link, encode, number


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MISTURA_ variable from outside."""
    for name in [n for n in os.environ if n.startswith("MISTURA_")]:
        monkeypatch.delenv(name)


def program(folder: Path, script: str) -> str:
    """A program named mistura that is none."""
    path = folder / "mistura"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return str(path)


def versioned(folder: Path, about: dict[str, object]) -> str:
    """One that says what version it is."""
    return program(folder, f"echo '{json.dumps(about)}'\n")


def test_missing_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither on PATH nor where it is said to be."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match="mistura: the program is not on PATH; install it and put it on PATH, or name it in MISTURA_BINARY"
    ):
        process.find_binary(None)
    monkeypatch.setenv("MISTURA_BINARY", "/no/such")
    with pytest.raises(InputError, match='MISTURA_BINARY "/no/such": is no program that can be run'):
        process.find_binary(None)
    found = program(tmp_path, "")
    monkeypatch.delenv("MISTURA_BINARY")
    assert process.find_binary(None) == found


def test_two_hosts_of_one_name() -> None:
    """Containers may have one: what the first rank of one has started is not on the other."""
    with pytest.raises(InputError, match=r"has written /no/such/log, which is not here \(No such file.*or set GROUP_RANK to its number"):
        process.Log("/no/such/log")


def test_other_version(tmp_path: Path) -> None:
    """Both integers are in the message."""
    with pytest.raises(InputError, match="version 9 speaks local protocol 7, this Python package speaks 1; update the Python package"):
        process.check_version(versioned(tmp_path, {"version": "9", "local_protocol": 7}))
    with pytest.raises(InputError, match="version 0.1 takes no trainers from outside"):
        process.check_version(versioned(tmp_path, {"version": "0.1"}))
    with pytest.raises(InputError, match="does not say its version as mistura does"):
        process.check_version(program(tmp_path, "exit 3"))
    assert process.check_version(versioned(tmp_path, {"version": "1", "local_protocol": 1})) == "1"


def test_join_with_a_program_of_another_version(tmp_path: Path) -> None:
    """Nothing was started, so that the next call may follow."""
    binary = versioned(tmp_path, {"version": "9", "local_protocol": 7})
    model = torch.nn.Linear(2, 2)
    for _ in range(2):
        with pytest.raises(InputError, match="version 9 speaks local protocol 7, this Python package speaks 1; update the Python package"):
            mistura.join(model, torch.optim.SGD(model.parameters(), lr=0.1), join="mistura://127.0.0.1:1/r?token=t", binary=binary)


def test_join_string(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Argument, variable, file, in this order."""
    with pytest.raises(InputError, match="join: nothing says which run to join; set MISTURA_JOIN"):
        process.join_string(None)
    path = tmp_path / "join"
    monkeypatch.setenv("MISTURA_JOIN_FILE", str(path))
    with pytest.raises(InputError, match=r"MISTURA_JOIN_FILE .*: cannot be read \(No such file"):
        process.join_string(None)
    for text in ("", "\n", "\n  \n# nothing else\n"):
        path.write_text(text)
        with pytest.raises(InputError, match='MISTURA_JOIN_FILE ".*": holds no join string; put the one that serve'):
            process.join_string(None)
    for text in ("file", "file\n", "\n\n  file \nmore\n", "# of rack 2\n file\r\n# until Friday\n"):
        path.write_text(text)
        assert process.join_string(None) == "file"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match="cannot be read"):
        process.join_string(None)
    monkeypatch.setenv("MISTURA_JOIN_FILE", "mistura://h:1/ab?token=secret")
    with pytest.raises(InputError, match="MISTURA_JOIN_FILE: is a join string itself; write it to a file") as caught:
        process.join_string(None)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MISTURA_JOIN_FILE", str(path))
    monkeypatch.setenv("MISTURA_JOIN", "variable")
    assert process.join_string(None) == "variable"
    assert process.join_string("argument\n") == "argument"


def test_process_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """Its last line is the error, and its folder is gone."""
    binary = program(tmp_path, 'echo first >&2; echo "join string: is wrong; ask again" >&2; exit 2\n')
    before = set(os.listdir(process.tempfile.gettempdir()))
    with pytest.raises(Refused, match="join string: is wrong; ask again"):
        process.Process(binary, "x")
    assert not [n for n in set(os.listdir(process.tempfile.gettempdir())) - before if n.startswith("mistura-")]


def test_log_tells_the_logger_what_is_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whole lines, once, at their level."""
    path = tmp_path / "log"
    path.write_text("")
    said = process.Log(str(path))
    assert said.last() == ""
    with open(path, "a") as f, caplog.at_level(logging.INFO, "mistura"):
        f.write("a level=WARN msg=x\nhalf")
        f.flush()
        said.tell()
        said.tell()
        f.write(" level=ERROR\n")
        f.flush()
        said.tell()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", "a level=WARN msg=x"), ("ERROR", "half level=ERROR")]
    assert said.last() == "half level=ERROR"
    said.close()


def answering(path: str, *lines: bytes) -> threading.Thread:
    """Somebody who answers each message with the next line and then goes away."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        heard = connection.makefile("rb")
        for line in lines:
            heard.readline()
            connection.sendall(line)
        heard.readline()
        heard.close()
        connection.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_link_asks_and_notices_the_end(tmp_path: Path) -> None:
    """An error in place of an answer, and a socket that ends: why is said again to whoever asks later."""
    path = str(tmp_path / "s")
    other = answering(
        path, b'{"kind":"act","then":"go"}\n', b'{"kind":"error","where":"tensor x","value":"4","problem":"is 5 here","next":"mend"}\n'
    )
    link = Link(path, lambda: "level=ERROR msg=last")
    assert link.ask("boundary", loss=float("nan"))["then"] == "go"
    with pytest.raises(Refused, match='tensor x "4": is 5 here; mend'):
        link.ask("boundary")
    for _ in range(2):
        with pytest.raises(Refused, match='tensor x "4": is 5 here; mend'):
            link.ask("boundary")
    assert isinstance(link.ended(0), Refused)
    link.close()
    other.join()


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("level=ERROR msg=last", ": level=ERROR msg=last"),
        ("level=INFO msg=ready", " without a word: it was killed"),
        ("", "; what it wrote"),
    ],
)
def test_link_notices_the_end_without_a_word(tmp_path: Path, last: str, why: str) -> None:
    """Whoever asks, waits or tells hears the last line of the log, each time, unless it says nothing of an end."""
    path = str(tmp_path / "s")
    other = answering(path, b'{"kind":"act"}\n', b"")
    link = Link(path, lambda: last)
    assert link.ended(0) is None
    link.ask("boundary")
    link.tell("bye")
    link.tell("bye")
    other.join()
    for _ in range(2):
        with pytest.raises(Lost, match="the mistura process of this host is gone" + why) as caught:
            link.ask("boundary")
        assert not caught.value.again
        assert str(link.ended(5)) == str(caught.value)
    link.close()


def connected(tmp_path: Path) -> tuple[Link, socket.socket, socket.socket]:
    """A link, its other end, and the socket at which they met."""
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    link = Link(path, str)
    connection, _ = listener.accept()
    return link, connection, listener


def test_link_says_that_joining_again_is_possible(tmp_path: Path) -> None:
    """The word comes while nothing is asked, in pieces, behind an answer."""
    link, connection, listener = connected(tmp_path)
    connection.sendall(b'{"kind":"act"}\n{"kind":"error","problem":"the run was ro')
    assert link.ask("boundary") == {"kind": "act"}
    threading.Timer(0.1, connection.sendall, (b'lled back","again":true}\n',)).start()
    over = link.ended(20)
    assert isinstance(over, RolledBack) and over.again
    assert str(over).startswith("the run was rolled back; start the trainer anew, or call mistura.join() again")
    assert isinstance(raised(carried(over)), RolledBack)  # as the other ranks hear it
    for end in (connection, listener):
        end.close()
    with pytest.raises(RolledBack):
        link.ask("boundary")
    link.close()


def test_an_interrupted_question_is_not_answered_by_the_next(tmp_path: Path) -> None:
    """Ctrl-C while an answer is awaited: it comes later, and is not taken for another's."""
    link, connection, listener = connected(tmp_path)
    heard = connection.makefile("rb")

    def interrupt() -> None:
        heard.readline()
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        link.ask("boundary", step=1)
    other.join()
    connection.sendall(b'{"kind":"act","then":"go"}\n')
    with pytest.raises(Interrupted, match='"judge" cannot be asked: the answer to "boundary" was not waited for') as caught:
        link.ask("judge")
    assert caught.value.again
    for end in (heard, connection, listener):
        end.close()
    link.close()


def test_link_looks_around_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mistura process writes is handed on while it does not answer, such as that the run has no weights yet."""
    monkeypatch.setattr("mistura.link.WAIT_SAID_SECONDS", 0.01)
    link, connection, listener = connected(tmp_path)
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            connection.sendall(b'{"kind":"act"}\n')

    link._waiting = look
    assert link.ask("boundary") == {"kind": "act"} and len(looks) >= 3
    for end in (connection, listener):
        end.close()
    link.close()


def test_what_is_wrong_at_the_join_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads through this package to find it."""
    monkeypatch.setenv("MISTURA_JOIN_FILE", "nothing.join")
    with pytest.raises(InputError, match='MISTURA_JOIN_FILE "nothing.join": cannot be read') as caught:
        mistura.join(torch.nn.Linear(2, 2))
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.tb))
    assert [f.name for f in traceback.extract_tb(caught.tb)][1:] == ["join"] and shown.count("Traceback") == 1, shown


def test_link_to_nobody(tmp_path: Path) -> None:
    """A socket that is not there."""
    with pytest.raises(InputError, match=r"nobody answers there \(No such file"):
        Link(str(tmp_path / "s"), str)


def test_numbers_that_json_has_not() -> None:
    """They travel as words, and come back."""
    assert (
        encode("x", {"a": float("nan"), "b": float("-inf"), "c": 1.5, "d": None}) == b'{"kind":"x","a":"nan","b":"-inf","c":1.5,"d":null}\n'
    )
    assert number("inf") == float("inf")
    assert number(None) is None
