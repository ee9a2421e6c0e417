"""A lineage as text: a tree for people, JSON and DOT for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from etl.lineage.answer import Answer, Node
from etl.project.origins import ROWS, UNKNOWN


def name_node(node: Node) -> str:
    """A node in words, on one line."""
    if node.kind == "api":
        text = f"{node.table} {node.column}"
    else:
        place = f"target {node.table}" if node.kind == "target" else node.table
        named = {ROWS: f"{place}: rows", UNKNOWN: f"{place}: some column, it cannot be told which"}
        text = named.get(node.column, f"{place}.{node.column}")
    return " ".join(f"{text} {node.type}".split()) + (f" ({node.note})" if node.note else "")


def as_tree(answer: Answer) -> str:
    """A tree for each column that was asked for."""
    n = len(answer.asked)
    sense = "what it is made of" if answer.direction == "upstream" else "what it feeds"
    columns = f"{n} column{'s' if n != 1 else ''}"
    lines = [f"{answer.name}, {answer.direction}: {columns}, each with its type and {sense}"]
    for node in answer.asked:
        lines += ["", name_node(node), *_branches(answer, node, "", {node})]
    if answer.hint:
        lines += ["", answer.hint]
    return "\n".join(lines) + "\n"


def _branches(answer: Answer, node: Node, indent: str, seen: set[Node]) -> Iterator[str]:
    """The lines below a node; what stands in the tree already is not unfolded again."""
    own, others = _beside_and_beyond(answer, node)
    if own:
        names = ", ".join("rows" if n.column == ROWS else n.column for n in own)
        yield f"{indent}{'├─' if others else '└─'} (itself, as it was before: {names})"
    if not own and not others and not indent and answer.direction == "downstream":
        yield "└─ nothing"
    for number, other in enumerate(others, 1):
        is_last = number == len(others)
        again = other in seen and any(_beside_and_beyond(answer, other))
        yield f"{indent}{'└─' if is_last else '├─'} {name_node(other)}{' …' if again else ''}"
        if not again:
            seen.add(other)
            yield from _branches(answer, other, indent + ("   " if is_last else "│  "), seen)


def _beside_and_beyond(answer: Answer, node: Node) -> tuple[list[Node], list[Node]]:
    """The next nodes in its own table, which a model that reads itself has, and in other ones."""
    own: dict[Node, None] = {}
    others: dict[Node, None] = {}
    todo = [node]
    while todo:
        for other in answer.next_to(todo.pop()):
            if (other.kind, other.table) != (node.kind, node.table):
                others[other] = None
            elif other not in own:
                own[other] = None
                todo.append(other)
    return sorted(own, key=lambda n: n.column), list(others)


def as_json(answer: Answer) -> str:
    """The graph as JSON (docs/lineage.md)."""
    tree = {
        "name": answer.name,
        "direction": answer.direction,
        "asked": [node.id for node in answer.asked],
        "nodes": [
            {
                "id": n.id, "kind": n.kind, "table": n.table, "column": n.column,
                "type": n.type, "note": n.note,
            }
            for n in answer.nodes
        ],
        "edges": [{"from": source.id, "to": target.id} for source, target in answer.edges],
    }  # fmt: skip
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def as_dot(answer: Answer) -> str:
    """The graph for Graphviz: `etl lineage … --dot | dot -Tsvg`."""
    lines = ["digraph lineage {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    lines += [f"  {_quote(n.id)} [label={_quote(name_node(n))}];" for n in answer.nodes]
    lines += [f"  {_quote(a.id)} -> {_quote(b.id)};" for a, b in answer.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quote(text: str) -> str:
    # In DOT a backslash starts an escape of its own (\n, \N); only \" and \\ are what they say.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
