"""What the owner of a job does to it between runs: settings, models, runs of a part."""

from __future__ import annotations

from tests.soak.api import ORDER
from tests.soak.project import (
    DISPOSITIONS,
    EDITED,
    MARTS,
    SHOP,
    TARGETS,
    model_file,
    write_model,
)  # fmt: skip
from tests.soak.world import World


def edit_model(world: World) -> str:
    """A mart gets another kind, or a column, or loses it."""
    name = world.rng.choice([mart for mart in EDITED if mart in world.settings.marts])
    file = model_file(world.folder, name)
    text = file.read_text(encoding="utf-8")
    if world.rng.random() < 0.4:
        by_key = f"INCREMENTAL_BY_UNIQUE_KEY (unique_key {EDITED[name]})"
        # A merge by key keeps rows that left, as those of `rates` may.
        kinds = [
            f"kind {kind}," for kind in ("FULL", "VIEW", by_key)[: 2 if name == "rates" else 3]
        ]
        said = world.rng.choice(kinds)
        new = text.replace(next((kind for kind in kinds if kind in text), said), said)
    elif ", 1 AS one" in text:
        said, new = "without one", text.replace(", 1 AS one", "")
    else:
        said, new = "with one", text.replace("\nFROM ", ", 1 AS one\nFROM ", 1)
    file.write_text(new, encoding="utf-8")
    return f"{name}: {said}"


def fail_audit(world: World) -> str:
    name = world.rng.choice([mart for mart in EDITED if mart in world.settings.marts])
    file = model_file(world.folder, name)
    text = file.read_text(encoding="utf-8")
    audit = f", audits (forall(criteria := ({EDITED[name]} IS NULL))));"
    file.write_text(text.replace(");\n", f"{audit}\n", 1), encoding="utf-8")
    world.api.change(10)
    code = world.etl("run", codes={3})
    file.write_text(text, encoding="utf-8")
    again = world.etl("retry", codes={0})
    world.check()
    return f"{name}: {code}, {again}"


def change_mart(world: World) -> str:
    """A mart is deleted, or made again."""
    without = world.settings.without
    mart = _toggle(world, without, ["events", "prices", "rates"])
    if mart in without:
        model_file(world.folder, mart).unlink()
    else:
        write_model(world.folder, mart)
    return f"{mart}: {'deleted' if mart in without else 'made again'}"


def change_load(world: World) -> str:
    """Its strategy, its table, its columns."""
    mart, settings = world.rng.choice(sorted(MARTS)), world.settings
    settings.strategies[mart] = world.rng.choice(["replace", "merge", "append_once"])
    settings.tables[mart] = world.rng.choice([mart, mart, f"x_{mart}"])
    settings.columns ^= {mart} if world.rng.random() < 0.3 else set()
    world.configure()
    shown = "key" if mart in settings.columns else "all"
    return f"{mart}: {settings.strategies[mart]}, {settings.tables[mart]}, {shown}"


def change_targets(world: World) -> str:
    """One is removed, or added again."""
    away = TARGETS.keys() - world.settings.targets
    _toggle(world, away, sorted(TARGETS))
    world.settings.targets = TARGETS.keys() - away
    world.configure()
    return f"{sorted(world.settings.targets)}"


def change_resources(world: World) -> str:
    """A resource, region or source is read no more, or again."""
    unread = world.settings.unread
    _toggle(world, unread, ["a", "c", "details", "events", "orders", "people", "shop"])
    world.api.change(5)
    return f"without {sorted(unread)}: {world.follow_hints()}"


def change_disposition(world: World) -> str:
    """Tables that cannot take it on where they stand are made anew."""
    name = world.rng.choice(sorted(DISPOSITIONS))
    world.settings.dispositions[name] = how = world.rng.choice(DISPOSITIONS[name])
    world.configure()
    world.api.change(5)
    return f"{name}: {how}: {world.follow_hints()}"


def freeze(world: World) -> str:
    """A new field breaks the schema contract until somebody allows it."""
    settings = world.settings
    settings.contract = "freeze"
    world.configure()
    said = world.api.add_field()
    world.api.change(10)
    code = world.etl("run", codes={0, 10})
    settings.contract = "evolve"
    world.configure()
    return f"{said}: {code}, {world.run()}"


def approve(world: World) -> str:
    """A change of a model waits for a person."""
    world.run()
    settings = world.settings
    settings.approve = world.rng.choice(["manual", "additive"])
    world.configure()
    said = edit_model(world)
    world.api.change(5)
    codes = [world.etl("run", codes={0, 11})]
    if codes[0]:
        codes += [world.etl("plan", "--apply", codes={0}), world.etl("retry", codes={0})]
    world.check()
    said = f"{settings.approve}, {said}: {codes}"
    settings.approve = "auto"
    world.configure()
    return said


def part(world: World) -> str:
    """What a run was asked for is as the API has it."""
    world.api.change(5)
    resources, arguments = world.rng.choice([
        (SHOP, ("--source", "shop")),
        (ORDER.keys() - SHOP, ("--source", "api")),
        (SHOP, ("--full-refresh", "--source", "shop")),
        ({"prices"}, ("--select", "marts.dim_api__people", "--select", "marts.prices")),
        ({"people"}, ("--select", "staging.stg_api__people+")),
        ({"logs"}, ("--full-refresh", "--select", "staging.stg_shop__logs+")),
        (set(), ("--stage", "transform", "--full-refresh", "--select", "staging.stg_api__*")),
        (set(), ("--stage", "transform", "--start", "2026-01-01")),
        (set(), ("--environment", "dev", "--stage", "transform", "--stage", "audit")),
    ])  # fmt: skip
    code = world.etl("run", *arguments, codes={0, 2, 3, 12})
    if code == 0:
        world.check(resources)
    return f"{' '.join(arguments)}: {code}"


def ask(world: World) -> str:
    """Commands that look, and one that builds what it shows."""
    arguments = world.rng.choice([
        ("status",), ("doctor",), ("lineage", "marts.events"), ("config", "show"), ("plan",),
        ("plan", "--apply"), ("run", "--dry-run"), ("generate", "--check"), ("status", "--json"),
    ])  # fmt: skip
    code = world.etl(*arguments, codes={*range(15)} - {1})
    return f"{' '.join(arguments)}: {code}"


def _toggle(world: World, chosen: set[str], among: list[str]) -> str:
    """Add one, or take one away: rather that, or what is away would be ever more."""
    away = sorted(chosen) if world.rng.random() < 0.6 else []
    name = world.rng.choice(away or among)
    chosen ^= {name}
    world.configure()
    return name
