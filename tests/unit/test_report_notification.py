"""Who is told what about a run: the worst failure, the first good run after it, nothing else."""

from __future__ import annotations

from pydantic import SecretStr

from etl.errors import DataQualityError, EtlError, LockedError, UnreachableError
from etl.report.notification import MAX_CHARACTERS, about_refusal, about_run
from etl.settings import Notify, Settings
from tests.run_records import record


def settings(*when: str) -> Settings:
    """A job that tells on these occasions."""
    hook = SecretStr("http://127.0.0.1/x")
    return Settings(job="shop", notify=Notify.model_validate({"webhook": hook, "when": when}))


BOTH = settings("failure", "recovery")


def test_a_failure_is_told_with_its_worst_part_first() -> None:
    mild = UnreachableError("shop: no answer", subject="shop")
    worse = DataQualityError("orders: 3 rows", subject="marts.orders", hint="mend them")
    notice = about_run(BOTH, record(mild, worse, partial=True, exit_code=3), None)
    assert notice["text"].splitlines() == [
        "Job shop failed: DATA_QUALITY (3)", "orders: 3 rows", "→ mend them",
        "and 1 more failure", "the rest was published", "run 20260102T000000Z-000001",
    ]  # fmt: skip
    assert {k: notice[k] for k in ("status", "code", "class", "subject", "failures")} == {
        "status": "failure", "code": 3, "class": "DATA_QUALITY", "subject": "marts.orders",
        "failures": 2,
    }  # fmt: skip
    assert notice["partial"]
    assert not notice["retryable"]


def test_a_good_run_is_told_only_after_a_bad_one() -> None:
    bad, killed = record(LockedError("x")), record(exit_code=None, status="running")
    assert about_run(BOTH, record(), None) == {}
    assert about_run(BOTH, record(), record()) == {}
    assert about_run(BOTH, record(), bad)["status"] == "recovery"
    assert about_run(BOTH, record(), killed)["status"] == "recovery"
    # The record of the first attempt is gone: a second attempt tells that it failed.
    assert about_run(BOTH, record(attempt=2), record())["status"] == "recovery"


def test_nobody_is_told_what_nobody_asked_for() -> None:
    bad = record(LockedError("x"))
    assert about_run(settings("recovery"), bad, None) == {}
    assert about_refusal(settings("recovery"), LockedError("x")) == {}
    assert about_run(settings("failure"), record(), bad) == {}


def test_a_run_that_did_not_begin_is_told_without_a_run_id() -> None:
    notice = about_refusal(BOTH, LockedError("run 7 holds it", hint="wait"))
    assert notice["run_id"] is None
    assert notice["text"].endswith("the run did not begin")
    assert (notice["code"], notice["class"], notice["retryable"]) == (8, "LOCKED", True)


def test_an_apis_text_neither_calls_everybody_nor_floods_the_chat() -> None:
    error = EtlError("<!channel> & co", hint="x" * 5000)
    notice = about_run(BOTH, record(error), None)
    assert "&lt;!channel&gt; &amp; co" in notice["text"]
    assert notice["message"] == "<!channel> & co"
    assert len(notice["hint"]) == MAX_CHARACTERS
