"""Refuses fields of different rows that would go to one column: to dlt their names are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl.api_fields import ROWS, FieldPaths
from etl.errors import SchemaError
from etl.raw.fields import name_columns
from etl.settings import dataset_name

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention

# What joins the words of a key, and the keys of a path.
_JOINTS = re.compile(r"[\s_.$*'\[\]-]")


def refuse_mixed(source: str, found: Iterable[FieldPaths], naming: NamingConvention) -> None:
    """Hold the fields of each resource against each other; those of one row are refused elsewhere.

    Keys that differ in how their words are joined or written are one: `userName` and `user_name`.

    Raises:
        SchemaError: two others have one name in raw, as all words of another script than Latin do.
    """
    for resource in found:
        # Objects and lists have columns for what is in them.
        holders = {resource.field_of(path[:-1]).path for path in resource.paths if path}
        for table, columns in name_columns([resource], naming).items():
            for column, fields in columns.items():
                named: dict[str, str] = {}
                for path in (one.path for one in fields if one.path):
                    if column == ROWS or path not in holders:
                        named.setdefault(_JOINTS.sub("", path).casefold(), path)
                if len(named) > 1:
                    place = table if column == ROWS else f"{table}.{column}"
                    raise SchemaError(
                        f"{dataset_name(source)}.{place}: {' and '.join(sorted(named.values()))} "
                        "would both go there, for in raw they have one name",
                        subject=source,
                        hint="rename one by a `map` of `processing_steps`, or in the factory; an "
                        "object with free keys stays JSON by `columns: {its_name: {data_type: "
                        "json}}`",
                    )
