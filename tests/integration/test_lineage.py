"""Lineage read from real projects: the one that ships, and one of SQL that is hard to follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmesh.core.model import Model

from etl.api_fields import ApiField, ApiFields, load_fields
from etl.configuration import load_settings
from etl.demo import Replay
from etl.errors import ConfigError
from etl.lineage.answer import Finder, Node
from etl.project.engine import read_models
from etl.project.lineage import ColumnLineage
from tests.contract.process import DAY
from tests.integration.extracting import bluesky, extract_once, serving, settings_of
from tests.integration.projects import Shop
from tests.processes import ROOT

MEMBERS = "staging.int_bluesky__list_members"
SNAPSHOTS = "staging.int_bluesky__snapshots"
FOLLOWERS, FOLLOWS = "staging.stg_bluesky__followers", "staging.stg_bluesky__follows"
LABELS = "staging.stg_bluesky__followers__labels"


@pytest.fixture(scope="module")
def models() -> Iterator[list[Model]]:
    with read_models(load_settings(ROOT, "default", {"ETL_DATA_DIR": "/nonexistent"})) as found:
        yield found


@pytest.fixture(scope="module")
def shipped(models: list[Model]) -> ColumnLineage:
    return ColumnLineage(models)


def sources(lineage: ColumnLineage, table: str, column: str) -> set[str]:
    return {".".join(c) for c in lineage.origin(table, column).columns}


# -- the project that ships ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        # CTE, FILTER, COUNT(*), CASE over two CTEs
        ("marts.followers_daily", "actor", {f"{MEMBERS}.actor"}),
        ("marts.followers_daily", "followers_count", {f"{MEMBERS}.*", f"{MEMBERS}.list"}),
        (
            "marts.followers_daily",
            "gained_count",
            {
                "marts.follower_changes.*",
                "marts.follower_changes.change",
                f"{MEMBERS}.*",
                f"{MEMBERS}.list",
                f"{MEMBERS}.previous_snapshot_date",
            },
        ),
        # three CTEs in a union, a named window
        ("marts.follower_changes", "handle", {f"{MEMBERS}.handle"}),
        (
            "marts.follower_changes",
            "changed_on",
            {f"{MEMBERS}.snapshot_date", f"{MEMBERS}.next_snapshot_date"},
        ),
        (
            "marts.follower_changes",
            "previous_handle",
            {f"{MEMBERS}.{c}" for c in ("handle", "actor", "did", "snapshot_date")},
        ),
        ("marts.follower_changes", "change", set()),
        # a CTE that is used twice
        ("marts.mutuals", "handle", {f"{MEMBERS}.handle"}),
        ("marts.mutuals", "follows_snapshot_date", {f"{MEMBERS}.snapshot_date"}),
        # a nested child
        ("marts.follower_labels", "label_value", {f"{LABELS}.label_value"}),
        ("marts.follower_labels", "labelled_at", {f"{LABELS}.label_created_at"}),
        (LABELS, "label_value", {"bluesky_raw.followers__labels.val"}),
        (LABELS, "did", {"bluesky_raw.followers.did"}),
        (LABELS, "_loaded_at", {"bluesky_raw._dlt_loads.inserted_at"}),
        # a union of two tables, ARG_MIN by a second column, a window over the union
        (MEMBERS, "did", {f"{FOLLOWERS}.did", f"{FOLLOWS}.did"}),
        (
            MEMBERS,
            "handle",
            {f"{t}.{c}" for t in (FOLLOWERS, FOLLOWS) for c in ("handle", "_dlt_id")},
        ),
        (
            SNAPSHOTS,
            "next_snapshot_date",
            {f"{t}.{c}" for t in (FOLLOWERS, FOLLOWS) for c in ("actor", "snapshot_date")},
        ),
        (FOLLOWERS, "is_blocked_by", {"bluesky_raw.followers.viewer__blocked_by"}),
        # what decides about rows
        (
            FOLLOWERS,
            "*",
            {"bluesky_raw.followers.*", "bluesky_raw.followers._dlt_load_id"}
            | {f"bluesky_raw._dlt_loads.{c}" for c in ("*", "load_id", "status", "inserted_at")},
        ),
        (
            "marts.mutuals",
            "*",
            {f"{MEMBERS}.{c}" for c in ("*", "list", "actor", "did", "next_snapshot_date")},
        ),
    ],
)  # fmt: skip
def test_a_column_is_made_of_what_the_sql_says(
    shipped: ColumnLineage, table: str, column: str, expected: set[str]
) -> None:
    assert sources(shipped, table, column) == expected


def test_every_column_of_the_project_has_an_origin_that_is_told(shipped: ColumnLineage) -> None:
    for table in shipped.tables:
        for column in shipped.columns(table) if shipped.is_model(table) else ():
            origin = shipped.origin(table, column)
            assert origin.columns or origin.note.startswith("constant"), (table, column)
            assert not any(c == "?" for _, c in origin.columns), (table, column)


def test_every_model_says_what_it_is_and_what_each_column_is(models: list[Model]) -> None:
    for model in models:
        described = {c for c, text in model.column_descriptions.items() if text}
        assert model.description, model.name
        assert model.columns_to_types, model.name
        assert set(model.columns_to_types) <= described, model.name


def test_downstream_of_a_raw_column(shipped: ColumnLineage) -> None:
    assert shipped.downstream("bluesky_raw.followers", "avatar") == ((FOLLOWERS, "avatar"),)
    assert shipped.downstream("bluesky_raw.followers__labels", "cid") == ((LABELS, "label_cid"),)
    assert shipped.downstream("bluesky_raw.followers", "handle") == (
        ("marts.follower_changes", "*"),  # renamed: handle <> last_handle
        ("marts.follower_changes", "handle"),
        ("marts.follower_changes", "previous_handle"),
        ("marts.follower_labels", "*"),  # GROUP BY
        ("marts.follower_labels", "handle"),
        ("marts.followers_daily", "*"),
        ("marts.followers_daily", "gained_count"),
        ("marts.followers_daily", "lost_count"),
        ("marts.mutuals", "handle"),
        (MEMBERS, "handle"),
        (FOLLOWERS, "handle"),
    )
    assert shipped.downstream("bluesky_raw.followers", "nosuch") == ()


def test_downstream_of_a_raw_table(shipped: ColumnLineage) -> None:
    models = {model for model, _ in shipped.downstream("bluesky_raw.followers__labels")}
    assert models == {LABELS, "marts.follower_labels"}
    assert {m for m, _ in shipped.downstream("bluesky_raw.follows")} == {
        FOLLOWS, SNAPSHOTS, MEMBERS, "marts.followers_daily", "marts.follower_changes",
        "marts.follower_labels", "marts.mutuals",
    }  # fmt: skip
    assert shipped.downstream("bluesky_raw.follows__labels") == ()


def test_only_models_that_read_the_table_are_looked_into(models: list[Model]) -> None:
    lineage = ColumnLineage(models)
    lineage.downstream("bluesky_raw.followers__labels", "cid")
    assert set(lineage._origins) == {LABELS, "marts.follower_labels"}


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with read_models(load_settings(ROOT, "default", {"ETL_DATA_DIR": str(data)})) as models:
        assert models
    assert not data.exists()


# -- SQL that is hard to follow --------------------------------------------------------------------

EXTERNAL = """
- name: shop_raw.t
  columns: {id: BIGINT, a: BIGINT, b: BIGINT, d: BIGINT, l: 'BIGINT[]'}
- name: shop_raw.u
  columns: {a: BIGINT, b: BIGINT}
- name: shop_raw.j
  columns: {k: JSON, n: TEXT, q: BIGINT}
- name: shop_raw.u2
  columns: {id: BIGINT, a: BIGINT, b: BIGINT}
- name: shop_raw.v
  columns: {id: BIGINT}
- name: shop_raw.st
  columns: {s: 'STRUCT(x BIGINT, y STRUCT(z TEXT))'}
- name: shop_raw.w
  columns: {'we ird': BIGINT, 'do.t': BIGINT, 'q"uote': BIGINT}
"""
# name: (query, columns with what they are made of); tables without shop_raw.
HARD = {
    "union_all": (
        "SELECT a::INT AS x FROM shop_raw.t UNION ALL SELECT b FROM shop_raw.u",
        {"x": "t.a u.b", "*": "t.* u.*"},
    ),
    "union_distinct": (
        "SELECT x::INT AS x FROM (SELECT a AS x FROM shop_raw.t UNION SELECT b FROM shop_raw.u)",
        {"x": "t.a u.b", "*": "t.* t.a u.* u.b"},
    ),
    "nested_union": (
        (
            "WITH c AS (SELECT a, b FROM shop_raw.t UNION ALL (SELECT b, a FROM shop_raw.u "
            "UNION ALL SELECT 1, 2)) SELECT a::INT AS a FROM c"
        ),
        {"a": "t.a u.b"},
    ),
    "cte_twice": (
        (
            "WITH c AS (SELECT a, b FROM shop_raw.t) SELECT l.a::INT AS a, (l.b + r.a)::INT AS s "
            "FROM c AS l JOIN c AS r ON l.b = r.b"
        ),
        {"a": "t.a", "s": "t.a t.b", "*": "t.* t.b"},
    ),
    "named_window": (
        (
            "SELECT SUM(a) OVER w::INT AS s, ROW_NUMBER() OVER ()::INT AS n FROM shop_raw.t "
            "WINDOW w AS (PARTITION BY b ORDER BY d)"
        ),
        {"s": "t.a t.b t.d", "n": "t.*", "*": "t.*"},
    ),
    "subqueries": (
        (
            "SELECT (SELECT MAX(a) FROM shop_raw.u)::INT AS m, b::INT AS b FROM shop_raw.t "
            "WHERE b IN (SELECT b FROM shop_raw.u WHERE a > 1) "
            "AND EXISTS(SELECT 1 FROM shop_raw.v AS v WHERE v.id = t.d)"
        ),
        {"m": "u.a", "b": "t.b", "*": "t.* t.b t.d u.* u.a u.b v.* v.id"},
    ),
    "correlated": (
        "SELECT (SELECT MAX(u.a) FROM shop_raw.u AS u WHERE u.b = t.d)::INT AS m FROM shop_raw.t",
        {"m": "t.d u.a u.b", "*": "t.* t.d u.* u.b"},
    ),
    "exists_selected": (
        (
            "SELECT id::INT AS id, EXISTS(SELECT 1 FROM shop_raw.u AS u WHERE u.b = t.d)::BOOLEAN "
            "AS e FROM shop_raw.t AS t"
        ),
        {"id": "t.id", "e": "t.d u.* u.b"},
    ),
    "struct": (
        "SELECT s.x::INT AS x, s.y.z::TEXT AS z FROM shop_raw.st",
        {"x": "st.s", "z": "st.s"},
    ),
    "unnest": (
        "SELECT i.v::INT AS v FROM shop_raw.t, UNNEST(t.l) AS i(v)",
        {"v": "t.l", "*": "t.* t.l"},
    ),
    "unnest_in_select": (
        "SELECT UNNEST(l)::INT AS v FROM shop_raw.t",
        {"v": "t.l", "*": "t.* t.l"},
    ),
    "lateral": (
        "SELECT q.m::INT AS m FROM shop_raw.t, LATERAL (SELECT t.a + 1 AS m) AS q",
        {"m": "t.a"},
    ),
    "lambda": (
        "SELECT LIST_TRANSFORM(l, x -> x + a)::INT[] AS l FROM shop_raw.t",
        {"l": "t.a t.l"},
    ),
    "arrow": (
        "SELECT LEN(k -> 'x')::INT AS n, LIST_FILTER([1], y -> y > q)::INT[] AS l FROM shop_raw.j",
        {"n": "j.k", "l": "j.q", "*": "j.*"},
    ),
    "chain": (
        (
            "SELECT n.upper().concat(q)::TEXT AS u, j.n.lower()::TEXT AS v, "
            "LIST_TRANSFORM(['a'], y -> y.upper())::TEXT[] AS l FROM shop_raw.j AS j "
            "WHERE k.len() > 1"
        ),
        {"u": "j.n j.q", "v": "j.n", "l": "", "*": "j.* j.k"},
    ),
    "join_using": (
        "SELECT id::INT AS id, a::INT AS a FROM shop_raw.t JOIN shop_raw.v USING (id)",
        {"id": "t.id v.id", "a": "t.a", "*": "t.* t.id v.* v.id"},
    ),
    "distinct_rows": ("SELECT DISTINCT a::INT AS a FROM shop_raw.t", {"a": "t.a", "*": "t.* t.a"}),
    "top_rows": (
        "SELECT a::INT AS a FROM shop_raw.t ORDER BY b LIMIT 1",
        {"a": "t.a", "*": "t.* t.b"},
    ),
    "top_by_alias": (
        (
            "WITH c AS (SELECT id, -a AS low FROM shop_raw.t ORDER BY low LIMIT 2), "
            "e AS (SELECT id, d FROM shop_raw.t ORDER BY 2 OFFSET 1) "
            "SELECT c.id::INT AS id FROM c, e"
        ),
        {"id": "t.id", "*": "t.* t.a t.d"},
    ),
    "top_by_all": (
        "SELECT id::INT AS id FROM (SELECT id, a FROM shop_raw.t ORDER BY ALL LIMIT 2)",
        {"id": "t.id", "*": "t.* t.a t.id"},
    ),
    "top_of_union": (
        (
            "SELECT i::INT AS i FROM (SELECT id AS i, a FROM shop_raw.t "
            "UNION ALL SELECT a, b FROM shop_raw.u ORDER BY a LIMIT 2)"
        ),
        {"i": "t.id u.a", "*": "t.* t.a u.* u.b"},
    ),
    "first_of_each": (
        "SELECT DISTINCT ON (b) id::INT AS id FROM shop_raw.t ORDER BY b, d DESC",
        {"id": "t.id", "*": "t.* t.b t.d"},
    ),
    "in_order": (
        "SELECT LIST(id)::INT[] AS l FROM (SELECT id FROM shop_raw.t ORDER BY d)",
        {"l": "t.id", "*": "t.* t.d"},
    ),
    "group_all": (
        "SELECT (b + d)::INT AS k, COUNT(*)::INT AS n FROM shop_raw.t GROUP BY ALL",
        {"k": "t.b t.d", "n": "t.*", "*": "t.* t.b t.d"},
    ),
    "union_by_name": (
        (
            "SELECT id::INT AS id, a::INT AS a FROM shop_raw.t UNION ALL BY NAME "
            "SELECT a::INT AS id, b::INT AS more FROM shop_raw.u"
        ),
        {"id": "t.id u.a", "a": "t.a", "more": "u.b"},
    ),
    "qualified": (
        (
            "SELECT a::INT AS a FROM shop_raw.t "
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY b ORDER BY d) = 1"
        ),
        {"a": "t.a", "*": "t.* t.b t.d"},
    ),
    "excepted": (
        "SELECT a::INT AS a FROM shop_raw.t EXCEPT SELECT b FROM shop_raw.u",
        {"*": "t.* t.a u.* u.b"},
    ),
    "star": ("SELECT * EXCLUDE (l, d) FROM shop_raw.t", {"id": "t.id", "a": "t.a", "b": "t.b"}),
    "lateral_alias": (
        "SELECT a::INT AS q, (q + b)::INT AS r FROM shop_raw.t",
        {"q": "t.a", "r": "t.a t.b"},
    ),
    "weird_names": (
        (
            'SELECT "we ird"::INT AS "out put", "do.t"::INT AS "do.t", "q""uote"::INT AS q '
            "FROM shop_raw.w"
        ),
        {"out put": "w.we ird", "do.t": "w.do.t", "q": 'w.q"uote'},
    ),
    "by_macro": (
        (
            "SELECT @EACH([a, b], c -> SUM(c)::INT AS @{c}_sum) FROM shop_raw.t "
            "WHERE @AND(d > 1, NULL)"
        ),
        {"a_sum": "t.a", "b_sum": "t.b", "*": "t.* t.d"},
    ),
    # what cannot be followed says so, and counts as fed by every column
    "unknown_star": ("SELECT * FROM shop_raw.unknown", {"?": "unknown.?"}),
    "over_unknown_star": (
        "SELECT some::INT AS some FROM m.q_unknown_star",
        {"some": "m.q_unknown_star.some"},
    ),
    "unknown_table": ("SELECT foo::INT AS foo FROM shop_raw.unknown", {"foo": "unknown.foo"}),
    "pivoted": (
        "SELECT b::INT AS b, p::INT AS p FROM shop_raw.t PIVOT (SUM(a) FOR d IN (1 AS p))",
        {"b": "t.?", "p": "t.?"},
    ),
    "pivoted_in_a_cte": (
        (
            "WITH p AS (PIVOT shop_raw.t ON b IN (1) USING SUM(a) GROUP BY id) "
            "SELECT id::INT AS id FROM p"
        ),
        {"id": "p.? t.?"},
    ),
    "summarized": ("SELECT max::TEXT AS m FROM (SUMMARIZE shop_raw.u)", {"m": "u.?"}),
    "natural": (
        "SELECT t.a::INT AS a FROM shop_raw.t AS t NATURAL JOIN shop_raw.v AS v",
        {"a": "t.? v.?"},
    ),
    "star_like": ("SELECT * LIKE 'i%' FROM shop_raw.v", {"*": "v.* v.?"}),
    "renamed_columns": ("SELECT x.q::INT AS q FROM shop_raw.u AS x(p, q)", {"q": "u.?"}),
    "series_of_a_query": (
        "SELECT g.n::INT AS n FROM GENERATE_SERIES(1, (SELECT MAX(a) FROM shop_raw.u)) AS g(n)",
        {"n": "u.?"},
    ),
    "named_in_a_text": (
        "SELECT a::INT AS a FROM QUERY_TABLE('shop_raw.u')",
        {"a": "u.?", "*": "u.* u.?"},
    ),
    "made_before": (
        ("CREATE TEMP TABLE made AS SELECT a FROM shop_raw.u; SELECT a::INT AS a FROM made"),
        {"a": "made.? u.?"},
    ),
    "deleted_after": (
        (
            "SELECT id::INT AS id FROM shop_raw.t; @IF(@runtime_stage = 'evaluating', "
            "DELETE FROM @this_model WHERE NOT id IN (SELECT b FROM shop_raw.u))"
        ),
        {"id": "t.id", "*": "t.* u.* u.b u.id"},
    ),
    "other_sql_in_a_run": (
        "SELECT @IF(@runtime_stage = 'evaluating', a, b)::INT AS x FROM shop_raw.u",
        {"x": "u.?"},
    ),
    "jinja": (
        "JINJA_QUERY_BEGIN; SELECT {% if 1 %} a {% endif %}::INT AS x FROM shop_raw.u JINJA_END;",
        {"x": "u.a"},
    ),
    "other_jinja_in_a_run": (
        (
            "JINJA_QUERY_BEGIN; SELECT {{ 'a' if execution_ds > '2020-01-01' else 'b' }}::INT AS x "
            "FROM shop_raw.u JINJA_END;"
        ),
        {"x": "u.?"},
    ),
    "recursive": (
        (
            "WITH RECURSIVE r AS (SELECT a, b FROM shop_raw.t UNION ALL SELECT u.a, r.b "
            "FROM shop_raw.u AS u JOIN r ON u.b = r.a) SELECT a::INT AS a, b::INT AS b FROM r"
        ),
        {"a": "t.a u.a", "b": "t.? t.b u.?"},
    ),
    "series_only": (
        (
            "SELECT d.day::DATE AS day, YEAR(d.day)::INT AS year FROM GENERATE_SERIES("
            "DATE '2020-01-01', DATE '2020-12-31', INTERVAL '1' DAY) AS d(day)"
        ),
        {"day": "", "year": "", "*": ""},
    ),
    "values_only": ("SELECT v.x::INT AS x FROM (VALUES (1), (2)) AS v(x)", {"x": ""}),
}
# kind: what decides about the rows of `SELECT id, a, b FROM shop_raw.u2`, beside their being there
KINDS = {
    "SCD_TYPE_2_BY_COLUMN (unique_key id, columns [a])": "a id",
    "SCD_TYPE_2_BY_COLUMN (unique_key id, columns *)": "a b id",
    "INCREMENTAL_BY_UNIQUE_KEY (unique_key (id), merge_filter source.b > 1)": "b id",
    "INCREMENTAL_BY_PARTITION": "a",
    "INCREMENTAL_BY_TIME_RANGE (time_column b)": "b",
    "FULL": "",
}
PYTHON = """
from sqlmesh import model

@model("m.undeclared", columns={"x": "int"}, kind="FULL")
def undeclared(context, **kwargs):
    return context.fetchdf("SELECT id FROM shop_raw.v")

@model("m.by_python", columns={"x": "int"}, depends_on=["shop_raw.u"], kind="FULL")
def execute(context, **kwargs):
    raise RuntimeError("lineage must not run it")
"""


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ColumnLineage]:
    files = {"sqlmesh/external_models/shop.yaml": EXTERNAL, "sqlmesh/models/p.py": PYTHON}
    for name, (query, _) in HARD.items():
        files[f"sqlmesh/models/{name}.sql"] = f"MODEL (name m.q_{name}, kind FULL);\n{query}"
    for number, kind in enumerate(KINDS):
        files[f"sqlmesh/models/k{number}.sql"] = (
            f"MODEL (name m.k{number}, kind {kind}, partitioned_by [a]);\n"
            "SELECT id::BIGINT AS id, a::BIGINT AS a, b::BIGINT AS b FROM shop_raw.u2"
        )
    shop = Shop.create(tmp_path_factory.mktemp("hard"), files)
    with read_models(shop.settings) as models:
        yield ColumnLineage(models)


@pytest.mark.parametrize("name", HARD)
def test_hard_sql_is_followed_or_said_not_to_be(hard: ColumnLineage, name: str) -> None:
    for column, text in HARD[name][1].items():
        origin = hard.origin(f"m.q_{name}", column)
        found = sorted(f"{t.removeprefix('shop_raw.')}.{c}" for t, c in origin.columns)
        assert " ".join(found) == text, column
        assert ("?" in text) == origin.note.startswith("cannot be told"), column


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_decides_by_decides_about_rows(hard: ColumnLineage, kind: str) -> None:
    name = f"m.k{[*KINDS].index(kind)}"
    assert sources(hard, name, "*") == {f"shop_raw.u2.{c}" for c in ["*", *KINDS[kind].split()]}
    if "SCD" in kind:
        written = hard.origin(name, "valid_from")
        assert (written.note, len(written.columns)) == ("written by SQLMesh", kind.count("*") + 2)


def test_what_only_the_text_of_a_model_names_counts_as_read(hard: ColumnLineage) -> None:
    fed = {*hard.downstream("shop_raw.v", "id"), *hard.downstream("shop_raw.u", "b")}
    assert {
        ("m.undeclared", "x"), ("m.q_named_in_a_text", "a"), ("m.q_made_before", "a"),
        ("m.q_other_sql_in_a_run", "x"), ("m.q_summarized", "m"), ("m.q_deleted_after", "*"),
    } <= fed  # fmt: skip


def test_a_python_model_may_be_fed_by_every_column(hard: ColumnLineage) -> None:
    assert hard.origin("m.by_python", "x").columns == (("shop_raw.u", "?"),)
    assert ("m.by_python", "x") in hard.downstream("shop_raw.u", "a")
    assert ("m.q_pivoted", "p") in hard.downstream("shop_raw.t", "id")
    assert ("m.q_star", "b") not in hard.downstream("shop_raw.t", "id")


def test_what_cannot_be_told_is_followed_on(hard: ColumnLineage) -> None:
    assert ("m.q_over_unknown_star", "some") in hard.downstream("shop_raw.unknown", "any")
    assert hard.origin("m.q_unknown_star", "some").columns == (("shop_raw.unknown", "?"),)


# -- from the API to the targets -------------------------------------------------------------------


def test_columns_go_up_to_the_field_of_the_api(tmp_path: Path, shipped: ColumnLineage) -> None:
    with Replay(DAY) as replay:
        extract_once(settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, "chess.com")}))
    settings = load_settings(ROOT, "default", {"ETL_DATA_DIR": str(tmp_path / "data")})

    finder = Finder(settings, shipped, ApiFields(settings))

    def fields(name: str) -> set[str]:
        answer = finder.answer(name)
        return {f"{n.table} {n.column}" for n in answer.nodes if n.kind == "api"}

    get = "GET app.bsky.graph.getFollowers $.followers[*]"
    assert fields(f"{FOLLOWERS}.is_blocked_by") == {f"{get}.viewer.blockedBy"}
    assert fields("marts.follower_labels.label_value") == {f"{get}.labels[*].val"}
    assert fields("marts.mutuals.did") == {f"{get}.did"}  # follows were not extracted
    assert fields("marts.followers_daily.followers_count") == {get}
    notes = {n.note for n in finder.answer("marts.mutuals.actor").nodes if n.kind == "raw"}
    assert notes == {"for_each: the actor that was asked for", "no API field recorded yet"}
    # A column that no model declares is known all the same.
    added = "bluesky_raw.followers.verification__verified_status"
    assert finder.answer(added).edges == ()
    assert finder.answer(added, "upstream").nodes[1].column.endswith("verifiedStatus")


def test_paths_of_other_apis(tmp_path: Path) -> None:
    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> object:
        if path == "/orders":
            return {"meta": {}, "data": {"rows": [{"orderId": 1, "lines": [{"Qty": 2}]}]}}
        return [{"theSKU": "x"}]

    with serving(answer) as api:
        source = {
            "client": {"base_url": api.url, "paginator": "single_page"},
            "stamp": {"day": "snapshot_date"},
            "resources": [
                {"name": "orders", "endpoint": {"data_selector": "data.rows"}},
                {
                    "name": "skus",
                    "endpoint": {"path": "orders/{resources.orders.orderId}/skus"},
                    "include_from_parent": ["orderId"],
                },
            ],
        }
        settings = settings_of(tmp_path, {"shop": source})
        extract_once(settings)
    tables = load_fields(settings, "shop")
    skus = "GET orders/{resources.orders.orderId}/skus"
    assert tables["orders"]["order_id"] == [ApiField("GET orders", "$.data.rows[*].orderId")]
    assert tables["orders__lines"]["qty"] == [ApiField("GET orders", "$.data.rows[*].lines[*].Qty")]
    assert tables["skus"]["the_sku"] == [ApiField(skus, "$[*].theSKU")]
    assert tables["skus"]["_orders_order_id"][0].note == "`orderId` of the parent resource's row"
    assert tables["skus"]["day"] == [ApiField(note="this run's snapshot date")]


@pytest.fixture(scope="module")
def finder(shipped: ColumnLineage) -> Finder:
    settings = load_settings(ROOT, "default", {"ETL_DATA_DIR": "/nonexistent"})
    return Finder(settings, shipped, ApiFields(settings))


def test_downstream_ends_at_the_targets(finder: Finder) -> None:
    answer = finder.answer("bluesky_raw.followers.handle")
    targets = {(n.table, n.column) for n in answer.nodes if n.kind == "target"}
    assert {c for t, c in targets if t == "marts: mutuals"} == {"handle"}
    assert ("marts: follower_changes", "previous_handle") in targets
    assert answer.asked == (Node("bluesky_raw.followers", "handle", "raw"),)
    assert answer.asked[0].type == "TEXT"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("marts.mutals", "did you mean marts.mutuals?"),
        ("marts.mutals.handle", "did you mean marts.mutuals?"),
        ("marts.mutuals.handel", "marts.mutuals has no column handel; did you mean handle?"),
        ("nonsense", "no such model, raw table or column: nonsense"),
        ("", "no such model"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(finder: Finder, name: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        finder.answer(name)
    assert told in caught.value.message


def test_names_are_found_whatever_their_case(finder: Finder) -> None:
    answer = finder.answer("MARTS.Mutuals.DID")
    assert answer.asked == (Node("marts.mutuals", "did", "model"),)
