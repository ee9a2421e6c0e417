"""Which models a run works on: what its options name, and what of that it builds anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl.checks import nearest
from etl.errors import ConfigError, EtlError
from etl.records import Options

if TYPE_CHECKING:
    from etl.project.environment import Project


def wanted_models(project: Project, options: Options) -> set[str] | None:
    """The models that the options name, with all that they read; None for every model."""
    chosen: set[str] | None = None
    if options.select:
        chosen = project.graph.with_upstream(project.select(options.select))
    if options.sources:
        below = project.graph.below_sources(options.sources)
        chosen = below if chosen is None else chosen & below
    return chosen


def models_in_scope(
    project: Project, options: Options, failed_sources: Iterable[str] = ()
) -> set[str]:
    """The models that a run with these options brings up to date, what it builds anew included.

    Models below a failed source stay as they are. Only what is in scope is judged by this run: the
    rest may be of an earlier day.
    """
    select = wanted_models(project, options)
    held = project.graph.below_sources(failed_sources)
    wanted = (select if select is not None else project.graph.names) - held
    below = project.graph.below(models_to_restate(project, options, wanted)) - held
    return wanted | below | project.also


def unknown_loads(project: Project, options: Options) -> list[EtlError]:
    """Loads of models that the project does not have; a run of a part does not ask for them.

    A model whose removal the policy holds back stands still, and is published.
    """
    if options.environment != "prod" or options.select or options.sources:
        return []
    known = project.local_names
    if project.settings.transform.approve != "auto":
        known = known | project.built_names()
    absent = dict.fromkeys(x.model for x in project.settings.loads if x.model not in known)
    return [
        ConfigError(
            f"loads: no model is called {model}",
            subject=model,
            hint=nearest(model, known) or f"no model is in {project.settings.sqlmesh_dir}",
        )
        for model in absent
    ]


def models_to_restate(project: Project, options: Options, wanted: set[str]) -> set[str]:
    """The wanted models that the options ask to be built anew."""
    if not options.full_refresh and not options.start and not options.end:
        return set()
    return (project.select(options.select) if options.select else wanted) & wanted
