"""Projects whose models are all generated: a source that a test fills, any write disposition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etl.generate.files import FileChange
from etl.generate.generation import bring_files
from etl.records import RunRecord
from tests.integration.projects import FILES, Shop

CONFIG = """
job: made
data_dir: data
retry: {attempts: 1}
transform: {start: 2026-01-01}
sources:
"""
SOURCE = """\
  {source}:
    factory: tests.integration.generating:tables
    arguments: {{folder: "{folder}"}}
    required: false
"""


def tables(folder: str) -> Any:
    """The resources of `folder`/resources.json: dlt's hints, and `rows`, each given once.

    With `arrow` they come as one table.
    """
    import dlt
    import pyarrow as pa

    path = Path(folder) / "resources.json"
    resources = json.loads(path.read_text(encoding="utf-8"))

    def rows_of(given: list[Any]) -> Iterator[Any]:
        yield from given

    made = []
    left = []
    for one in resources:
        hints = dict(one)
        rows = hints.pop("rows", None)
        if hints.pop("arrow", False) and rows is not None:
            rows = [pa.Table.from_pylist(rows)]
        left.append(hints)
        if rows is not None:
            made.append(dlt.resource(rows_of(rows), **hints))
    path.write_text(json.dumps(left), encoding="utf-8")

    @dlt.source(name="made")
    def source() -> Any:
        return made

    return source()


class Made(Shop):
    """One project in a folder, with the source `made` unless named otherwise."""

    def __init__(self, folder: Path, source: str = "made") -> None:
        self.folder = folder
        self.write("config/etl.yaml", CONFIG + SOURCE.format(folder=folder, source=source))
        self.write("sqlmesh/config.py", FILES["sqlmesh/config.py"])

    def add_source(self, name: str) -> None:
        """One source more, which `give` fills by its name."""
        config = (self.folder / "config/etl.yaml").read_text(encoding="utf-8")
        added = SOURCE.format(folder=self.folder / name, source=name)
        self.write("config/etl.yaml", config + added)

    def give(self, *resources: dict[str, Any], source: str = "") -> None:
        """What the next extraction brings; of an added source if one is named."""
        self.write(str(Path(source, "resources.json")), json.dumps(resources))

    def extract(self, *resources: dict[str, Any]) -> RunRecord:
        """Give resources and extract them."""
        self.give(*resources)
        record = self.run("extract")
        assert record.exit_code == 0, record.failures
        return record

    def build(self) -> RunRecord:
        """Transform what was extracted, each model with its audits."""
        record = self.run("transform")
        assert record.exit_code == 0, record.failures
        return record

    def generate(self, **options: Any) -> list[FileChange]:
        """`etl generate`."""
        return bring_files(self.settings, **options)

    def read(self, model: str, columns: str = "*") -> list[tuple[Any, ...]]:
        """The rows of a model, in order."""
        return self.query(f"SELECT {columns} FROM {model} ORDER BY ALL")

    def file(self, path: str) -> Path:
        """A file of the SQLMesh project."""
        return self.folder / "sqlmesh" / path
