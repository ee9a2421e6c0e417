"""The warehouse as dlt's destination, without asking for the same configuration again and again."""

from __future__ import annotations

from typing import Any

import dlt
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration


class Warehouse(dlt.destinations.duckdb):
    """dlt's DuckDB. The configuration that stands for its capabilities is resolved once.

    dlt 1.31 asks for the capabilities a dozen times in an extraction, and each time resolves a
    configuration for them out of the environment: a sixth of the CPU time of a small one.
    """

    _for_capabilities: DuckDbClientConfiguration | None = None

    @property
    def destination_type(self) -> str:
        # The state of a pipeline holds it, and dlt derives it from the name of the class.
        return "dlt.destinations.duckdb"

    def configuration(
        self, initial_config: Any, accept_partial: bool = False
    ) -> DuckDbClientConfiguration:
        # Only capabilities take a partial configuration; those of DuckDB depend on none.
        if not accept_partial:
            return super().configuration(initial_config)
        if self._for_capabilities is None:
            self._for_capabilities = super().configuration(initial_config, accept_partial=True)
        return self._for_capabilities
