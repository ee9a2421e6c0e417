"""Strategies at files: which rows and columns stay, which change, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.errors import ConfigError, LoadError, ReconciliationError
from etl.settings import Strategy
from etl.targets import Publication, duckdb_file, parquet_files
from tests.integration.servers import counts, warehouse
from tests.integration.test_targets_rules import A, B, Target, kind, target

__all__ = ["kind", "target", "warehouse"]

OTHER = """
    UPDATE base.a SET v = 'other' WHERE id < 2;
    DELETE FROM base.a WHERE id > 7;
    INSERT INTO base.a VALUES (10, 'new');
"""


def by(strategy: Strategy, **more: Any) -> Publication:
    return Publication("marts.a", "marts.a", ("id",), strategy, **more)


def test_merge_keeps_what_left_the_mart(target: Target) -> None:
    target.publish(by("merge"), B)
    target.warehouse.execute(OTHER)
    run = target.publish(by("merge"), B)["marts.a"]
    assert counts(run) == ("published", 1, 2, 0, 11, True)
    assert run.strategy == "merge"
    expected = [(0, "other"), (1, "other"), *((i, f"v{i}") for i in range(2, 10)), (10, "new")]
    assert target.read("marts.a") == expected
    before = target.state()
    assert counts(target.publish(by("merge"), B)["marts.a"]) == ("unchanged", 0, 0, 0, 11, True)
    assert target.state() == before


def test_append_once_never_changes_what_is_there(target: Target) -> None:
    target.publish(by("append_once"), B)
    target.warehouse.execute(OTHER)
    run = target.publish(by("append_once"), B)["marts.a"]
    assert counts(run) == ("published", 1, 0, 0, 11, True)
    assert target.read("marts.a") == [*((i, f"v{i}") for i in range(10)), (10, "new")]
    again = target.publish(by("append_once"), B)["marts.a"]
    assert counts(again) == ("unchanged", 0, 0, 0, 11, True)


def test_dry_run_counts_and_writes_nothing(target: Target) -> None:
    target.publish(by("merge"))
    target.warehouse.execute(OTHER)
    before = target.state()
    run = target.publish(by("merge"), dry_run=True)["marts.a"]
    assert counts(run) == ("dry_run", 1, 2, 0, 10, False)
    assert target.state() == before


def test_only_named_columns_are_published(target: Target) -> None:
    target.warehouse.execute("COMMENT ON COLUMN base.a.v IS 'not published'")
    target.publish(by("replace", columns=("ID",)))
    assert target.read("marts.a") == [(i,) for i in range(10)]


def test_columns_come_go_and_change_their_type(target: Target) -> None:
    """What is only at the target keeps its values, in the types that the mart has now."""
    target.publish(by("merge"))
    target.warehouse.execute("""
        CREATE OR REPLACE VIEW marts.a AS
        SELECT id::VARCHAR AS id, id * 2 AS twice FROM base.a WHERE id < 2 OR id = 10;
        INSERT INTO base.a VALUES (10, 'x');
    """)
    run = target.publish(by("merge"))["marts.a"]
    assert (run.inserted, run.deleted, run.rows_at_target) == (1, 0, 11)
    expected = [("0", 0, "v0"), ("1", 2, "v1"), ("10", 20, None)]
    expected += [(str(i), None, f"v{i}") for i in range(2, 10)]  # type: ignore[misc]
    assert target.read("marts.a", "id, twice, v") == sorted(expected)
    once = target.publish(by("append_once"))["marts.a"]
    assert (once.inserted, once.updated, once.deleted) == (0, 0, 0)


def test_killed_before_the_swap_the_next_run_ends_with_the_same_rows(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.publish(by("merge"))
    target.warehouse.execute(OTHER)
    module = {"duckdb": duckdb_file, "parquet": parquet_files}[target.kind]
    before = target.read("marts.a")

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_swap", killed)
        with pytest.raises(KeyboardInterrupt):
            target.publish(by("merge"))
    assert target.read("marts.a") == before
    assert target.publish(by("merge"))["marts.a"].rows_at_target == 11
    assert len(target.read("marts.a")) == 11


def test_no_key_and_unknown_columns_are_refused(target: Target) -> None:
    with pytest.raises(ConfigError, match="no key, which strategy merge needs"):
        target.publish(Publication("marts.b", "marts.b", (), "merge"))
    with pytest.raises(ConfigError, match="column `x`"):
        target.publish(by("replace", columns=("id", "x")))
    with pytest.raises(ConfigError, match="key `id` is not a published column"):
        target.publish(by("merge", columns=("v",)))
    target.publish(Publication("marts.a", "marts.a", (), columns=("v",)))
    with pytest.raises(ConfigError, match=r"key `id` is not a column of marts\.a at target t"):
        target.publish(by("merge"))


def test_rows_that_others_doubled_fail_loudly(target: Target) -> None:
    """The table was published without a key, so a key may stand in it twice."""
    target.publish(Publication("marts.a", "marts.a"))
    target.warehouse.execute("INSERT INTO base.a VALUES (3, 'again')")
    target.publish(Publication("marts.a", "marts.a"))
    target.warehouse.execute("DELETE FROM base.a WHERE id = 3")
    with pytest.raises(LoadError, match="is not unique: 1 duplicates in 11 rows"):
        target.publish(by("merge"))


def test_rows_that_stay_are_not_lost_with_a_damaged_target(target: Target) -> None:
    target.publish(by("merge"))
    path = target.path
    files = [path] if target.kind == "duckdb" else list((path / "marts.a").glob("*.parquet"))
    for file in files:
        file.write_bytes(b"no such thing")
    with pytest.raises(LoadError, match="damaged"):
        target.publish(by("merge"))
    assert [f.read_bytes() for f in files] == [b"no such thing"] * len(files)
    assert target.publish(A)["marts.a"].rows_at_target == 10


@pytest.mark.parametrize("strategy", ["merge", "append_once"])
def test_rows_that_stay_are_not_rounded(target: Target, strategy: Strategy) -> None:
    kept = Publication("marts.a", "marts.a", ("id",), strategy)
    change = target.warehouse.execute
    change("CREATE OR REPLACE VIEW marts.a AS SELECT i AS id, i + 0.75 AS v FROM range(4) AS r(i)")
    target.publish(kept)
    before = target.read("marts.a")
    change("CREATE OR REPLACE VIEW marts.a AS SELECT 0::BIGINT AS id, 1 AS v")
    with pytest.raises(LoadError, match=r"rows that stay .* `v` .* INTEGER cannot hold"):
        target.publish(kept)
    assert target.read("marts.a") == before
    # What the new type holds goes into it.
    change("CREATE OR REPLACE VIEW marts.a AS SELECT 9::BIGINT AS id, 0.5::DOUBLE AS v")
    target.publish(kept)
    assert target.read("marts.a") == [*((i, i + 0.75) for i in range(4)), (9, 0.5)]


def test_rows_that_stay_are_not_lost_with_a_removed_version(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """The link is still there, what it leads to was deleted by hand."""
    target = Target("parquet", warehouse, tmp_path / "out")
    kept = Publication("marts.a", "marts.a", ("id",), "merge")
    target.publish(kept)
    shutil.rmtree((target.path / "marts.a").resolve())
    with pytest.raises(LoadError, match="cannot keep its rows"):
        target.publish(kept)
    target.publish(A)
    assert len(target.read("marts.a")) == 10


@pytest.mark.parametrize("strategy", ["merge", "append_once", "replace"])
def test_table_that_is_gone_is_told_where_it_had_rows_of_its_own(
    target: Target, warnings: list[str], strategy: Strategy
) -> None:
    publication = by(strategy)
    target.publish(publication)
    assert warnings == []
    target.path.rename(target.path.with_name("unmounted"))
    target.publish(publication)
    assert any("published before and is gone" in text for text in warnings) == (
        strategy != "replace"
    )


def test_mart_that_is_another_each_time_is_noticed(target: Target) -> None:
    target.publish(by("merge"))
    target.warehouse.execute(
        "CREATE OR REPLACE VIEW marts.a AS SELECT id, uuid()::VARCHAR AS v FROM base.a"
    )
    before = target.read("marts.a")
    with pytest.raises(ReconciliationError):
        target.publish(by("merge"))
    assert target.read("marts.a") == before
