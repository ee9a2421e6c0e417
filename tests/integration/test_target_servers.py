"""What holds at every server after publications: the rows, how few travel, what is kept and told.

Each test runs at PostgreSQL, and at the SQL Server that `ETL_TEST_MSSQL_DSN` names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etl.errors import ConfigError, EtlError, LoadError, ReconciliationError
from etl.settings import Strategy
from etl.targets import Publication
from tests.integration.servers import (
    APPEND,
    CHANGE,
    MERGE,
    A,
    B,
    Place,
    counts,
    mssql,
    pg,
    place,
    warehouse,
)

__all__ = ["mssql", "pg", "place", "warehouse"]


def test_first_publication_brings_every_row(place: Place) -> None:
    runs = place.publish(A, B)
    assert counts(runs["a"]) == ("published", 10, 0, 0, 10, True)
    assert counts(runs["reports.b"]) == ("published", 6, 0, 0, 6, True)
    assert place.rows() == [(i, f"v{i}") for i in range(10)]
    assert place.query("SELECT n FROM reports.b ORDER BY n") == [(n,) for n in (0, 0, 1, 1, 2, 2)]


def test_only_the_difference_is_written(place: Place) -> None:
    place.publish(A, B)
    before = place.versions("a")
    place.change("""
        UPDATE base.a SET v = NULL WHERE id < 3;
        DELETE FROM base.a WHERE id = 9;
        INSERT INTO base.a VALUES (10, 'new'), (11, 'new');
    """)
    runs = place.publish(A, B)
    assert counts(runs["a"]) == ("published", 2, 3, 1, 11, True)
    assert counts(runs["reports.b"]) == ("unchanged", 0, 0, 0, 6, True)
    assert place.rows() == place.mart()
    after = place.versions("a")
    assert {i for i in after if after[i] == before.get(i)} == set(range(3, 9))
    assert counts(place.publish(A, B)["a"]) == ("unchanged", 0, 0, 0, 11, True)


def test_rows_without_a_key_stay_where_nothing_changed(place: Place) -> None:
    """The run has evaluated the mart, so that a change is likely; by row there is none to find."""
    evaluated = replace(B, evaluated=True)
    place.publish(evaluated)
    assert counts(place.publish(evaluated)["reports.b"]) == ("unchanged", 0, 0, 0, 6, True)


def test_two_marts_for_one_table_are_refused(place: Place) -> None:
    """Named with the default schema and without it; the second would take the first one's place."""
    other = Publication("marts.b", f"{place.schema}.a")
    with pytest.raises(ConfigError, match="both go to table"):
        place.publish(A, other)
    assert not place.exists("a")


def test_each_table_remembers_its_own_difference(place: Place) -> None:
    place.change("""
        CREATE OR REPLACE TABLE base.b AS SELECT 'k' || i AS id, i AS n FROM range(6) AS r(i);
        CREATE OR REPLACE VIEW marts.b AS SELECT * FROM base.b
    """)
    both = A, Publication("marts.b", "reports.b", ("id",))
    place.publish(*both)
    place.change("DELETE FROM base.a WHERE id = 2; UPDATE base.b SET n = 7 WHERE id = 'k1'")
    runs = place.publish(*both)
    assert counts(runs["a"])[:4] == ("published", 0, 0, 1)
    assert counts(runs["reports.b"])[:4] == ("published", 0, 1, 0)
    assert {r.status for r in place.publish(*both).values()} == {"unchanged"}


def test_lost_memory_of_the_publication_costs_no_row(place: Place) -> None:
    place.publish(A)
    place.change("DROP SCHEMA etl_published CASCADE; UPDATE base.a SET v = 'x' WHERE id = 1")
    assert counts(place.publish(A)["a"]) == ("published", 0, 1, 0, 10, True)
    assert place.rows() == place.mart()


def test_row_that_comes_twice_is_noticed_though_nothing_differs(place: Place) -> None:
    place.publish(A)
    place.change("INSERT INTO base.a VALUES (3, 'v3')")
    with pytest.raises(LoadError, match="not unique: 1 duplicates in 11 rows"):
        place.publish(A)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("INSERT INTO base.a VALUES (10, 'new'), (10, 'too')", "not unique: 1 duplicates in 12"),
        ("INSERT INTO base.a VALUES (3, 'other')", "not unique: 1 duplicates in 11"),
        ("UPDATE base.a SET id = 4 WHERE id = 5", "not unique: 1 duplicates in 10"),
        ("UPDATE base.a SET id = 4, v = 'v4' WHERE id = 5", "not unique: 1 duplicates in 10"),
        ("INSERT INTO base.a VALUES (NULL, 'new')", "is NULL in 1 of 11 rows"),
    ],
)
def test_key_that_became_bad_since_the_last_publication_is_refused(
    place: Place, change: str, said: str
) -> None:
    """Only the difference is looked at, as long as what was remembered and stayed adds up."""
    place.publish(A)
    place.change(change)
    with pytest.raises(LoadError, match=said):
        place.publish(A)
    assert place.count("a") == 10


@pytest.mark.parametrize("known", [True, False])
def test_merge_keeps_rows_that_left_the_mart(place: Place, known: bool) -> None:
    place.publish(MERGE)
    place.change(CHANGE)
    if not known:
        place.change("DROP SCHEMA etl_published CASCADE")
    assert counts(place.publish(MERGE)["a"]) == ("published", 1, 1, 0, 11, True)
    rows = dict(place.rows())
    assert (rows[1], rows[2], rows[10]) == ("changed", "v2", "new")
    # Back again, with another value.
    place.change("INSERT INTO base.a VALUES (2, 'back')")
    assert counts(place.publish(MERGE)["a"]) == ("published", 0, 1, 0, 11, True)
    assert place.query("SELECT v FROM a WHERE id = 2") == [("back",)]


@pytest.mark.parametrize("known", [True, False])
def test_append_once_never_changes_what_is_there(place: Place, known: bool) -> None:
    place.publish(APPEND)
    place.change(CHANGE)
    if not known:
        place.change("DROP SCHEMA etl_published CASCADE")
    assert counts(place.publish(APPEND)["a"]) == ("published", 1, 0, 0, 11, True)
    rows = dict(place.rows())
    assert (rows[1], rows[2], rows[10]) == ("v1", "v2", "new")


@pytest.mark.parametrize("publication", [MERGE, APPEND, A])
def test_table_that_is_gone_is_told_where_it_had_rows_of_its_own(
    place: Place, publication: Publication, warnings: list[str]
) -> None:
    place.publish(publication)
    assert warnings == []
    place.query("DROP TABLE a")
    assert place.publish(publication)["a"].inserted == 10
    told = [text for text in warnings if "published before and is gone" in text]
    assert len(told) == (publication != A)


def test_mart_of_no_rows_empties_the_table(place: Place) -> None:
    place.publish(A, B)
    place.change("DELETE FROM base.a; DELETE FROM base.b")
    runs = place.publish(A, B)
    assert counts(runs["a"]) == ("published", 0, 0, 10, 0, True)
    assert counts(runs["reports.b"]) == ("published", 0, 0, 6, 0, True)
    assert place.publish(A, B)["reports.b"].status == "unchanged"


def test_first_publication_of_no_rows_makes_the_table(place: Place) -> None:
    place.change("DELETE FROM base.a")
    assert counts(place.publish(A, dry_run=True)["a"])[:4] == ("dry_run", 0, 0, 0)
    assert counts(place.publish(A)["a"]) == ("published", 0, 0, 0, 0, True)
    assert place.count("a") == 0
    assert place.publish(A)["a"].status == "unchanged"


def test_new_column_of_the_mart_is_added_and_filled(place: Place) -> None:
    place.publish(A)
    place.change("ALTER TABLE base.a ADD COLUMN n INTEGER; UPDATE base.a SET n = id * 2;"
              "CREATE OR REPLACE VIEW marts.a AS SELECT * FROM base.a")  # fmt: skip
    assert counts(place.publish(A)["a"]) == ("published", 0, 10, 0, 10, True)
    assert place.query("SELECT sum(n) FROM a") == [(90,)]
    assert place.publish(A)["a"].status == "unchanged"


@pytest.mark.parametrize("renamed", [True, False])
def test_column_that_somebody_made_anew_is_filled_again(place: Place, *, renamed: bool) -> None:
    """No row was written by that, so no version of one tells it."""
    place.publish(A)
    place.query(place.rename_v if renamed else "ALTER TABLE a DROP COLUMN v")
    place.query(f"ALTER TABLE a ADD v {place.text}")
    assert counts(place.publish(A)["a"]) == ("published", 0, 10, 0, 10, True)
    assert place.rows() == place.mart()
    assert place.publish(A)["a"].status == "unchanged"


def test_only_the_named_columns_are_published(place: Place) -> None:
    place.change("CREATE OR REPLACE VIEW marts.a AS SELECT id, v, 'secret' AS s FROM base.a")
    place.publish(Publication("marts.a", "a", ("id",), columns=("V", "id")))
    assert place.query("SELECT v, id FROM a WHERE id = 1") == [("v1", 1)]
    found = place.query("SELECT column_name FROM information_schema.columns "
                        "WHERE table_name = 'a' ORDER BY ordinal_position")  # fmt: skip
    assert found[:2] == [("v",), ("id",)]
    assert ("s",) not in found


def test_without_primary_key_none_is_made(place: Place) -> None:
    place.publish(Publication("marts.a", "a", ("id",), primary_key=False))
    assert place.indexes("a") == 0


def test_dry_run_counts_and_changes_nothing(place: Place) -> None:
    assert counts(place.publish(A, dry_run=True)["a"])[:4] == ("dry_run", 10, 0, 0)
    assert not place.exists("a")
    assert not place.exists("etl_publications")
    place.publish(A)
    place.change(CHANGE)
    for _ in range(2):
        assert counts(place.publish(A, dry_run=True)["a"])[:4] == ("dry_run", 1, 1, 1)
    assert counts(place.publish(A)["a"]) == ("published", 1, 1, 1, 10, True)


def test_held_back_table_keeps_its_rows(place: Place) -> None:
    place.publish(A, B)
    place.change(CHANGE + "DELETE FROM base.b")
    runs = place.publish(A, held_back=[B])
    assert runs["a"].status == "published"
    assert counts(runs["reports.b"]) == ("held_back", 0, 0, 0, 6, False)
    assert place.count("reports.b") == 6


def test_table_of_no_load_is_left_alone(place: Place) -> None:
    place.publish(A, B)
    place.publish(A)
    assert place.count("reports.b") == 6


def test_view_is_no_table_to_publish_into(place: Place) -> None:
    place.query("CREATE VIEW a AS SELECT 1 AS id")
    with pytest.raises(ConfigError, match=rf"{place.schema}\.a at target {place.name} is no table"):
        place.publish(A)


def test_one_refused_table_leaves_all_tables_as_they_were(place: Place) -> None:
    place.publish(A, B)
    place.query("ALTER TABLE a ADD CHECK (v <> 'bad')")
    place.change("UPDATE base.a SET v = 'bad' WHERE id = 1; INSERT INTO base.b VALUES (7)")
    with pytest.raises(LoadError):
        place.publish(A, B)
    assert place.query("SELECT v FROM a WHERE id = 1") == [("v1",)]
    assert place.count("reports.b") == 6


@pytest.mark.parametrize("publication", [A, APPEND])
def test_column_that_rounds_is_code_12(place: Place, publication: Publication) -> None:
    place.make("id bigint PRIMARY KEY, v numeric(10,2)")
    place.change("CREATE OR REPLACE TABLE base.a AS SELECT 1 AS id, 1.005::DECIMAL(10,3) AS v")
    with pytest.raises(ReconciliationError, match="1 of them with other values"):
        place.publish(publication)


@pytest.mark.parametrize("is_new", [True, False])
def test_mart_with_other_rows_at_each_look_is_code_12(place: Place, is_new: bool) -> None:
    """All rows that were sent came; they are not those that were counted."""
    if not is_new:
        place.publish(A)
    place.change("""
        CREATE SEQUENCE base.looks START 11;
        CREATE OR REPLACE VIEW marts.a AS
        SELECT unnest(range(nextval('base.looks'))) AS id, 'new' AS v
    """)
    with pytest.raises(ReconciliationError, match="rows after publishing, 11 in the warehouse"):
        place.publish(A)
    assert place.exists("a") != is_new


def test_value_that_duckdb_cannot_compute_is_the_marts_failure(place: Place) -> None:
    place.change(
        "CREATE OR REPLACE VIEW marts.a AS SELECT id, (v || 'x')::INTEGER AS v FROM base.a"
    )
    with pytest.raises(LoadError):
        place.publish(A)
    assert not place.exists("a")


def test_wrong_keys_and_columns_are_told(place: Place) -> None:
    assert "not unique" in str(key_error(place, Publication("marts.b", "b", ("n",))))
    assert "no key" in str(key_error(place, Publication("marts.b", "b", (), "merge")))
    wrong = Publication("marts.a", "a", ("id",), columns=("id", "w"))
    assert "`w`" in str(key_error(place, wrong))
    assert "`v`" in str(
        key_error(place, Publication("marts.a", "a", ("id",), indexes=(("v",),), columns=("id",)))
    )


@pytest.mark.parametrize(
    ("foreign", "told"),
    [
        (["UPDATE a SET v = 'theirs' WHERE id = 4"], "somebody has written"),
        (["DELETE FROM a WHERE id = 4"], "somebody has written"),
        (["INSERT INTO a (id, v) VALUES (99, 'theirs')"], "somebody has written"),
        (["DELETE FROM a WHERE id = 4", "INSERT INTO a (id, v) VALUES (4, 'theirs')"],
         "somebody has written"),
        (["TRUNCATE TABLE a"], "somebody has written"),
        (["UPDATE etl_publications SET publication_id = 'theirs'"], "another job has published"),
        (["ALTER TABLE a DROP COLUMN v"], None),
        (["DROP TABLE a"], None),
        (["DROP TABLE etl_publications"], None),
    ],
)  # fmt: skip
def test_what_others_did_to_the_table_is_noticed_and_mended(
    place: Place, foreign: list[str], told: str | None, warnings: list[str]
) -> None:
    place.publish(A)
    for statement in foreign:
        place.query(statement)
    assert place.publish(A)["a"].reconciled
    assert place.rows() == place.mart()
    assert len(warnings) == (told is not None)
    assert told is None or warnings[0].startswith(told)
    assert counts(place.publish(A)["a"]) == ("unchanged", 0, 0, 0, 10, True)
    assert len(warnings) == (told is not None)


def test_key_that_somebody_wrote_twice_is_mended(place: Place) -> None:
    loose = Publication("marts.a", "a", ("id",), primary_key=False)
    place.publish(loose)
    place.query("INSERT INTO a (id, v) VALUES (4, 'theirs')")
    assert place.publish(loose)["a"].reconciled
    assert place.rows() == place.mart()


def test_keys_and_indexes_are_made_once_and_refuse_duplicates(place: Place) -> None:
    made = Publication("marts.a", "a", ("id",), indexes=(("v",), ("v", "id"), ("v",)))
    for _ in range(2):
        place.publish(made)
    assert place.indexes("a") == 3
    with pytest.raises(Exception, match=r"(?i)duplicate key"):
        place.query("INSERT INTO a (id, v) VALUES (1, 'twice')")
    # Named later, made later.
    place.publish(Publication("marts.a", "a", ("id",), primary_key=False, indexes=(("id", "v"),)))
    assert place.indexes("a") == 4


def test_key_that_is_named_later_becomes_the_primary_key(place: Place) -> None:
    place.publish(Publication("marts.a", "a"))
    assert place.indexes("a") == 0
    place.publish(A)
    assert place.indexes("a") == 1
    assert place.rows() == place.mart()


def test_texts_that_a_collation_takes_for_one_are_told_apart(place: Place) -> None:
    place.change("CREATE OR REPLACE TABLE base.a AS SELECT i AS id, 'v' AS v FROM range(6) AS r(i)")
    place.publish(A)
    texts = ["V", "v ", "v", "v\t", "v  ", "\uff56"]
    for i, text in enumerate(texts):
        place.change(f"UPDATE base.a SET v = '{text}' WHERE id = {i}")
    assert counts(place.publish(A)["a"])[:4] == ("published", 0, 5, 0)
    assert place.rows() == list(enumerate(texts))
    by_text = Publication("marts.a", "c", ("v",), primary_key=False)
    assert place.publish(by_text)["c"].inserted == 6
    place.change("UPDATE base.a SET id = id + 10 WHERE v = 'V'; DELETE FROM base.a WHERE v = 'v '")
    assert counts(place.publish(by_text)["c"])[:4] == ("published", 0, 1, 1)
    assert len(place.query("SELECT id FROM c WHERE id >= 10")) == 1


@pytest.mark.parametrize(
    ("made", "column"),
    [
        ("id bigint PRIMARY KEY, v varchar(5)", "column v"),
        ("id bigint PRIMARY KEY, v varchar(50) NOT NULL", "column v"),
        ("id smallint PRIMARY KEY, v text", "column id"),
        ("id bigint PRIMARY KEY, v text, CONSTRAINT short CHECK (v NOT LIKE 'lo%')", "short"),
    ],
)
@pytest.mark.parametrize("when", ["insert", "update"])
def test_refused_row_is_named(place: Place, made: str, column: str, when: str) -> None:
    place.make(made)
    rows = 3000
    place.change(
        f"CREATE OR REPLACE TABLE base.a AS SELECT i AS id, 'v' AS v FROM range({rows}) AS r(i)"
    )
    if when == "update" and "smallint" not in made:
        place.publish(A)
    before = place.count("a")
    bad = "NULL" if "NOT NULL" in made else "'longer'"
    if "smallint" in made:
        place.change("UPDATE base.a SET id = 40000 WHERE id = 2345")
    else:
        place.change(f"UPDATE base.a SET v = {bad} WHERE id = 2345")
    with pytest.raises(LoadError) as caught:
        place.publish(A)
    key = 40000 if "smallint" in made else 2345
    assert f"table {place.schema}.a at target {place.name}, row id = {key}" in str(caught.value)
    assert column in str(caught.value)
    assert place.count("a") == before


def test_refusal_of_a_mart_without_a_key_is_told_in_the_servers_words(place: Place) -> None:
    """A mart whose key was taken away keeps the primary key that its table had of it."""
    place.publish(A)
    place.change("INSERT INTO base.a SELECT * FROM base.a WHERE id = 3")
    with pytest.raises(LoadError, match=r"\.a at target \w+.*: refused: ") as caught:
        place.publish(Publication("marts.a", "a"))
    assert "syntax" not in str(caught.value)
    assert place.count("a") == 10


@pytest.mark.parametrize("publication", [A, MERGE])
def test_column_of_another_type_is_told(place: Place, publication: Publication) -> None:
    """Where rows stay that the mart has no more, nobody is told to drop the table."""
    place.make("id bigint, v int")
    with pytest.raises(LoadError, match=r"v is int\w* there and .* in the mart") as caught:
        place.publish(publication)
    assert ("or drop the table" in caught.value.hint) == (publication == A)
    assert ("do not drop it" in caught.value.hint) == (publication == MERGE)
    assert place.count("a") == 0


def key_error(place: Place, publication: Publication) -> Any:
    with pytest.raises(EtlError) as caught:
        place.publish(publication)
    return caught.value


@pytest.mark.parametrize("publication", [A, MERGE])
def test_rows_that_a_trigger_changes_beside_those_that_were_sent_are_compared(
    place: Place, publication: Publication
) -> None:
    place.publish(publication)
    place.add_trigger("UPDATE", "UPDATE a SET v = 'theirs' WHERE id = 5")
    place.change("UPDATE base.a SET v = 'changed' WHERE id = 1")
    with pytest.raises(ReconciliationError, match="10 rows were sent, 10 are there, 1 of them"):
        place.publish(publication)
    assert place.rows() == [(i, f"v{i}") for i in range(10)]


@pytest.mark.parametrize("publication", [MERGE, APPEND])
@pytest.mark.parametrize("known", [True, False])
def test_rows_that_had_to_stay_are_missed(
    place: Place, publication: Publication, *, known: bool
) -> None:
    place.publish(publication)
    place.add_trigger("INSERT", "DELETE FROM a WHERE id = 2")
    place.change(CHANGE)
    if not known:
        place.change("DROP SCHEMA etl_published CASCADE")
    with pytest.raises(ReconciliationError, match="10 rows after publishing, 11 that came or had"):
        place.publish(publication)
    assert place.rows() == [(i, f"v{i}") for i in range(10)]


@pytest.mark.parametrize("known", [True, False])
def test_rows_that_are_appended_otherwise_than_they_were_sent_are_told(
    place: Place, *, known: bool
) -> None:
    """Others differ from the mart, and stay as they are."""
    place.publish(APPEND)
    place.change(CHANGE)
    place.publish(APPEND)
    place.add_trigger("INSERT", "UPDATE a SET v = 'theirs' WHERE id = 11")
    place.change("INSERT INTO base.a VALUES (11, 'ours'); UPDATE base.a SET v = 'x' WHERE id = 5")
    if not known:
        place.change("DROP SCHEMA etl_published CASCADE")
    with pytest.raises(ReconciliationError, match="1 rows were sent, 1 are there, 1 of them"):
        place.publish(APPEND)
    assert place.count("a") == 11


@pytest.mark.parametrize("strategy", ["merge", "append_once"])
def test_key_that_somebody_wrote_twice_is_told_where_rows_stay(
    place: Place, strategy: Strategy
) -> None:
    publication = Publication("marts.a", "a", ("id",), strategy, primary_key=False)
    place.publish(publication)
    place.query("INSERT INTO a (id, v) VALUES (3, 'twice')")
    with pytest.raises(ReconciliationError, match=r"are there, .* other values") as caught:
        place.publish(publication)
    assert "keys that the table has twice" in caught.value.hint
    place.query("DELETE FROM a WHERE v = 'twice'")
    assert place.publish(publication)["a"].reconciled


@pytest.mark.parametrize("does", ["CASCADE", "SET NULL"])
def test_rows_of_others_are_not_lost_to_a_mart_without_a_key(place: Place, does: str) -> None:
    """All of its rows would go and come again, and with them what refers to them."""
    keyless = Publication("marts.a", "a")
    place.publish(keyless)
    place.query("ALTER TABLE a ADD UNIQUE (id)")
    if place.kind == "postgres":  # a table's own rows all go anyway
        place.query("ALTER TABLE a ADD FOREIGN KEY (id) REFERENCES a (id) ON DELETE CASCADE")
        place.change("UPDATE base.a SET v = 'changed' WHERE id = 2")
        assert place.publish(keyless)["a"].inserted == 10
    place.query(f"CREATE TABLE notes (n bigint REFERENCES a (id) ON DELETE {does})")
    place.query("INSERT INTO notes SELECT id FROM a")
    place.change("UPDATE base.a SET v = 'changed' WHERE id = 1")
    with pytest.raises(LoadError, match="notes refers to it") as caught:
        place.publish(keyless)
    assert "name a `key`" in caught.value.hint
    assert place.publish(A)["a"].updated == 1
    assert place.query("SELECT count(n) FROM notes") == [(10,)]


def test_trigger_that_keeps_a_column_of_its_own_is_no_failure(place: Place) -> None:
    place.publish(A)
    place.query(f"ALTER TABLE a ADD noted {place.text}")
    place.add_trigger("UPDATE", "UPDATE a SET noted = 'seen'")
    for value in ("first", "second"):
        place.change(f"UPDATE base.a SET v = '{value}' WHERE id = 1")
        assert counts(place.publish(A)["a"]) == ("published", 0, 1, 0, 10, True)
        assert place.rows() == place.mart()
    assert place.query("SELECT count(*) FROM a WHERE noted = 'seen'") == [(10,)]


def test_trigger_that_fails_is_told_as_it_was(place: Place) -> None:
    """SQL Server ends the transaction then, and so every attempt to name a row."""
    place.publish(A)
    place.add_trigger("UPDATE", "UPDATE a SET id = NULL WHERE id = 5")
    place.change("UPDATE base.a SET v = 'changed' WHERE id = 1")
    with pytest.raises(LoadError, match=r"\.a at target \w+.*: refused: .*id"):
        place.publish(A)
    assert place.rows() == [(i, f"v{i}") for i in range(10)]


def test_mart_that_tells_the_time_is_read_at_one_moment(place: Place) -> None:
    """Else what is remembered would be of a later one: at midnight, tomorrow's mart."""
    place.change("CREATE OR REPLACE VIEW marts.a AS SELECT id, epoch_us(now()) AS v FROM base.a")
    for _ in range(2):
        place.publish(A)
        told = place.query("SELECT id, v FROM a")
        [(table,)] = place.warehouse.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'etl_published' "
            "AND table_name <> 'states'"
        ).fetchall()
        for i, moment in told:
            remembered = place.warehouse.execute(
                f'SELECT "etl: hash" = hash({i}::BIGINT, {moment}::BIGINT) '
                f'FROM etl_published."{table}" WHERE id = {i}'
            ).fetchall()
            assert remembered == [(True,)]


@pytest.mark.parametrize("before", [MERGE, APPEND])
@pytest.mark.parametrize("change", ["", "UPDATE base.a SET v = 'later' WHERE id = 7"])
def test_strategy_that_was_changed_to_replace_leaves_nothing_of_the_earlier_one(
    place: Place, before: Publication, change: str
) -> None:
    place.publish(before)
    place.change(CHANGE)
    place.publish(before)
    assert place.rows() != place.mart()
    place.change(change or "SELECT 1")
    place.publish(A)
    assert place.rows() == place.mart()
    assert counts(place.publish(A)["a"]) == ("unchanged", 0, 0, 0, 10, True)
