"""A source's folder of dlt's: whether it is whole, and what it means that it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING

from dlt.common.schema.exceptions import SchemaEngineNoUpgradePathException
from dlt.pipeline.exceptions import PipelineStateEngineNoUpgradePathException

from etl.causes import causes, first_line
from etl.errors import ConfigError

if TYPE_CHECKING:
    from dlt import Pipeline

_NEWER = (PipelineStateEngineNoUpgradePathException, SchemaEngineNoUpgradePathException)
# dlt takes them for granted; a backup may leave out empty folders.
_PARTS = ("load/new", "load/normalized", "load/loaded", "normalize/extracted")


def make_whole(pipeline: Pipeline) -> bool:
    """Make the empty folders that are missing; False when a schema is, too."""
    folder = Path(pipeline.working_dir)
    for part in _PARTS:
        (folder / part).mkdir(parents=True, exist_ok=True)
    schemas = [folder / "schemas" / f"{n}.schema.json" for n in pipeline.schema_names]
    return all(path.is_file() for path in schemas)


@contextmanager
def folder_told(source: str, folder: Path) -> Iterator[None]:
    """Tell of files in a source's folder that dlt cannot read.

    Raises:
        ConfigError: they are of a newer dlt, or damaged.
    """
    try:
        yield
    except Exception as e:
        for cause in causes(e):
            if isinstance(cause, _NEWER):
                raise ConfigError(
                    f"{source}: {folder} is of a newer dlt than this one: {first_line(cause)}",
                    subject=source,
                    hint="start the version that wrote it, or put back the copy of before the "
                    "upgrade: docs/deploy.md, Upgrade and rollback",
                ) from e
            if isinstance(cause, JSONDecodeError | UnicodeDecodeError):
                raise ConfigError(
                    f"{source}: a file in {folder} is damaged: {first_line(cause)}",
                    subject=source,
                    hint=f"remove {folder}: the next run goes on from what the warehouse holds; "
                    "load packages that wait in there (`etl status`) are lost with it",
                ) from e
        raise
