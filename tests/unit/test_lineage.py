"""How a lineage is shown: tree, JSON, DOT and a page, whatever the names hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from xml.etree import ElementTree as ET

import pytest

from etl.lineage.answer import Answer, Node
from etl.lineage.html import as_html
from etl.lineage.text import as_dot, as_json, as_tree

API = Node("GET a/b", "$.x[*].blockedBy", "api")
RAW = Node("s_raw.t", "blocked_by", "raw", "BOOLEAN")
STG = Node("staging.t", "is_blocked", "model", "BOOLEAN")
ONE = Node("marts.one", "is_blocked", "model", "BOOLEAN", "constant FALSE")
ROWS = Node("marts.two", "*", "model")
TARGET = Node("marts: one", "is_blocked", "target", "BOOLEAN")
EDGES = ((API, RAW), (RAW, STG), (STG, ONE), (STG, ROWS), (ONE, TARGET), (ROWS, ONE))


def test_the_tree_goes_up_to_the_api() -> None:
    answer = Answer("marts.one.is_blocked", "upstream", (ONE,), EDGES[:4] + EDGES[5:])
    assert as_tree(answer) == (
        "marts.one.is_blocked, upstream: 1 column, each with its type and what it is made of\n"
        "\n"
        "marts.one.is_blocked BOOLEAN (constant FALSE)\n"
        "├─ staging.t.is_blocked BOOLEAN\n"
        "│  └─ s_raw.t.blocked_by BOOLEAN\n"
        "│     └─ GET a/b $.x[*].blockedBy\n"
        "└─ marts.two: rows\n"
        "   └─ staging.t.is_blocked BOOLEAN …\n"
    )


def test_the_tree_goes_down_to_the_targets() -> None:
    text = as_tree(Answer("s_raw.t", "downstream", (RAW,), EDGES[1:]))
    assert text.index("staging.t") < text.index("marts.one") < text.index("target marts: one")
    assert "└─ nothing" in as_tree(Answer("s_raw.t", "downstream", (RAW,), ()))


def test_a_ring_ends() -> None:
    ring = ((STG, ONE), (ONE, STG))
    answer = Answer("x", "upstream", (ONE,), ring)
    assert as_tree(answer).count("staging.t") == 1
    assert ET.fromstring(svg(as_html(answer)))


def test_a_table_that_reads_itself_is_left_at_once() -> None:
    """All of its columns may be made of all: a tree of them says nothing."""
    a, b, rows = (Node("marts.sum", name, "model") for name in ("a", "b", "*"))
    ring = ((a, b), (b, a), (a, a), (rows, a), (STG, b), (a, ONE), (b, ONE))
    assert as_tree(Answer("x", "upstream", (ONE,), ring)).splitlines()[3:] == [
        "├─ marts.sum.a",
        "│  ├─ (itself, as it was before: rows, a, b)",
        "│  └─ staging.t.is_blocked BOOLEAN",
        "└─ marts.sum.b",
        "   ├─ (itself, as it was before: rows, a, b)",
        "   └─ staging.t.is_blocked BOOLEAN",
    ]
    assert as_tree(Answer("x", "downstream", (a,), ring)).splitlines()[3:] == [
        "├─ (itself, as it was before: a, b)",
        "└─ marts.one.is_blocked BOOLEAN (constant FALSE)",
    ]


def test_what_cannot_be_told_is_said() -> None:
    unknown = Node("s_raw.t", "?", "raw")
    text = as_tree(Answer("x", "upstream", (ONE,), ((unknown, ONE),)))
    assert "s_raw.t: some column, it cannot be told which" in text


def test_steps_in_both_directions() -> None:
    up, down = (Answer("x", direction, (ONE,), EDGES) for direction in ("upstream", "downstream"))
    assert (up.next_to(ONE), up.next_to(API)) == ((STG, ROWS), ())
    assert (down.next_to(STG), down.next_to(TARGET)) == ((ONE, ROWS), ())
    assert set(up.nodes) == {API, RAW, STG, ONE, ROWS, TARGET}


def test_the_json_has_every_node_and_edge() -> None:
    tree = json.loads(as_json(Answer("x", "downstream", (RAW,), EDGES)))
    ids = {n["id"] for n in tree["nodes"]}
    assert len(ids) == len(tree["nodes"]) == 6
    assert tree["asked"] == [RAW.id]
    assert len(tree["edges"]) == len(EDGES)
    assert all(e["from"] in ids and e["to"] in ids for e in tree["edges"])
    assert {n["kind"] for n in tree["nodes"]} == {"api", "raw", "model", "target"}


NASTY = "</script><img src=x onerror=alert(1)> \"q\" 'a' $title & \\ ünï"


def svg(page: str) -> str:
    (found,) = re.findall(r"<svg.*</svg>", page, re.DOTALL)
    return str(found)


def nasty() -> Answer:
    nodes = (Node(NASTY, NASTY, "raw", NASTY, NASTY), Node("m.x", NASTY, "model", "T", NASTY))
    return Answer(NASTY, "downstream", nodes[:1], ((nodes[0], nodes[1]),))


def test_the_page_escapes_every_name() -> None:
    page = as_html(nasty())
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 1
    texts = [t for t in ET.fromstring(svg(page)).itertext() if t.strip()]
    assert NASTY in texts
    assert f"{NASTY} {NASTY}" in texts


def test_the_page_loads_nothing() -> None:
    page = as_html(Answer("x", "upstream", (ONE,), EDGES))
    assert not re.search(r"""(src|href)\s*=|url\(|@import|fetch\(|\bimport\b""", page)
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_the_page_draws_every_column_and_edge_from_left_to_right() -> None:
    answer = Answer("x", "upstream", (ONE,), EDGES)
    tree = ET.fromstring(svg(as_html(answer)))
    space = "{http://www.w3.org/2000/svg}"
    columns = {g.get("id") for g in tree.iter(f"{space}g") if g.get("id")}
    paths = list(tree.iter(f"{space}path"))
    assert len(columns) == len(answer.nodes)
    assert len(paths) == len(EDGES)
    for path in paths:
        assert {path.get("data-from"), path.get("data-to")} <= columns
        numbers = [float(n) for n in re.findall(r"[\d.]+", path.get("d") or "")]
        assert numbers[0] < numbers[-2]


def test_dot_quotes_every_name() -> None:
    text = as_dot(nasty())
    for line in text.splitlines():
        assert len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2 == 0, line
    assert "->" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript engine here")
def test_the_pages_script_parses() -> None:
    page = as_html(nasty())
    script = page.partition("<script>")[2].partition("</script>")[0]
    done = subprocess.run(
        ["node", "--check", "-"], input=script, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
