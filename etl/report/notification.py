"""What a run tells people: the worst failure, or that all is well again, as JSON for a webhook."""

from __future__ import annotations

from typing import Any

from etl.errors import EtlError, ExitCode
from etl.records import Failure, RunRecord
from etl.settings import Settings

# Of one text: a chat refuses long messages, and the record has all of it.
MAX_CHARACTERS = 1000


def about_run(settings: Settings, record: RunRecord, before: RunRecord | None) -> dict[str, Any]:
    """The message about a finished run; empty when nobody wants one.

    `before` is the run before it: a good run is told when that one failed.
    """
    if record.worst is not None:
        return _failure(settings, record.worst, record) if "failure" in settings.notify.when else {}
    failed_before = record.attempt > 1 or (before is not None and before.exit_code != 0)
    if not failed_before or "recovery" not in settings.notify.when:
        return {}
    return {
        "text": f"Job {settings.job} is well again: run {record.run_id} ended with 0.",
        "status": "recovery",
        "job": settings.job,
        "run_id": record.run_id,
        "code": 0,
        "class": ExitCode.OK.name,
        "labels": settings.labels,
    }


def about_refusal(settings: Settings, error: EtlError) -> dict[str, Any]:
    """The message about a run that could not begin; empty when nobody wants one."""
    wanted = "failure" in settings.notify.when
    return _failure(settings, Failure.of(error, ""), None) if wanted else {}


def _failure(settings: Settings, worst: Failure, record: RunRecord | None) -> dict[str, Any]:
    more = len(record.failures) - 1 if record else 0
    texts = {k: _cut(getattr(worst, k)) for k in ("subject", "message", "cause", "hint")}
    lines = [
        f"Job {settings.job} failed: {worst.exit_name} ({worst.exit_code})",
        texts["message"],
        f"→ {texts['hint']}" if worst.hint else "",
        f"and {more} more failure{'s' if more > 1 else ''}" if more else "",
        "the rest was published" if record and record.partial else "",
        f"run {record.run_id}" if record else "the run did not begin",
    ]
    return {
        "text": _escaped("\n".join(line for line in lines if line)),
        "status": "failure",
        "job": settings.job,
        "run_id": record.run_id if record else None,
        "code": worst.exit_code,
        "class": worst.exit_name,
        "stage": worst.stage,
        **texts,
        "retryable": worst.retryable,
        "partial": bool(record and record.partial),
        "failures": more + 1,
        "labels": settings.labels,
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def _escaped(text: str) -> str:
    """As Slack asks for it: an API's `<!channel>` in an error must not call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
