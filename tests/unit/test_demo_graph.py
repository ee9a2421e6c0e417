"""The replay's graph is the same for everyone, changes every day and never drifts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

import pytest

from etl.demo import ACTORS
from etl.demo.graph import Kind, members
from tests.followers import KINDS, difference, listed

NEW_YEAR = date(2026, 1, 1)
LISTS = [(actor, kind) for actor in ACTORS for kind in KINDS]


def dids(actor: str, kind: Kind, day: date) -> set[str]:
    return {str(row["did"]) for row in listed(actor, kind, day)}


def spread_days() -> Iterator[date]:
    """Some days of each year from 2025 to 2030, two by two."""
    for number in range(0, 2190, 73):
        yield date(2025, 1, 1) + timedelta(days=number)


def test_lists_are_large_enough_to_page_and_overlap() -> None:
    chess, lichess = (dids(actor, "followers", NEW_YEAR) for actor in ACTORS)
    assert len(chess) >= 1800
    assert len(lichess) >= 900
    assert len(chess | lichess) >= 2500
    assert chess & lichess
    assert sum(len(members(actor, "follows", NEW_YEAR)) for actor in ACTORS) >= 400


@pytest.mark.parametrize("actor", ACTORS)
def test_some_follows_are_mutual(actor: str) -> None:
    mutual = dids(actor, "followers", NEW_YEAR) & dids(actor, "follows", NEW_YEAR)
    assert 100 < len(mutual) < len(members(actor, "follows", NEW_YEAR))


@pytest.mark.parametrize(("actor", "kind"), LISTS)
def test_nobody_stands_twice_in_a_list(actor: str, kind: Kind) -> None:
    rows = listed(actor, kind, NEW_YEAR)
    assert len({row["did"] for row in rows}) == len(rows)


@pytest.mark.parametrize(("actor", "kind"), LISTS)
def test_every_day_gains_loses_and_renames(actor: str, kind: Kind) -> None:
    for day in spread_days():
        found = difference(actor, kind, day, day + timedelta(days=1))
        assert len(found.gained) >= 3, day
        assert len(found.lost) >= 3, day
        assert len(found.renamed) >= 2, day


@pytest.mark.parametrize("actor", ACTORS)
def test_some_who_left_come_back(actor: str) -> None:
    days = [NEW_YEAR + timedelta(days=number) for number in range(15)]
    daily = [set(members(actor, "followers", day)) for day in days]
    left: set[int] = set()
    came_back: set[int] = set()
    for former, present in pairwise(daily):
        came_back |= left & present
        left |= former - present
    assert came_back


@pytest.mark.parametrize(("actor", "kind"), LISTS)
def test_size_does_not_drift_over_years(actor: str, kind: Kind) -> None:
    sizes = [len(members(actor, kind, day)) for day in spread_days()]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.parametrize(("actor", "kind"), LISTS)
def test_newest_followers_come_first(actor: str, kind: Kind) -> None:
    gained = difference(actor, kind, NEW_YEAR - timedelta(days=1), NEW_YEAR).gained
    first = {str(row["did"]) for row in listed(actor, kind, NEW_YEAR)[: len(gained)]}
    assert first == gained


def test_display_names_change_while_dids_stay() -> None:
    former, present = (
        {row["did"]: row.get("displayName") for row in listed("chess.com", "followers", day)}
        for day in (NEW_YEAR, NEW_YEAR + timedelta(days=1))
    )
    assert any(former[did] != present[did] for did in former.keys() & present.keys())


def test_rows_carry_the_awkward_cases() -> None:
    rows = listed("chess.com", "followers", NEW_YEAR)
    text = json.dumps(rows, ensure_ascii=False)
    for awkward in ("♟️", "شطرنج", "שחמט", "国际象棋", "e\u0308", '\\"checkmate\\"', "\\n", "NULL"):
        assert awkward in text
    for optional in ("displayName", "avatar", "associated", "viewer", "labels", "description"):
        present = sum(optional in row for row in rows)
        assert 0 < present < len(rows), optional
    assert any(row.get("labels") == [] for row in rows)
    assert any(row.get("labels") for row in rows)
    assert any(row.get("displayName") == "" for row in rows)
    assert any(row["handle"] == "handle.invalid" for row in rows)


def test_unknown_actor_has_no_list() -> None:
    with pytest.raises(KeyError):
        members("nobody.test", "followers", NEW_YEAR)
