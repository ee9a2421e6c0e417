"""Log lines: one object each, nothing secret in them, and no sink that can end or spoil a run."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from pydantic import SecretStr, ValidationError

from etl import logs
from etl.lines import Redact
from etl.logs import adopt_library_loggers, bound, shared_console, stage_context, start_logs
from etl.progress import Progress
from etl.secrets import redactor
from etl.settings import Settings, read_size


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Standard logging is the process's: give it back to the other tests as it was."""
    watched = [logging.getLogger(), *map(logging.getLogger, logs.LIBRARIES)]
    before = [(x, x.handlers[:], x.level, x.propagate) for x in watched]
    yield
    logger.remove()
    logging.captureWarnings(False)
    for x, handlers, level, propagate in before:
        x.handlers[:], x.propagate = handlers, propagate
        x.setLevel(level)


class Log:
    """Logs to a folder, and to a stream for standard error (pytest changes the real one)."""

    def __init__(self, stream: TextIO, folder: Path | None) -> None:
        self.stream, self.folder = stream, folder

    def start(self, redact: Redact = str, run_id: str = "r1", **log: Any) -> Callable[[], None]:
        with contextlib.redirect_stderr(self.stream):
            return start_logs(Settings(log=log), self.folder, run_id, redact)

    @contextlib.contextmanager
    def __call__(self, redact: Redact = str, **more: Any) -> Iterator[None]:
        stop = self.start(redact, **more)
        yield
        stop()

    @property
    def text(self) -> str:
        """What the file holds."""
        file = (self.folder or Path()) / "log.jsonl"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.split("\n")[:-1]]

    @property
    def shown(self) -> str:
        """What the stream got."""
        assert isinstance(self.stream, io.StringIO)
        return self.stream.getvalue()

    @property
    def shown_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.shown.split("\n")[:-1]]


def events(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(io.StringIO(), tmp_path)


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Log:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Log(FakeTerminal(), tmp_path)


# --- the line -----------------------------------------------------------------------------------


def test_a_line_is_one_flat_object_in_the_documented_order(log: Log) -> None:
    with log(), stage_context("extract", source="bluesky"):
        logger.bind(rows=42, pages=3).info("extracted")

    (line,) = log.lines
    assert list(line) == ["time", "level", "run_id", "stage", "source", "event", "rows", "pages"]
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")
    age = datetime.now(UTC) - datetime.fromisoformat(line["time"])
    assert abs(age.total_seconds()) < 60
    del line["time"]
    assert line == {
        "level": "INFO",
        "run_id": "r1",
        "stage": "extract",
        "source": "bluesky",
        "event": "extracted",
        "rows": 42,
        "pages": 3,
    }


def test_standard_error_gets_the_same_lines_when_it_is_no_terminal(log: Log) -> None:
    with log():
        logger.bind(rows=1).info("extracted")
    assert log.shown_lines == log.lines


def test_a_command_that_is_no_run_logs_to_standard_error_only(log: Log, tmp_path: Path) -> None:
    log.folder = None
    with log(run_id=""):
        logger.info("checked")
    (line,) = log.shown_lines
    assert "run_id" not in line
    assert not list(tmp_path.iterdir())


def test_values_that_are_no_json_become_text(log: Log) -> None:
    class Silent:
        def __str__(self) -> str:
            raise ValueError("no text")

    nested: dict[str, Any] = {}
    nested["self"] = nested
    with log():
        logger.bind(
            nan=float("nan"),
            path=Path("/a"),
            amount=Decimal("1.5"),
            names={"x"},
            mixed={1: (b"x", None, True)},
            bad=Silent(),
            nested=nested,
            name="\udc80",
            hidden=SecretStr("plain-secret"),
        ).info("said")
    (line,) = log.lines
    assert line["nan"] == "nan"
    assert line["path"] == "/a"
    assert line["amount"] == "1.5"
    assert line["names"] == ["x"]
    assert line["mixed"] == {"1": ["b'x'", None, True]}
    assert line["bad"] == "<Silent without text>"
    assert line["name"] == "\\udc80"
    assert line["hidden"] == "**********"


def test_a_bound_field_cannot_replace_one_of_ours(log: Log) -> None:
    with log():
        logger.bind(time="noon", level="low", event="e", error="x").info("said")
    (line,) = log.lines
    assert (line["level"], line["event"]) == ("INFO", "said")
    assert [line[f"{k}_"] for k in ("time", "level", "event", "error")] == ["noon", "low", "e", "x"]


@given(event=st.text(), value=st.text())
def test_any_text_comes_back_from_its_line(event: str, value: str) -> None:
    log = Log(io.StringIO(), None)
    with log():
        logger.bind(value=value).info(event)
    assert len(log.shown.splitlines()) == 1
    (line,) = log.shown_lines
    assert (line["event"], line["value"]) == (event, value)


@pytest.mark.parametrize(("level", "shown"), [("INFO", False), ("DEBUG", True)])
def test_a_traceback_is_written_at_debug_only(log: Log, level: str, shown: bool) -> None:
    with log(level=level):
        try:
            raise ValueError("no such page")
        except ValueError:
            logger.exception("failed")
    (line,) = log.lines
    assert line["error"] == {"type": "ValueError", "message": "no such page"}
    assert ("traceback" in line) is shown
    assert list(line)[-1] == ("traceback" if shown else "error")


def test_an_exception_logged_outside_of_any_is_an_ordinary_line(log: Log) -> None:
    with log():
        logger.exception("failed")
    assert "error" not in log.lines[0]


@pytest.mark.parametrize("text", ["{}", "{x} {0}", "%s %d", "<red>x</red>", "</>", "[red]x[/red]"])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_braces_percents_and_tags_in_data_are_only_text(
    log: Log, log_format: str, text: str
) -> None:
    with log(format=log_format):
        logger.bind(value=text).info(text)
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception(text)
        logging.getLogger("dlt").warning(text)
    assert events(log.lines) == [text] * 3
    assert log.shown.count(text) >= 4


def test_a_very_long_value_is_cut_after_redaction(log: Log) -> None:
    secret = "s3cr3t-canary"
    with log(redactor({"a": SecretStr(secret)})):
        logger.info("x" * 19_995 + secret)
    event = log.lines[0]["event"]
    assert len(event) < 20_100
    assert "s3cr" not in event


# --- context ------------------------------------------------------------------------------------


def test_a_thread_carries_run_stage_and_source(log: Log) -> None:
    def extract(n: int) -> None:
        with logger.contextualize(source=f"s{n}"):
            logger.info("extracted")

    with log():
        with stage_context("extract"):
            in_context = bound(extract)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(in_context, range(8)))
    found = {(x["run_id"], x["stage"], x["source"]) for x in log.lines}
    assert found == {("r1", "extract", f"s{n}") for n in range(8)}


# --- libraries ----------------------------------------------------------------------------------


def test_library_information_is_our_debug_and_warnings_stay(log: Log) -> None:
    with log(level="DEBUG"):
        logging.getLogger("sqlmesh.core.plan").info("planned %s", "a")
        logging.getLogger("sqlglot").debug("parsed")
        logging.getLogger("dlt").warning("slow")
        logging.getLogger("urllib3.connectionpool").error("refused")
        logging.getLogger("unheard.of").critical("gone")
        logging.getLogger("dlt").log(35, "between")
    assert [(x["level"], x["logger"], x["event"]) for x in log.lines] == [
        ("DEBUG", "sqlmesh", "planned a"),
        ("WARNING", "dlt", "slow"),
        ("ERROR", "urllib3", "refused"),
        ("CRITICAL", "unheard", "gone"),
        ("WARNING", "dlt", "between"),
    ]


def test_a_normal_run_does_not_show_library_information(log: Log) -> None:
    with log():
        logging.getLogger("dlt").info("normalized")
    assert log.lines == []


def test_what_a_users_function_says_for_information_is_a_line(log: Log) -> None:
    with log(level="DEBUG"):
        logging.info("read %d", 3)
        logging.getLogger("jobs.prices").info("quietly")
    assert [(x["level"], x["logger"], x["event"]) for x in log.lines] == [
        ("INFO", "root", "read 3"),
        ("DEBUG", "jobs", "quietly"),
    ]


def test_python_warnings_are_lines(log: Log) -> None:
    with log(), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        adopt_library_loggers()
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    (line,) = log.lines
    assert line["logger"] == "warnings"
    assert line["event"].endswith("DeprecationWarning: old")


@pytest.mark.parametrize("adopt_again", [False, True])
def test_dlt_adds_no_handler_and_no_double_line(log: Log, adopt_again: bool) -> None:
    from dlt.common.logger import _create_logger

    with log():
        with contextlib.redirect_stderr(log.stream):
            _create_logger("dlt", "WARNING", "{message}", "pipeline", {})
        if adopt_again:
            adopt_library_loggers()
        logging.getLogger("dlt").warning("slow")
    assert events(log.lines) == ["slow"]
    assert events(log.shown_lines) == ["slow"]


def test_a_library_that_prints_is_taken_off_the_terminal(log: Log) -> None:
    with log():
        library = logging.getLogger("sqlmesh.noisy")
        library.addHandler(logging.StreamHandler(log.stream))
        other = logging.getLogger("noisy")
        other.propagate = False
        other.addHandler(logging.StreamHandler(sys.stdout))
        with contextlib.redirect_stderr(log.stream):
            adopt_library_loggers()
        library.warning("once")
        other.warning("once")
    assert [x["logger"] for x in log.lines] == ["sqlmesh", "noisy"]
    assert len(log.shown_lines) == 2


def test_wrong_arguments_of_a_library_line_are_not_printed(log: Log) -> None:
    with log():
        logging.getLogger("dlt").warning("%s %s", "only one")  # noqa: PLE1206 - what is tested
    assert events(log.shown_lines) == ["%s %s"]


# --- secrets ------------------------------------------------------------------------------------

CANARIES = {
    "plain": "canary-0123456789",
    "json special": 'ca"na\\ry/\n\tend',
    "unicode": "kanärienvögel-🐤-\u2028x",
    "braces": "{canary}<red>%s",
    "url special": "ca/na+ry=?&#%20",
}


def forms(secret: str) -> list[str]:
    return [
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    ]


def log_everywhere(secret: str) -> None:
    encoded = quote(secret, safe="")
    logger.info(f"sent Authorization: Bearer {secret}")
    logger.info(f"asked https://user:{encoded}@host/path?a=1&token={encoded}&b=2#f")
    logger.info(f"quoted \"https://host/?api_key={encoded}\" and '{secret}'")
    logger.bind(
        url=f"postgresql://u:{encoded}@h/db",
        headers={"Authorization": f"Bearer {secret}", "X-Odd": [secret]},
        deep={"a": [{"b": (secret,)}], secret: "as a key"},
        body=secret.encode(),
    ).warning("fields")
    try:
        try:
            raise KeyError(secret)
        except KeyError as e:
            raise ValueError(f"401 for {secret} at https://h/?q={encoded}") from e
    except ValueError as e:
        e.add_note(f"note {secret}")
        logger.exception(f"failed {secret}")
        logging.getLogger("dlt").exception("failed %s", secret)
    logging.getLogger("urllib3").warning("retry %s %r", f"/x?token={encoded}", {"k": encoded})
    logging.getLogger("sqlmesh").error(f"no args {secret}")


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("kind", CANARIES)
def test_no_secret_reaches_any_sink(log: Log, kind: str, level: str, log_format: str) -> None:
    secret = CANARIES[kind]
    redact = redactor({"auth": SecretStr(secret)})
    with log(redact, level=level, format=log_format), contextlib.redirect_stdout(log.stream):
        log_everywhere(secret)
    parts = ('ca"na', "na\\ry") if kind == "json special" else ()
    for written in (log.text, log.shown):
        shown = [form for form in (*forms(secret), *parts) if form in written]
        assert not shown, written
    assert len(log.lines) == 8


def test_a_number_that_is_a_secret_is_masked(log: Log) -> None:
    with log(redactor({"auth": SecretStr("48151623")})):
        logger.bind(pin=48151623, rows=42).info("said")
    (line,) = log.lines
    assert (line["pin"], line["rows"]) == ("**********", 42)


def test_what_no_setting_knows_is_masked_by_its_name(log: Log) -> None:
    with log(redactor()):
        logger.bind(request={"headers": {"X-Odd": "unknown-canary", "Accept": "json"}}).info("sent")
    headers = log.lines[0]["request"]["headers"]
    assert headers == {"X-Odd": "**********", "Accept": "json"}


@pytest.mark.parametrize("secret", ["time", "event", "level", "INFO", '","', '":"', "2026", "true"])
def test_a_secret_cannot_break_the_line(log: Log, secret: str) -> None:
    with log(redactor({"auth": SecretStr(secret), "b": SecretStr("xyz" + secret)})):
        logger.bind(ok=True).info("said")
    (line,) = log.lines
    assert list(line) == ["time", "level", "run_id", "event", "ok"]
    assert line["level"] == "INFO"
    datetime.fromisoformat(line["time"])


# --- sinks that fail ----------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A disk that takes five more bytes of a line, then is full, until it says it is not."""
    state = {"full": True}
    write = os.write

    def fake(descriptor: int, data: bytes) -> int:
        if not state["full"]:
            return write(descriptor, data)
        if len(data) > 20:
            return write(descriptor, data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fake)
    return state


@pytest.mark.parametrize("quiet", [False, True])
def test_a_full_disk_is_said_once_and_the_log_goes_on(
    log: Log, full_disk: dict[str, bool], quiet: bool
) -> None:
    with log(quiet=quiet):
        logger.info("one")
        logger.info("two")
        full_disk["full"] = False
        logger.info("three")
    said = log.shown_lines
    assert events(said) == ["log file: No space left on device", "one", "two", "three"]
    assert said[0]["level"] == "ERROR"
    assert events(log.lines) == ["three"]


def test_a_file_that_cannot_be_opened_is_said_once(log: Log, tmp_path: Path) -> None:
    log.folder = tmp_path / "run"
    log.folder.write_text("a file stands where the folder should be")
    with log():
        logger.info("one")
        logger.info("two")
    assert events(log.shown_lines) == ["log file: File exists", "one", "two"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_standard_error_does_not_end_the_run(log: Log) -> None:
    # Open until the end: what it holds back cannot be written when it is closed either.
    log.stream = Path("/dev/full").open("w", encoding="utf-8", buffering=1)  # noqa: SIM115
    with log():
        logger.info("one")
    with contextlib.suppress(OSError):
        log.stream.close()
    assert events(log.lines) == ["one"]


def test_a_closed_standard_error_does_not_end_the_run(log: Log) -> None:
    with log():
        log.stream.close()
        logger.info("one")
    assert events(log.lines) == ["one"]


def test_a_second_attempt_appends_to_the_same_file(log: Log) -> None:
    for event in ("first", "second"):
        with log():
            logger.info(event)
    assert events(log.lines) == ["first", "second"]


def test_half_a_line_of_a_dead_machine_does_not_spoil_the_next(log: Log, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"time": "20')
    with log():
        logger.info("next")
    half, whole = log.text.splitlines()
    assert half == '{"time": "20'
    assert json.loads(whole)["event"] == "next"


def test_a_large_file_is_split_without_losing_a_line(log: Log, tmp_path: Path) -> None:
    with log(rotation="1 KB"):
        for n in range(50):
            logger.info(f"line {n}")
    parts = sorted(tmp_path.glob("log.*.jsonl"), key=lambda p: int(p.name.split(".")[1]))
    assert len(parts) > 3
    everything = [*parts, tmp_path / "log.jsonl"]
    assert max(p.stat().st_size for p in everything) <= 1000
    events = [json.loads(x)["event"] for p in everything for x in p.read_text().splitlines()]
    assert events == [f"line {n}" for n in range(50)]


@pytest.mark.parametrize("rotation", ["banana", "", "-1 MB", "0 MB", "1 day", "10 XB"])
def test_a_rotation_that_is_no_size_is_a_config_error(log: Log, rotation: str) -> None:
    with pytest.raises(ValidationError, match=r"log\.rotation"):
        log.start(rotation=rotation)


@pytest.mark.parametrize(
    ("text", "size"),
    [("100 MB", 10**8), ("1.5 GiB", 1_610_612_736), ("4096B", 4096), ("10kb", 10_000)],
)
def test_sizes_are_read_as_written(text: str, size: int) -> None:
    assert read_size(text) == size


def test_quiet_keeps_warnings_on_standard_error_and_all_in_the_file(log: Log) -> None:
    with log(quiet=True):
        logger.info("extracted")
        logger.warning("slow")
    assert events(log.shown_lines) == ["slow"]
    assert events(log.lines) == ["extracted", "slow"]


def test_nothing_is_written_after_the_end(log: Log) -> None:
    stop = log.start()
    stop()
    stop()
    logger.error("late")
    logging.getLogger("dlt").error("late")
    assert log.shown == ""


# --- text ---------------------------------------------------------------------------------------


def test_text_is_asked_for_or_chosen_on_a_terminal(terminal: Log) -> None:
    with terminal(), stage_context("extract", source="bluesky"):
        logger.bind(rows=42).warning("few rows")
    written = terminal.shown
    assert "extract bluesky: few rows  rows=42" in written
    assert "\x1b[33m" in written, "coloured"
    assert terminal.lines[0]["event"] == "few rows"


def test_json_on_a_terminal_when_asked_for(terminal: Log) -> None:
    with terminal(format="json"):
        assert shared_console() is None
        logger.info("said")
    assert terminal.shown_lines[0]["event"] == "said"


@pytest.mark.parametrize("text", ["<red>x</red> {}", "[bold]x[/bold]", "[/nope]", ":smile:"])
def test_markup_in_data_is_only_text_on_a_terminal(terminal: Log, text: str) -> None:
    with terminal():
        logger.bind(v=text).info(text)
    assert f"{text}  v={text}" in terminal.shown


def test_data_cannot_forge_a_line_or_move_the_cursor(log: Log) -> None:
    with log(format="text"):
        logger.info("one\n12:00:00Z INFO     forged\x1b[2J\r\x9b")
    first, second = log.shown.splitlines()
    assert first.endswith(" one")
    assert second == "    12:00:00Z INFO     forged\\x1b[2J\\r\\x9b"


# --- progress -----------------------------------------------------------------------------------


def test_without_a_terminal_progress_is_a_line_each_half_minute(log: Log) -> None:
    # Each count asks for the time once: two a second, and then the models.
    times = iter([*(n / 2 for n in range(130)), 65, 100])
    with log(), Progress(clock=lambda: next(times)) as progress:
        progress.stage("extract")
        for _ in range(65):
            progress.advance("pages", "bluesky")
            progress.advance("rows", "bluesky", 100)
        progress.stage("transform")
        progress.advance("models", "marts.a")
        progress.advance("models", "marts.b")
    found = log.lines
    assert [(x["event"], x.get("source"), x.get("pages"), x.get("models")) for x in found] == [
        ("extracting", "bluesky", 31, None),
        ("extracting", "bluesky", 61, None),
        ("transforming", None, None, 2),
    ]


def test_progress_counts_from_many_threads(terminal: Log) -> None:
    def extract(source: str) -> None:
        for _ in range(500):
            progress.advance("rows", source, 2)
            logger.debug("not shown")

    with terminal(), Progress() as progress:
        progress.stage("extract")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(extract, ["s0", "s1", "s0", "s1"]))
        logger.warning("between")
    written = terminal.shown
    assert written.count("2,000 rows") >= 2
    assert "between" in written


def test_the_terminal_is_restored_when_the_run_fails(terminal: Log) -> None:
    with terminal(), contextlib.suppress(KeyboardInterrupt), Progress() as progress:
        progress.stage("extract")
        progress.advance("pages", "[red]{x}", 1)
        raise KeyboardInterrupt
    written = terminal.shown
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert written.rindex(show) > written.rindex(hide)


def test_quiet_shows_no_progress(terminal: Log) -> None:
    with terminal(quiet=True), Progress() as progress:
        progress.stage("extract")
        progress.advance("pages", "bluesky")
    assert terminal.shown == ""


def test_standard_output_stays_free_while_progress_is_live(
    terminal: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(), Progress() as progress:
        progress.advance("pages", "bluesky")
        sys.stdout.write("data\n")
    assert capsys.readouterr().out == "data\n"
