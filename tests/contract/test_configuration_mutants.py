"""Whatever stands in a configuration file: the code is 0 or 2 and no traceback is shown."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.cli import main
from etl.configuration import load_settings
from etl.errors import ConfigError
from etl.libraries import prepare_libraries

ROOT = Path(__file__).parents[2]
BASE = (ROOT / "config" / "etl.yaml").read_text(encoding="utf-8")
TREE = yaml.safe_load(BASE)
SEEDS = 500
# So many sources of accepted ones are built with dlt, too.
BUILT = 40

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, -(10**30), 1.5, 1e308, float("inf"), float("nan"),
    "", " ", "x", "chess.com", "{actor}", "{", "}", "{}", "{nosuch}", "{resources.a.b}", "a.b.c",
    "\u202e\u2066abc", "🦋" * 50, "ß\u0301", "\x85", "a\tb\nc", "$[", "$.a[?(@.b>1)]", "::", "//",
    "http://[::1", "https://u:p@h/", "\ufeff", "x" * 20_000, "\\", "'\"`", "%s%n", "../..", "/",
    date(2026, 1, 2), [], {}, [[]], [{}], {"": ""}, ["a", 1, None], {"a": {"b": {"c": []}}},
    {1: 2}, {None: 3}, {True: 1}, [[[[[[[[[[1]]]]]]]]]], "offset", "page_number", "header_link",
    {"type": "cursor"}, {"type": "nosuch"}, {"type": "offset", "limit": "many"}, "json_link",
    {"type": "bearer", "token": "t"}, {"type": "api_key"}, {"type": "nosuch"}, "etl.nosuch:f",
    "builtins:list", "os:nosuch", "json:dumps", "append", "merge", "upsert", "replace", "skip",
]  # fmt: skip
KEYS = [
    "", " ", "x", "Sources", "sources", "client", "auth", "headers", "paginator", "base_url",
    "resource_defaults", "data_selector", "params", "path", "endpoint", "name", "factory",
    "arguments", "schema_contract", "include_from_parent", "processing_steps", "incremental",
    "table_name", "primary_key", "columns", "selected", "parallelized", "response_actions", "json",
    "method", "max_table_nesting", "🦋", "\u202e", "a.b", "a__b", "__", "1", "project", "profile",
    "session", "write_disposition", "<<", "=", "for_each", "stamp", "volume", "guards", "demo",
]  # fmt: skip
Tree = Any
Mutation = Callable[[random.Random, Tree], None]


def places(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def rename(dice: random.Random, tree: Tree) -> None:
    node, key = dice.choice([p for p in places(tree) if isinstance(p[0], dict)])
    text = str(key)
    i = dice.randrange(len(text) + 1)
    wrong = [text[:i] + dice.choice("xA_-. é🦋") + text[i + 1 :], text.upper(), dice.choice(KEYS)]
    node[dice.choice(wrong)] = node.pop(key)


def delete(dice: random.Random, tree: Tree) -> None:
    node, key = dice.choice(list(places(tree)))
    del node[key]


def duplicate(dice: random.Random, tree: Tree) -> None:
    node, key = dice.choice(list(places(tree)))
    value = copy.deepcopy(node[key])
    if isinstance(node, list):
        node.insert(key, value)
    else:
        node[dice.choice(KEYS)] = value


def replace(dice: random.Random, tree: Tree) -> None:
    node, key = dice.choice(list(places(tree)))
    node[key] = copy.deepcopy(dice.choice(VALUES))


def add(dice: random.Random, tree: Tree) -> None:
    node, _ = dice.choice([p for p in places(tree) if isinstance(p[0], dict)])
    node[dice.choice(KEYS)] = copy.deepcopy(dice.choice(VALUES))


def swap(dice: random.Random, tree: Tree) -> None:
    (a, i), (b, j) = dice.choices(list(places(tree)), k=2)
    a[i], b[j] = copy.deepcopy(b[j]), copy.deepcopy(a[i])


def listed(dice: random.Random, tree: Tree) -> None:
    """A list for a mapping, a mapping for a list, a value for either."""
    node, key = dice.choice([p for p in places(tree) if isinstance(p[0][p[1]], dict | list)])
    value = node[key]
    node[key] = (
        dice.choice([list(value.items()), list(value), str(value)])
        if isinstance(value, dict)
        else dice.choice([dict(enumerate(value)), {str(x): x for x in value}, str(value)])
    )


def nest(dice: random.Random, tree: Tree) -> None:
    node, key = dice.choice(list(places(tree)))
    value = node[key]
    for _ in range(dice.choice([1, 5, 39, 60, 150])):
        value = [value] if dice.random() < 0.5 else {"a": value}
    node[key] = value


MUTATIONS: list[Mutation] = [rename, delete, duplicate, replace, replace, add, swap, listed, nest]


def breaks(dice: random.Random, raw: bytes) -> bytes:
    """Changes to the bytes of the file: YAML that is none."""
    i = dice.randrange(len(raw))
    signs = [
        b"\t", b"\0", b"\xff", b"\xe9", b"*", b"&a ", b"!x ", b"!!python/object:os.system ", b"%",
        b"@", b"`", b"{", b"[", b"]", b"}", b": ", b"- ", b"? ", b"| ", b'"', b"'", b"<<: *a\n",
        b"&a [*a]", b"\n---\n", b"\n...\n", b"\xc2\x85", b"\xe2\x80\xa8", b"#", b"\x1b", b"\r",
        b'"\\ud800"', b"!!set {a}", b"!!binary x", b"2026-99-99", b"0x", b"1:60:99",
        b"!!timestamp 2026", b"!!omap [a: 1]", b"!!int x", b"'\\0'", b"9" * 5000,
    ]  # fmt: skip
    choice = dice.randrange(9)
    if choice < 5:
        return raw[:i] + dice.choice(signs) + raw[i:]
    whole = [
        raw[:i], raw[i:], b"", b"\xef\xbb\xbf" + raw, raw.decode().encode("utf-16"),
        raw.replace(b"chess.com", "Schachbl\u00e4tter".encode("latin-1")), b"null\n", b"[]\n",
        b"just text\n", b"\0", b"# only a comment\n", b"a: &a\n  b: *a\n", raw + b"job: again\n",
        raw + b"\nlog: &l {level: INFO}\nretry: *l\n", raw.replace(b"  ", b"\t"),
        b"a: " + b"[" * 1000, b"{" * 500 + b"}" * 500, raw.replace(b"\n", b"\r"), b"---\n" * 3,
    ]  # fmt: skip
    return dice.choice(whole)


def mutant(seed: int) -> bytes:
    """The seed's configuration; the same for ever."""
    dice = random.Random(seed)
    if seed % 4 == 0:
        return breaks(dice, BASE.encode())
    tree = copy.deepcopy(TREE)
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if tree:
            try:
                dice.choice(MUTATIONS)(dice, tree)
            except (IndexError, KeyError, TypeError, ValueError, AttributeError):
                continue  # an earlier change took the place away
    text = yaml.safe_dump(tree, allow_unicode=dice.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def write(folder: Path, raw: bytes) -> Path:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "etl.yaml").write_bytes(raw)
    return folder


def test_every_mutant_is_shown_or_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {0: 0, 2: 0}
    for seed in range(SEEDS):
        code = main(["config", "show", "--project", str(write(tmp_path, mutant(seed)))])
        out = capsys.readouterr()
        assert code in codes, f"seed {seed}: {out.err}"
        assert "Traceback" not in out.out + out.err, f"seed {seed}"
        if code:
            assert out.out == "", f"seed {seed}"
            lines = out.err.splitlines()
            assert lines[0].startswith("etl: "), f"seed {seed}"
            assert all(x.startswith("  ") for x in lines[1:]), f"seed {seed}: {out.err}"
        else:
            yaml.load(out.out, yaml.CSafeLoader)
        codes[code] += 1
    # Neither all refused nor all let through: the mutations do something.
    assert min(codes.values()) > SEEDS / 20, codes


def test_every_accepted_mutant_builds_its_sources_or_explains_itself(tmp_path: Path) -> None:
    prepare_libraries()
    from dlt.extract import DltSource

    from etl.sources.build import build_source
    from etl.sources.monitor import Monitor

    built = refused = 0
    for seed in range(10_000, 20_000):
        if built + refused >= BUILT:
            break
        try:
            settings = load_settings(write(tmp_path, mutant(seed)))
        except ConfigError:
            continue
        for name, source in settings.active_sources.items():
            try:
                made, _ = build_source(
                    Monitor(name, source),
                    project=tmp_path,
                    snapshot_date=date(2026, 1, 2),
                    wait=lambda seconds: None,
                )
            except ConfigError:
                refused += 1
            except Exception as e:
                raise AssertionError(f"seed {seed}: {type(e).__name__}: {e}") from e
            else:
                assert isinstance(made, DltSource)
                built += 1
    assert built > BUILT / 4
    assert refused > 0
