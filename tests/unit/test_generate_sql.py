"""Drafts of models: filled, they are what SQLMesh's formatter makes of the whole text."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.generate.external import external_models
from etl.generate.sql import (
    COLUMNS_MARK,
    DESCRIPTIONS_MARK,
    Draft,
    describe,
    identifier,
    sql_type,
)
from etl.project.formatting import format_sql
from etl.raw.schemas import RawColumn, RawSchema, RawTable

TEXT = (
    "MODEL (name a.b, kind FULL, "
    f"column_descriptions ({DESCRIPTIONS_MARK}), audits (not_null(columns := (x))));\n\n"
    f"SELECT {COLUMNS_MARK} FROM c.d AS raw WHERE x > 1;"
)
TYPES = ("BIGINT", "VARCHAR", "TEXT", "DOUBLE", "BOOLEAN", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP",
         "DATE", "TIME", "JSON", "BLOB", "DECIMAL(38,9)", "HUGEINT")  # fmt: skip
names = st.text("abz_09 \"'äß,()-;.", min_size=1, max_size=12) | st.sampled_from(
    ["select", "order", "key", "a" * 200, "table", "end", "x"]
)
texts = st.text("ab \"'\\ä→\n;,()@{}#-/*", max_size=200)


# Every model has them, and each dimension no more than these.
OWN = {
    "_loaded_at": ("TIMESTAMPTZ", "When the load package that brought the row was committed."),
    "_dlt_id": ("TEXT", "Identifier of the raw row, given by dlt."),
}


def draft(columns: dict[str, tuple[str, str]]) -> Draft:
    """A model of columns: name to type and description."""
    return Draft(
        TEXT,
        describe({name: text for name, (_, text) in columns.items()}),
        tuple(
            f"raw.{identifier(n)}::{sql_type(kind)} AS {identifier(n)}"
            for n, (kind, _) in columns.items()
        ),
    )


@settings(deadline=None)
@given(st.dictionaries(names, st.tuples(st.sampled_from(TYPES), texts), max_size=5))
def test_a_filled_draft_is_the_whole_text_formatted(columns: dict[str, tuple[str, str]]) -> None:
    one = draft(columns | OWN)
    skeleton = format_sql(one.text, "duckdb")
    assert skeleton is not None
    whole = one.text.replace(DESCRIPTIONS_MARK, ", ".join(one.descriptions))
    whole = whole.replace(COLUMNS_MARK, ", ".join(one.columns))
    assert one.fill(skeleton) == format_sql(whole, "duckdb")


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_is_written_as_the_formatter_writes_it(kind: str) -> None:
    assert sql_type(sql_type(kind)) == sql_type(kind)


@pytest.mark.parametrize("name", ["id", "a b", "select", "n" * 99, "n" * 127, "n" * 200, "ß", "😀"])
@pytest.mark.parametrize("told", ["", "What it is: 'so' → #1", "two\nlines", "Ännchen", "😀 it"])
def test_external_models_are_written_as_pyyaml_writes_them(name: str, told: str) -> None:
    columns = tuple(RawColumn(n, "BIGINT", description=told) for n in (name, "_dlt_id"))
    schema = RawSchema("made", (RawTable(name, "append", columns, description=told),))
    for _, text in external_models(schema):
        head, _, listed = text.partition("\n")
        assert head.startswith("# A raw table of the source made")
        assert listed == yaml.safe_dump(
            yaml.safe_load(text), sort_keys=False, allow_unicode=True, width=10_000
        )
