"""The tables and the cursor that a resource declares by its hints, before any row has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlt.extract.exceptions import DataItemRequiredForDynamicTableHints
from dlt.extract.incremental import IncrementalResourceWrapper

from etl.errors import ConfigError

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention
    from dlt.extract import DltResource


def incremental_of(resource: DltResource) -> Any:
    """The incremental cursor of a resource, whoever declares it; dlt may wrap it, or none."""
    cursor = resource.incremental
    return cursor.incremental if isinstance(cursor, IncrementalResourceWrapper) else cursor


def root_hints(source: str, resource: DltResource) -> dict[str, Any] | None:
    """The root table of a resource; None where its hints are functions of a row.

    Raises:
        ConfigError: dlt does not accept the hints.
    """
    try:
        return dict(resource.compute_table_schema())
    except DataItemRequiredForDynamicTableHints:
        return None
    except Exception as e:
        raise _refused(source, resource, e) from e


def all_hints(source: str, resource: DltResource, naming: NamingConvention) -> list[dict[str, Any]]:
    """The root table and the nested ones, named as in raw; none where a row decides on them.

    Raises:
        ConfigError: dlt does not accept the hints.
    """
    try:
        return [dict(table) for table in resource.compute_tables(naming)]
    except DataItemRequiredForDynamicTableHints:
        return []
    except Exception as e:
        raise _refused(source, resource, e) from e


def _refused(source: str, resource: DltResource, error: Exception) -> ConfigError:
    # dlt raises ValueError, KeyError and types of its own here; no row was asked for, so all of
    # them speak of the hints.
    return ConfigError(
        f"{source}.{resource.name}: dlt does not accept its hints: {str(error)[:500]}",
        subject=source,
        hint="compare the resource's hints (columns, keys, write_disposition) with dlt's "
        "documentation",
    )
