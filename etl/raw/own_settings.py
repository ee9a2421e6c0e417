"""dlt's own configuration: what it says of pipelines would drop raw's tables, or move them."""

from __future__ import annotations

from dlt.common.configuration import known_sections, resolve_configuration
from dlt.pipeline.configuration import PipelineConfiguration

from etl.errors import ConfigError


def refuse_own_settings(source: str) -> None:
    """Refuse what dlt's own configuration says of a source's pipeline.

    Raises:
        ConfigError: names the settings.
    """
    sections = (known_sections.PIPELINES, source)
    found = resolve_configuration(PipelineConfiguration(pipeline_name=source), sections=sections)
    said = {"dev_mode": found.dev_mode, "full_refresh": found.full_refresh,
            "refresh": found.refresh, "dataset_name_layout": found.dataset_name_layout,
            "use_single_dataset": not found.use_single_dataset,
            "restore_from_destination": not found.restore_from_destination}  # fmt: skip
    if names := [name for name, is_other in said.items() if is_other]:
        raise ConfigError(
            f"{source}: dlt's own configuration says {', '.join(names)}, and the job decides that",
            subject=source,
            hint=f"remove it: the variable {names[0].upper()} or PIPELINES__{names[0].upper()}, or "
            "a line in .dlt/config.toml",
        )
