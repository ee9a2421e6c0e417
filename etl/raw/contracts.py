"""Names what breaks a schema contract: table, column, the value's type, and the row, masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dlt.common.data_types import py_type_to_sc_type
from dlt.common.normalizers.naming.snake_case import NamingConvention
from dlt.common.schema.exceptions import (
    DataValidationError,
    SchemaException,
    UnboundColumnException,
)

from etl.errors import SchemaError
from etl.secrets import MASK

MAX_TEXT = 200
_NAMING = NamingConvention()


def earlier_hints(subject: str) -> str:
    """What helps when settings were mended and dlt goes on with what they said before."""
    source = subject.partition(".")[0]
    return f"hints that are gone are given up by `etl run --full-refresh --source {source}`"


def describe_breach(
    error: SchemaException, subject: str, step: str, pii: Iterable[str]
) -> SchemaError:
    """The failure for data that does not fit its table; `sample` holds the row that showed it.

    dlt's own text is left out when there is a row: it quotes values, and knows of no pii.
    """
    kept = "; the package is kept in data/quarantine" if step == "normalize" else ""
    if not isinstance(error, DataValidationError):
        text = str(error).strip().splitlines()[0]
        if isinstance(error, UnboundColumnException):  # dlt tells of the columns on further lines
            absent = ", ".join(sorted(str(column["name"]) for column in error.columns))
            text = f"no row of {error.table_name} has {absent}, and the settings ask for it"
        return SchemaError(
            f"{subject}: the data does not fit its table: {text[:500]}",
            subject=subject,
            hint=f"mend the source, or the column's hints in its settings{kept}; "
            + earlier_hints(subject),
        )
    row = _first_row(error.data_item)
    place = error.table_name + (f".{error.column_name}" if error.column_name else "")
    found = SchemaError(
        f"{subject}: {place}: the contract on {error.schema_entity} ({error.contract_mode}) "
        f"does not allow it{_found_type(error, row)}",
        subject=subject,
        hint="mend the source or change sources.<name>.schema_contract; the row is in run.json "
        f"→ failures → sample{kept}",
    )
    found.sample = (mask_row(row, pii),) if row else ()
    return found


def _found_type(error: DataValidationError, row: Mapping[str, Any]) -> str:
    """`: a text came where timestamp stands`, as far as it is known."""
    column = error.column_name
    value = row.get(column) if column else None
    if value is None:
        return ""
    came = py_type_to_sc_type(type(value))
    columns = (error.table_schema or {}).get("columns", {})
    stands = columns.get(str(column).rpartition("__v_")[0], {}).get("data_type")
    return f": {came} came" + (f" where {stands} stands" if stands else "")


def _first_row(item: Any) -> Mapping[str, Any]:
    """One row of what dlt shows as evidence: a row, a page of rows, or Arrow tables."""
    while isinstance(item, list) and item:
        item = item[0]
    if hasattr(item, "slice") and hasattr(item, "to_pylist"):
        item = next(iter(item.slice(0, 1).to_pylist()), {})
    return item if isinstance(item, Mapping) else {}


def mask_row(row: Mapping[str, Any], pii: Iterable[str]) -> dict[str, Any]:
    """The row as it may be shown: columns of transform.pii masked, at any depth; long texts cut.

    A setting `schema.model.column` hides the raw column of that name, too, and `email` also hides
    `owner__email` and `email__v_bigint`: better a value too many than one too few.
    """
    hidden = {f"__{name.rpartition('.')[2].lower()}__" for name in pii}

    def is_hidden(name: str) -> bool:
        path = "__".join(
            _NAMING.normalize_identifier(part) for part in name.split("__") if part.strip()
        )
        return any(h in f"__{path}__" for h in hidden)

    return {str(k): _shown(str(k), v, is_hidden) for k, v in row.items()}


def _shown(name: str, value: Any, is_hidden: Callable[[str], bool]) -> Any:
    if value is None:
        return None
    if is_hidden(name):
        return MASK
    if isinstance(value, Mapping):
        return {str(k): _shown(str(k), v, is_hidden) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(name, v, is_hidden) for v in value]
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
