"""Drops what SQLMesh keeps and nothing uses any more: a job of years stays small and quick."""

from __future__ import annotations

from etl.project.environment import Project
from etl.project.failures import classify


def tidy(project: Project) -> None:
    """Drop expired environments and versions of models, and join what is noted of intervals.

    A version expires a week after the last environment left it, unless its model sets another
    `ttl`. Each evaluation of a model is noted as a row, and every run would read all of them.
    Killed in between, the next call goes on.

    Raises:
        EtlError: something could not be dropped; it is tried again the next time.
    """
    try:
        project.context.run_janitor(ignore_ttl=False)
    except Exception as e:
        raise classify(e, project.settings, "expired versions of models cannot be dropped") from e
