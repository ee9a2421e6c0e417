"""A plan of some models builds what their changes build anew, and leaves no version untabled."""

from __future__ import annotations

from etl.errors import ExitCode
from etl.project.selection import PlannedPart, plan_part
from etl.stages.forecast import copied_project
from tests.integration.projects import Shop

ORDERS = "staging.stg_shop__orders"
TOTALS, CUSTOMERS = "sqlmesh/models/totals.sql", "sqlmesh/models/customers.sql"


def plan(shop: Shop, *select: str, held: str = "", environment: str = "prod") -> PlannedPart:
    """What a run would plan for these models; nothing is changed."""
    with copied_project(shop.settings, environment) as project:
        wanted = project.graph.with_upstream(project.select(select)) - {held}
        return plan_part(project, wanted, {held} if held else ())


def triple_orders(shop: Shop) -> None:
    shop.edit("sqlmesh/models/orders.sql", "raw.amount::BIGINT", "(3 * raw.amount)::BIGINT")


def test_what_a_selected_change_builds_anew_is_built_and_published_with_it(shop: Shop) -> None:
    triple_orders(shop)
    # Not selected: this change waits, and the model is built as it was.
    shop.edit(CUSTOMERS, "amount > 100", "amount > 10000")
    record = shop.go_on((3, "eve", 50), select=[ORDERS])
    assert record.exit_code == 0, record.failures
    assert {m.name for m in record.models} == {ORDERS, "marts.totals", "marts.customers"}
    assert shop.published("totals") == [("ann", 150), ("bob", 600), ("eve", 150)]
    assert shop.published("customers") == [("ann", True), ("bob", True), ("eve", True)]
    assert shop.published("items") == [("cup", 2), ("tea", 2)]
    assert set(shop.verdicts().values()) == {"passed"}
    whole = plan(shop, "*").plan
    assert whole is not None
    assert [n.split('"')[-2] for n in whole.context_diff.modified_snapshots] == ["customers"]


def test_a_change_that_breaks_what_reads_it_waits_and_the_rest_goes_on(shop: Shop) -> None:
    shop.edit(TOTALS, "AS amount", "AS total")
    shop.edit(TOTALS, "(amount >= 0)", "(total >= 0)")
    record = shop.go_on((3, "eve", 5))
    assert (record.exit_code, record.partial) == (ExitCode.TRANSFORM, True)
    assert [f.subject for f in record.failures] == ["marts.customers"]
    assert record.warnings == (
        "marts.totals keeps its earlier version: its change builds marts.customers anew",
    )
    assert {x.model: x.status for x in record.loads} == {
        "marts.totals": "published",
        "marts.items": "published",
        "marts.customers": "held_back",
    }
    # Its earlier version, with the rows of this run.
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 5)]
    assert shop.query("SELECT amount FROM marts.totals ORDER BY 1") == [(5,), (50,), (200,)]
    assert shop.published("items")[-1] == ("tea", 3)


def test_a_change_above_what_is_held_back_waits(shop: Shop) -> None:
    triple_orders(shop)
    part = plan(shop, "*", held="marts.customers")
    assert part.waiting == {(ORDERS, "marts.customers")}
    assert part.plan is not None
    assert not part.plan.context_diff.modified_snapshots
    # A held model that the change does not reach lets it through.
    part = plan(shop, "*", held="marts.items")
    assert (part.waiting, part.also) == (frozenset(), frozenset())


def test_a_model_that_is_gone_goes_with_the_change_that_would_build_it(shop: Shop) -> None:
    triple_orders(shop)
    (shop.folder / CUSTOMERS).unlink()
    part = plan(shop, ORDERS)
    assert part.also == {"marts.totals"}
    assert part.plan is not None
    removed = [s.name for s in part.plan.context_diff.removed_snapshots]
    assert removed == ['"warehouse"."marts"."customers"']


def test_what_keeps_its_version_waits_for_its_own_turn(shop: Shop) -> None:
    shop.edit(TOTALS, "AS amount", "AS amount, 'EUR'::TEXT AS currency")
    part = plan(shop, "marts.totals")
    assert part.plan is not None
    assert len(part.plan.context_diff.modified_snapshots) == 2
    assert part.also == frozenset()


def test_an_environment_needs_only_what_stands_in_it(shop: Shop) -> None:
    triple_orders(shop)
    assert plan(shop, ORDERS).also == {"marts.totals", "marts.customers"}
    assert plan(shop, ORDERS, environment="dev_ann").also == frozenset()
    # Where all stands, a new version without a table would have no view any more.
    assert shop.run("transform", environment="dev_ann").exit_code == 0
    shop.edit(TOTALS, "AS amount", "AS amount, 'EUR'::TEXT AS currency")
    assert plan(shop, "marts.totals", environment="dev_ann").also == {"marts.customers"}
