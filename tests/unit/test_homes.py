"""Which addresses may see a source's credentials."""

from __future__ import annotations

import pytest

from etl.sources.homes import find_homes

BASE = "https://api.test/v1/"


def test_homes_are_the_base_url_and_paths_that_are_whole_addresses() -> None:
    paths = ["things", "/things/{resources.a.id}", "https://files.test/{resources.a.id}"]
    assert find_homes(BASE, paths) == (BASE, "https://files.test/{resources.a.id}")


@pytest.mark.parametrize("path", ["{resources.a.url}", "https://{resources.a.host}.test/things"])
def test_host_that_comes_from_rows_is_no_home(path: str) -> None:
    assert find_homes(BASE, [path]) == (BASE,)


@pytest.mark.parametrize("path", ["https://files.test:x/", "https://[files.test/"])
def test_address_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"Port|Invalid"):
        find_homes(BASE, [path])


@pytest.mark.parametrize("end", ["?key=1", "#top"])
def test_paths_cannot_follow_a_query(end: str) -> None:
    with pytest.raises(ValueError, match="`params`"):
        find_homes(BASE + end, [])
