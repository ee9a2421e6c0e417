"""The exit-code table in the forms that people and schedulers read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from etl.errors import ExitCode


def as_text() -> str:
    """Aligned columns for a terminal."""
    lines = [f"{'code':>4}  {'name':<15} {'retry':<6} meaning"]
    for code in ExitCode:
        again = "yes" if code.retryable else "-" if code is ExitCode.OK else "no"
        lines.append(f"{int(code):>4}  {code.name:<15} {again:<6} {code.meaning}")
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """The table of the README."""
    lines = ["| code | name | means | does retrying help? |", "|---|---|---|---|"]
    for code in ExitCode:
        again = "yes" if code.retryable else "" if code is ExitCode.OK else "no"
        lines.append(f"| {int(code)} | {code.name} | {code.meaning} | {again} |")
    return "\n".join(lines) + "\n"


def as_json() -> str:
    """A list of objects: code, name, meaning, retryable."""
    table = [
        {"code": int(c), "name": c.name, "meaning": c.meaning, "retryable": c.retryable}
        for c in ExitCode
    ]
    return json.dumps(table, indent=2) + "\n"


def as_kubernetes() -> str:
    """A Job's `podFailurePolicy`.

    Rules apply in order, lists are sorted and unique as the API server demands. 137 is the kernel's
    kill for memory. The index of the rule that applied stands in the Job's condition: 1 is a
    failure of the table that a person must mend, 3 one that nobody knows. Neither is retried.
    """
    final = sorted(c for c in ExitCode if not c.retryable and c is not ExitCode.OK)
    retry = sorted({int(c) for c in ExitCode if c.retryable} | {137})
    return f"""podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob
      onExitCodes:
        containerName: etl
        operator: In
        values: {_flow(final)}
    - action: Count
      onExitCodes:
        containerName: etl
        operator: In
        values: {_flow(retry)}
    - action: FailJob
      onExitCodes:
        containerName: etl
        operator: NotIn
        values: {_flow(sorted({0, *final, *retry}))}
"""


def as_systemd() -> str:
    """The lines of a systemd service that restart it after codes that retrying helps.

    `Restart=on-abnormal` adds what the kernel kills; a code that nobody knows is not restarted.
    """
    again = " ".join(str(int(c)) for c in ExitCode if c.retryable)
    never = " ".join(str(int(c)) for c in ExitCode if c and not c.retryable)
    return f"""Restart=on-abnormal
RestartForceExitStatus={again}
RestartPreventExitStatus={never}
"""


def _flow(codes: Iterable[int]) -> str:
    return f"[{', '.join(str(int(c)) for c in codes)}]"


FORMATS: dict[str, Callable[[], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "kubernetes": as_kubernetes,
    "systemd": as_systemd,
}
