"""A failure in 4 KiB of JSON, left where Kubernetes looks for a container's last words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etl.errors import ConfigError, EtlError
from etl.records import Failure, RunRecord

# The kubelet cuts longer messages off, and half a JSON object is none.
LIMIT = 4096
CUT = "…"


def describe_run(record: RunRecord) -> dict[str, Any] | None:
    """The most severe failure of a run; None when it ended well."""
    worst = record.worst
    if worst is None:
        return None
    run = {"run_id": record.run_id, "job": record.job, "stage": worst.stage}
    more = {"partial": record.partial, "more_failures": len(record.failures) - 1}
    return _describe(worst, run) | more


def describe_error(error: EtlError) -> dict[str, Any]:
    """A failure before there was a run, or of a command that makes none."""
    told = _describe(Failure.of(error, ""), {"run_id": ""})
    if isinstance(error, ConfigError) and error.problems:
        told["cause"] = "; ".join(map(str, error.problems))
    return told


def _describe(failure: Failure, run: dict[str, Any]) -> dict[str, Any]:
    about = ("subject", "message", "cause", "hint", "retryable")
    return {
        "code": failure.exit_code,
        "class": failure.exit_name,
        **run,
        **{name: getattr(failure, name) for name in about},
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
