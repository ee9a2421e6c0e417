"""Any nested JSON, any write disposition: generated models equal a reference in plain Python."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.generating import Made

# A text never reads as a number, so that one value has one spelling in whichever column it lands.
scalars = st.integers(-999, 999) | st.sampled_from(["pear", "Äpfel", "x" * 60, "naïve ✓", ""])
keys = st.sampled_from(["a", "order", "B c", "select", "naïve", "items"])


def nested(depth: int) -> st.SearchStrategy[Any]:
    if depth == 0:
        return scalars
    inner = nested(depth - 1)
    lists = st.lists(inner, max_size=3)
    dicts = st.dictionaries(keys, inner | st.none(), max_size=3)
    return scalars | lists | dicts


rows = st.lists(
    st.dictionaries(keys, nested(3) | st.none(), max_size=4), min_size=1, max_size=4
).map(lambda found: [{"id": i, **row} for i, row in enumerate(found)])
HINTS: dict[str, dict[str, Any]] = {
    "appended": {"write_disposition": "append"},
    "merged": {"write_disposition": "merge", "primary_key": "id"},
    "replaced": {"write_disposition": "replace"},
    "versioned": {"write_disposition": {"disposition": "merge", "strategy": "scd2"}},
}
NAMES = {"B c": "b_c", "naïve": "na_ve"}


@settings(
    max_examples=int(os.environ.get("ETL_TEST_EXAMPLES", "2")),
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(rows, rows, st.sets(st.integers(0, 3)))
def test_generated_models_equal_the_reference_for_every_write_disposition(
    first: list[Any], second: list[Any], unchanged: set[int]
) -> None:
    # Some rows come again as they were: scd2 must not make versions of them.
    second = [first[r["id"]] if r["id"] in unchanged and r["id"] < len(first) else r
              for r in second]  # fmt: skip
    loads: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        project = Made(Path(folder))
        for brought in (first, second):
            loads.append(brought)
            project.extract(*({"name": n, **h, "rows": brought} for n, h in HINTS.items()))
            project.generate()
            project.build()
            for name in HINTS:
                assert found_in(project, name) == expected(name, loads), name


def expected(name: str, loads: list[list[Any]]) -> dict[str, Counter[Any]]:
    """What the tables of a resource hold after these loads: by table, each row with its place."""
    state: list[Any]
    if name == "appended":
        state = [row for load in loads for row in load]
    elif name == "replaced":
        state = loads[-1]
    elif name == "merged":
        state = list({row["id"]: row for load in loads for row in load}.values())
    else:
        state = []
        for load in loads:
            state += [row for row in load if row not in state]
    tables: dict[str, Counter[Any]] = {}
    for row in state:
        flatten(name, row, (row["id"],), tables)
    return tables


def flatten(table: str, row: dict[str, Any], place: tuple[int, ...], tables: Any) -> None:
    """One row into its table, its lists into theirs; `place`: the root's id, list positions."""
    columns: dict[str, str] = {}
    lists: dict[str, list[Any]] = {}

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, NAMES.get(str(key), str(key))))
        elif isinstance(value, list):
            lists["__".join(path)] = value
        elif value is not None:
            columns["__".join(path)] = str(value)

    walk(row, ())
    tables.setdefault(table, Counter())[place, tuple(sorted(columns.items()))] += 1
    for path, values in lists.items():
        for i, value in enumerate(values):
            inner = value if isinstance(value, dict) else {
                "list" if isinstance(value, list) else "value": value
            }  # fmt: skip
            flatten(f"{table}__{path}", inner, (*place, i), tables)


def found_in(project: Made, name: str) -> dict[str, Counter[Any]]:
    """What the staging models of a resource hold, in the reference's form."""
    models = [
        r[0]
        for r in project.query(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'staging' "
            f"AND (table_name = 'stg_made__{name}' OR table_name LIKE 'stg_made__{name}\\_\\_%' "
            "ESCAPE '\\') ORDER BY length(table_name)"
        )
    ]
    places: dict[str, tuple[int, ...]] = {}
    tables: dict[str, Counter[Any]] = {}
    for model in models:
        table = model.removeprefix("stg_made__")
        names = [
            r[0] for r in project.query(f'SELECT column_name FROM (DESCRIBE staging."{model}")')
        ]
        for values in project.query(f'SELECT * FROM staging."{model}"'):
            row = dict(zip(names, values, strict=True))
            parent = row.get("_dlt_parent_id")
            place: tuple[int, ...] = (
                (row["id"],) if parent is None else (*places[parent], row["_dlt_list_idx"])
            )
            places[row["_dlt_id"]] = place
            columns = {
                # Mixed types in one field: dlt's variant column holds what its own cannot.
                n.partition("__v_")[0]: str(v)
                for n, v in row.items()
                if v is not None and not n.startswith(("_dlt", "_loaded_at"))
            }
            tables.setdefault(table, Counter())[place, tuple(sorted(columns.items()))] += 1
    return tables
