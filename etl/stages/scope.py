"""What a run works on: whether its options name something, which models, which it builds anew."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import ConfigError, EtlError
from etl.names import nearest
from etl.records import Options
from etl.settings import Settings

if TYPE_CHECKING:
    from etl.project.environment import Project


def check_options(settings: Settings, options: Options, now: datetime) -> None:
    """What can be known to be wrong before anything starts.

    Raises:
        ConfigError: unknown source, no folder of models, an interval that is none, a clock that
            is behind the first one.
    """
    if now.date() < settings.transform.start:
        raise ConfigError(
            f"transform.start {settings.transform.start} is to come: it is {now:%Y-%m-%d} UTC",
            hint="what is committed before it is never transformed: set the clock right, or start",
        )
    if not settings.sqlmesh_dir.is_dir() and settings.loads and "transform" in options.stages:
        raise ConfigError(
            f"{settings.sqlmesh_dir}: no such folder, and `loads` names {settings.loads[0].model}",
            hint="the models belong there: is it the right --project, and all of it?",
        )
    for name in options.sources:
        if name not in settings.active_sources:
            known = ", ".join(sorted(settings.active_sources)) or "none"
            what = "has `enabled: false`" if name in settings.sources else "no such source"
            raise ConfigError(f"--source {name}: {what}", hint=f"sources: {known}")
    bounds = []
    for option, text in (("--start", options.start), ("--end", options.end)):
        if text is not None:
            try:
                bound = datetime.fromisoformat(text)
            except ValueError:
                raise ConfigError(
                    f"{option} {text}: is no date", hint="write 2026-01-31 or 2026-01-31T12:00"
                ) from None
            bounds.append(bound if bound.tzinfo else bound.replace(tzinfo=UTC))
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        raise ConfigError(f"--start {options.start} lies after --end {options.end}")
    if any(bound > now for bound in bounds):
        raise ConfigError(
            f"--start/--end: an interval ends at the latest now, {now:%Y-%m-%dT%H:%M} UTC"
        )


def wanted_models(project: Project, options: Options) -> set[str] | None:
    """The models that the options name, with all that they read; None for every model."""
    chosen: set[str] | None = None
    if options.select:
        chosen = project.graph.with_upstream(project.select(options.select))
    if options.sources:
        below = project.graph.below_sources(options.sources)
        chosen = below if chosen is None else chosen & below
    return chosen


class Scope(NamedTuple):
    """The models that a run brings up to date, and those that stay, for what they read has failed.

    `is_part`: there are, or may be, others that the run leaves alone. `anew` are the wanted ones
    that the options ask to be built anew. `touched` are the wanted ones and what is built anew with
    them: only these are judged by the run, for the rest may be of an earlier day.
    """

    wanted: set[str]
    held: set[str]
    is_part: bool
    anew: set[str]
    touched: set[str]


def find_scope(
    project: Project,
    options: Options,
    failed_sources: Iterable[str] = (),
    unfit: Iterable[str] = (),
) -> Scope:
    """What the options name, without unfit models, and what is below them and failed sources.

    Nor is a model brought up to date whose file does not load, or that may read one of such a file.
    """
    select = wanted_models(project, options)
    unfit = project.graph.names.intersection(unfit) | project.kept | project.orphans.keys()
    held = project.graph.below_sources(failed_sources) | unfit | project.graph.below(unfit)
    wanted = (select if select is not None else project.graph.names) - held
    anew = set[str]()
    if options.full_refresh or options.start or options.end:
        anew = wanted & (project.select(options.select) if options.select else wanted)
    touched = wanted | (project.graph.below(anew) - held) | project.also
    return Scope(wanted, held, select is not None or bool(held), anew, touched)


def unknown_loads(project: Project, options: Options) -> list[EtlError]:
    """Loads of models that the project does not have; a run of a part does not ask for them.

    A model whose removal the policy holds back stands still, and is published. One that is
    embedded in others has no table. A file that does not load may have the model.
    """
    if options.environment != "prod" or options.select or options.sources or project.broken:
        return []
    known = {n for n in project.local_names if project.graph.kind(n) != "EMBEDDED"}
    if project.settings.transform.approve != "auto":
        known = known | project.built_names()
    absent = dict.fromkeys(x.model for x in project.settings.loads if x.model not in known)
    return [
        ConfigError(
            f"loads: no model is called {model}"
            if model not in project.local_names
            else f"loads: {model} is EMBEDDED: it has no table",
            subject=model,
            hint=nearest(model, known) or f"no model is in {project.settings.sqlmesh_dir}",
        )
        for model in absent
    ]
