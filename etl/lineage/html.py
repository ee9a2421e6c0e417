"""A lineage as one HTML page that needs nothing else: an SVG, and a few lines to click through."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from etl.lineage.answer import Answer, Node
from etl.lineage.text import name_node

Table = tuple[str, str]  # kind, name
LINE, CHAR, GAP_X, GAP_Y, PAD = 20, 7.7, 70, 24, 10


def as_html(answer: Answer) -> str:
    """The page. Every name in it is escaped, and its policy forbids it to load anything."""
    boxes = _group(answer)
    layers = _find_layers(answer, list(boxes))
    parts, places = [], dict[Node, tuple[float, float, float]]()
    x, height = float(PAD), 0.0
    for layer in layers:
        width = max(_width(table, boxes[table]) for table in layer)
        y = float(PAD)
        for table in layer:
            parts.append(_draw_box(table, boxes[table], x, y, width))
            for n, node in enumerate(boxes[table], 1):
                places[node] = (x, x + width, y + n * LINE + LINE / 2)
            y += (len(boxes[table]) + 1) * LINE + GAP_Y
        x, height = x + width + GAP_X, max(height, y)
    ids = {node: f"n{n}" for n, node in enumerate(answer.nodes)}
    edges = [_draw_edge(places[a], places[b], ids[a], ids[b]) for a, b in answer.edges]
    rows = [_draw_row(node, places[node], ids[node], node in answer.asked) for node in places]
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(f"{answer.name}, {answer.direction}"),
        width=f"{x:.0f}",
        height=f"{height:.0f}",
        svg="\n".join([*edges, *parts, *rows]),
    )


def _group(answer: Answer) -> dict[Table, list[Node]]:
    boxes: dict[Table, list[Node]] = {}
    for node in answer.nodes:
        boxes.setdefault((node.kind, node.table), []).append(node)
    return boxes


def _find_layers(answer: Answer, tables: list[Table]) -> list[list[Table]]:
    """Tables from left to right, each to the right of all that it is made of."""
    above: dict[Table, set[Table]] = {table: set() for table in tables}
    for source, target in answer.edges:
        above[(target.kind, target.table)].add((source.kind, source.table))
    depth: dict[Table, int] = {}
    while len(depth) < len(tables):
        ready = [t for t in tables if t not in depth and above[t] - {t} <= depth.keys()]
        # A ring of tables has no first one: SQLMesh allows none, but a page must not hang on it.
        for table in ready or [next(t for t in tables if t not in depth)]:
            depth[table] = 1 + max((depth.get(a, -1) for a in above[table] - {table}), default=-1)
    layers: dict[int, list[Table]] = {}
    for table in tables:
        layers.setdefault(depth[table], []).append(table)
    return [layers[d] for d in sorted(layers)]


def _label(node: Node) -> str:
    named = {"*": "rows", "?": "? (cannot be told)"}
    text = named.get(node.column, node.column) if node.kind != "api" else node.column
    return f"{text} {node.type}".strip()


def _width(table: Table, nodes: list[Node]) -> float:
    return 2 * PAD + CHAR * max(len(table[1]), *(len(_label(n)) for n in nodes))


def _draw_box(table: Table, nodes: list[Node], x: float, y: float, width: float) -> str:
    kind, name = table
    height = (len(nodes) + 1) * LINE
    return (
        f'<g class="{kind}"><rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height}" '
        f'rx="4"/><text class="table" x="{x + PAD:.0f}" y="{y + 14:.0f}">{escape(name)}'
        f"<title>{kind}</title></text></g>"
    )


def _draw_row(node: Node, place: tuple[float, float, float], key: str, is_asked: bool) -> str:
    left, right, y = place
    style = "column asked" if is_asked else "column"
    return (
        f'<g class="{style}" id="{key}" tabindex="0"><rect x="{left:.0f}" y="{y - LINE / 2:.0f}" '
        f'width="{right - left:.0f}" height="{LINE}"/><text x="{left + PAD:.0f}" y="{y + 4:.0f}">'
        f"{escape(_label(node))}<title>{escape(name_node(node))}</title></text></g>"
    )


def _draw_edge(
    a: tuple[float, float, float], b: tuple[float, float, float], start: str, end: str
) -> str:
    (_, x1, y1), (x2, _, y2) = a, b
    bend = max(40.0, (x2 - x1) / 2)
    return (
        f'<path data-from="{start}" data-to="{end}" d="M{x1:.0f},{y1:.0f} '
        f'C{x1 + bend:.0f},{y1:.0f} {x2 - bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"/>'
    )
