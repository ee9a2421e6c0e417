"""The three-way merge: what it keeps, what it brings, what it leaves to a person."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.generate.merging import merge

BASE = "a\nb\nc\nd\n"
texts = st.lists(st.sampled_from("abcdef"), max_size=8).map(lambda x: "".join(f"{c}\n" for c in x))


def test_both_sides_changes_are_kept() -> None:
    merged = merge(BASE, "a\nB\nc\nd\n", "a\nb\nc\nD\n")
    assert (merged.text, merged.conflicts) == ("a\nB\nc\nD\n", ())


def test_lines_added_at_one_place_all_stay_ours_first() -> None:
    merged = merge(BASE, "a\nb\nours\nc\nd\n", "a\nb\ntheirs\nc\nd\n")
    assert (merged.text, merged.conflicts) == ("a\nb\nours\ntheirs\nc\nd\n", ())


def test_a_line_added_beside_a_changed_line_is_no_conflict() -> None:
    merged = merge(BASE, "a\nB\nc\nd\n", "a\nb\nnew\nc\nd\n")
    assert (merged.text, merged.conflicts) == ("a\nB\nnew\nc\nd\n", ())
    merged = merge(BASE, "a\nB\nc\nd\n", "a\nnew\nb\nc\nd\n")
    assert (merged.text, merged.conflicts) == ("a\nnew\nB\nc\nd\n", ())


def test_a_conflict_names_the_lines_of_the_text_that_stands() -> None:
    merged = merge(BASE, "first\nsecond\na\nb\nC1\nC2\nd\n", "a\nb\nX\nd\n")
    assert merged.conflicts == ((5, 6),)
    assert merged.text == "first\nsecond\na\nb\nC1\nC2\nd\n"


def test_what_one_side_removes_and_the_other_changes_is_a_conflict() -> None:
    assert merge(BASE, "a\nc\nd\n", "a\nB\nc\nd\n").conflicts == ((2, 2),)


@given(texts, texts)
def test_one_side_alone_wins(base: str, changed: str) -> None:
    assert merge(base, base, changed).text == changed
    assert merge(base, changed, base).text == changed
    assert merge(base, changed, changed).text == changed


@given(texts, texts, texts)
def test_without_conflict_no_line_comes_from_nowhere_and_nothing_added_is_lost(
    base: str, ours: str, theirs: str
) -> None:
    merged = merge(base, ours, theirs)
    if merged.conflicts:
        return
    lines = merged.text.splitlines()
    assert set(lines) <= {*base.splitlines(), *ours.splitlines(), *theirs.splitlines()}
    for side in (ours, theirs):
        added = set(side.splitlines()) - set(base.splitlines())
        assert added <= set(lines)
