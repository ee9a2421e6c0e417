"""Log lines: a loguru record as one flat JSON object or one readable line, free of secrets."""

from __future__ import annotations

import json
import math
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl.secrets import hide_secrets

if TYPE_CHECKING:
    from loguru import Record

Redact = Callable[[str], str]

CONTEXT = ("run_id", "stage", "source", "model")
OWN = {"time", "level", "event", "error"}
MAX_CHARACTERS = 20_000  # of one value: a whole response body in an error is no log
MAX_DEPTH = 6
# What moves a terminal's cursor, and what some readers of JSON lines take for the end of one.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_BREAK = re.compile(r"[\x7f-\x9f\u2028\u2029]")


class Lines:
    """Renders records as loguru's format functions: outside the sinks' lock."""

    def __init__(self, run_id: str, redact: Redact, *, tracebacks: bool) -> None:
        self._run_id, self._redact, self._tracebacks = run_id, redact, tracebacks

    # The line is handed over as a field: loguru would read braces and tags in a format.
    def format_json(self, record: Record) -> str:
        if "_json" not in record["extra"]:
            record["extra"]["_json"] = self._dump(self._fields(record))
        return "{extra[_json]}\n"

    def format_text(self, record: Record) -> str:
        record["extra"]["_text"] = self._write_out(self._fields(record))
        return "{extra[_text]}\n"

    def render_note(self, event: str, *, as_text: bool) -> str:
        fields = (
            _stamp(datetime.now(UTC))
            | {"level": "ERROR"}
            | self._clean(({"run_id": self._run_id} if self._run_id else {}) | {"event": event})
        )
        return (self._write_out if as_text else self._dump)(fields) + "\n"

    def _fields(self, record: Record) -> dict[str, Any]:
        extra = {"run_id": self._run_id} | record["extra"]
        fields = {k: extra[k] for k in CONTEXT if extra.get(k)}
        fields["event"] = record["message"]
        for key, value in extra.items():
            if key not in CONTEXT and not key.startswith("_"):
                fields[f"{key}_" if key in OWN else key] = value
        error = record["exception"]
        if error is not None and error.type is not None:
            fields["error"] = {"type": error.type.__name__, "message": _to_text(error.value)}
            if self._tracebacks:
                fields["traceback"] = "".join(traceback.format_exception(*error))
        level = record["level"].name
        return _stamp(record["time"]) | {"level": level} | self._clean(fields)

    def _clean(self, fields: dict[str, Any]) -> dict[str, Any]:
        # By name, too: a header or token that no setting knows.
        hidden = hide_secrets(_to_json(fields))
        return {key: self._redact_all(value) for key, value in hidden.items()}

    def _redact_all(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._redact(k): self._redact_all(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._redact_all(v) for v in value]
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        clean = self._redact(text)
        if clean == text and isinstance(value, int | float):
            return value
        # Cut after redaction: half a secret would not be recognised.
        cut = len(clean) - MAX_CHARACTERS
        return clean if cut <= 0 else f"{clean[:MAX_CHARACTERS]}… ({cut} characters more)"

    def _dump(self, fields: dict[str, Any]) -> str:
        line = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        line = _BREAK.sub(lambda m: f"\\u{ord(m.group()):04x}", line)
        clean = self._redact(line)
        if clean == line:
            return line
        # A secret that only the whole line shows. But a mask must not eat the line's own syntax:
        # every value is clean already, so the line before is the better one then.
        try:
            parsed = json.loads(clean)
        except ValueError:
            return line
        own = ("time", "level")
        kept = list(parsed) == list(fields) and all(parsed[k] == fields[k] for k in own)
        return clean if kept else line

    def _write_out(self, fields: dict[str, Any]) -> str:
        rest = dict(fields)
        time, level, event = rest.pop("time"), rest.pop("level"), rest.pop("event")
        rest.pop("run_id", None)
        error, trace = rest.pop("error", None), rest.pop("traceback", None)
        where = " ".join(str(rest.pop(k)) for k in CONTEXT if k in rest)
        said = f"{where}: {event}" if where else event
        parts = [said, *(f"{k}={v}" for k, v in rest.items())]
        parts += [f"{error['type']}: {error['message']}"] if error else []
        text = "  ".join(parts) + (f"\n{trace.rstrip()}" if trace else "")
        text = _CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode(), text)
        # Indented, so that no value can pass for a line of ours.
        text = text.replace("\n", "\n    ")
        return self._redact(f"{time[11:19]}Z {level:<8} {text}")


def _stamp(time: datetime) -> dict[str, Any]:
    return {"time": f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23] + "Z"}


def _to_json(value: Any, depth: int = 0) -> Any:
    """JSON types only; whatever is none of them becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth < MAX_DEPTH:
        if isinstance(value, dict):
            return {_to_text(k): _to_json(v, depth + 1) for k, v in list(value.items())}
        if isinstance(value, list | tuple | set | frozenset):
            return [_to_json(v, depth + 1) for v in list(value)]
    return _to_text(value)


def _to_text(value: Any) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  anything may be bound; a log line is no reason to fail
        return f"<{type(value).__name__} without text>"
    # Lone surrogates (bytes of a file name) can be written nowhere.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
