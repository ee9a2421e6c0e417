"""What the doctor found: one line for each thing that was looked at, and the code of them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from etl.errors import EtlError, ExitCode, most_severe

Status = Literal["ok", "warning", "failed"]
_SIGNS: dict[Status, str] = {"ok": "ok", "warning": "warn", "failed": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    A `warning` stops no run; what is `failed` would end one, with `code`.
    """

    area: str
    subject: str
    status: Status
    message: str
    hint: str = ""
    seconds: float | None = None
    code: ExitCode = ExitCode.OK

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {
            "area": self.area,
            "subject": self.subject,
            "status": self.status,
            "message": self.message,
            "hint": self.hint,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "exit_code": int(self.code),
            "exit_name": self.code.name,
        }


def ask(area: str, subject: str, question: Callable[[], str]) -> Finding:
    """Time a question: its answer, or the failure that it ends with, as a finding."""
    started = time.perf_counter()
    try:
        answer = question()
    except EtlError as error:
        return Finding(
            area, subject, "failed", str(error), error.hint, time.perf_counter() - started,
            error.code,
        )  # fmt: skip
    return Finding(area, subject, "ok", answer, seconds=time.perf_counter() - started)


def verdict(findings: Iterable[Finding]) -> ExitCode:
    """The code of the most severe finding."""
    return most_severe([f.code for f in findings])


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The whole report as plain values."""
    code = verdict(findings)
    return {
        "exit_code": int(code),
        "exit_name": code.name,
        "findings": [f.as_json() for f in findings],
    }


def as_table(findings: list[Finding]) -> str:
    """The report as lines for a terminal: what was asked, the answer, and what to do."""
    named = [f"{f.area} {f.subject}".strip() for f in findings]
    width = max(map(len, named), default=0)
    lines = []
    for name, f in zip(named, findings, strict=True):
        took = f" ({f.seconds:.2f} s)" if f.seconds is not None else ""
        lines.append(f"{_SIGNS[f.status]:<5} {name:<{width}}  {f.message}{took}")
        if f.hint and f.status != "ok":
            lines.append(f"{'':<5} {'':<{width}}  → {f.hint}")
    code = verdict(findings)
    lines.append(
        "the job can run here"
        if code is ExitCode.OK
        else f"a run would end with {int(code)} {code.name}: {code.meaning}"
    )
    return "\n".join(lines) + "\n"
