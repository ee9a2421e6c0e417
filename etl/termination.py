"""A failure in 4 KiB of JSON, left where Kubernetes looks for a container's last words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etl.causes import causes
from etl.errors import ConfigError, EtlError
from etl.records import RunRecord

# The kubelet cuts longer messages off, and half a JSON object is none.
LIMIT = 4096
CUT = "…"


def describe_run(record: RunRecord) -> dict[str, Any] | None:
    """The most severe failure of a run; None when it ended well."""
    worst = record.worst
    if worst is None:
        return None
    return {
        "code": worst.exit_code,
        "class": worst.exit_name,
        "run_id": record.run_id,
        "job": record.job,
        "stage": worst.stage,
        "subject": worst.subject,
        "message": worst.message,
        "cause": worst.cause,
        "hint": worst.hint,
        "retryable": worst.retryable,
        "partial": record.partial,
        "more_failures": len(record.failures) - 1,
    }


def describe_error(error: EtlError) -> dict[str, Any]:
    """A failure before there was a run, or of a command that makes none."""
    root = causes(error)[-1]
    cause = "" if root is error else f"{type(root).__name__}: {root}"
    if isinstance(error, ConfigError) and error.problems:
        cause = "; ".join(map(str, error.problems))
    return {
        "code": int(error.code),
        "class": error.code.name,
        "run_id": "",
        "subject": error.subject,
        "message": error.message,
        "cause": cause,
        "hint": error.hint,
        "retryable": error.code.retryable,
    }


def encode(description: dict[str, Any]) -> bytes:
    """UTF-8 of at most `LIMIT` bytes, a JSON object always: the longest text is cut first."""
    fitted = dict(description)
    while len(data := _bytes(fitted)) > LIMIT:
        texts = {k: v.removesuffix(CUT) for k, v in fitted.items() if isinstance(v, str)}
        longest = max(texts, key=lambda name: len(_bytes(texts[name])))
        text = texts[longest]
        # A character is at most 6 bytes here (an escaped control character): never cut too much.
        keep = min(len(text) - 1, len(text) - (len(data) - LIMIT) // 6)
        fitted[longest] = text[:keep] + CUT
    return data


def leave_message(path: Path, description: dict[str, Any]) -> str:
    """Write it into the file, which is Kubernetes' own and so is not replaced; why not, or ""."""
    try:
        with path.open("wb") as file:
            file.write(encode(description))
    except OSError as e:  # there is none outside of Kubernetes; the run's code counts
        return e.strerror or type(e).__name__
    return ""


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
