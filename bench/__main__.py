"""`python -m bench [NAME …]`: runs the benchmarks; without a name it lists them."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path


def benchmarks() -> dict[str, str]:
    """Every module with a `main`, and the first line of what it says of itself."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "main" in names and not path.name.startswith("_"):
            found[path.stem] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def run(arguments: list[str]) -> int:
    """Run the named benchmark with the options that follow its name."""
    known = benchmarks()
    if not arguments or arguments[0] not in known:
        print("usage: python -m bench NAME [OPTION ...]\n")
        for name, text in known.items():
            print(f"  {name:<10} {text}")
        return 2 if arguments else 0
    sys.argv = [f"python -m bench {arguments[0]}", *arguments[1:]]
    return importlib.import_module(f"bench.{arguments[0]}").main() or 0


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
