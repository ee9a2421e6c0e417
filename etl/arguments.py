"""argparse as our options need it: a variable behind each, what is wrong told in a line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etl.errors import ConfigError, ExitCode

SWITCH = {
    "1": True, "true": True, "yes": True, "y": True, "on": True,
    "": False, "0": False, "false": False, "no": False, "n": False, "off": False,
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """argparse with a variable behind each option; a usage error is one line and code 2."""

    def __init__(self, env: Mapping[str, str], **more: Any) -> None:
        # An abbreviation that works today is ambiguous once an option is added.
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **more
        )
        self._env = env

    def error(self, message: str) -> Any:
        """Say what is wrong and where the options are listed."""
        self.exit(int(ExitCode.CONFIG), f"etl: {message}\n     → {self.prog} --help\n")

    def options(self) -> list[str]:
        """Every option that the command takes."""
        return [option for action in self._actions for option in action.option_strings]

    def add_option(
        self, option: str, metavar: str, text: str, usual: str | None = None, **more: Any
    ) -> None:
        """An option with a value; `usual` is it where neither option nor variable is given.

        Raises:
            ConfigError: the variable holds none of the `choices`.
        """
        value = self._env.get(_variable(option)) or usual
        _check(option, [value] if value else [], more.get("choices"))
        self.add_argument(option, metavar=metavar, help=text, default=value, **more)

    def add_list(
        self,
        option: str,
        metavar: str | None,
        text: str,
        separator: str | None = ",",
        choices: Sequence[str] | None = None,
    ) -> None:
        """An option that can be given more than once; its variable has all values.

        Raises:
            ConfigError: the variable holds none of the `choices`.
        """
        given = self._env.get(_variable(option), "").split(separator)
        values = [x.strip() for x in given if x.strip()]
        _check(option, values, choices)
        self.add_argument(
            option, action=_Append, metavar=metavar, help=text, default=values, choices=choices
        )

    def add_switch(self, option: str, text: str) -> None:
        """A switch that its variable can turn on.

        Raises:
            ConfigError: the variable says neither yes nor no.
        """
        self.add_argument(option, action="store_true", default=self._is_on(option), help=text)

    def add_one_of(self, options: Mapping[str, str]) -> None:
        """Switches of which one at most is on.

        Raises:
            ConfigError: the variables turn several on.
        """
        group = self.add_mutually_exclusive_group()
        names = tuple(option.strip("-") for option in options)
        on = [option for option in options if self._is_on(option)]
        if len(on) > 1:
            raise ConfigError(f"{' and '.join(_variable(o) for o in on)}: only one can be on")
        for option, text in options.items():
            group.add_argument(
                option, action=_Choose, nargs=0, const=names, default=option in on, help=text
            )

    def _is_on(self, option: str) -> bool:
        value = self._env.get(_variable(option), "")
        if value.strip().lower() not in SWITCH:
            # Taken for "no", a mistyped ETL_DRY_RUN would start a real run.
            raise ConfigError(
                f"{_variable(option)}={value}: is no switch", hint="write true or false"
            )
        return SWITCH[value.strip().lower()]


def _variable(option: str) -> str:
    return "ETL_" + option.strip("-").replace("-", "_").upper()


def _check(option: str, values: Iterable[str], choices: Sequence[str] | None) -> None:
    for value in values:
        if choices and value not in choices:
            raise ConfigError(
                f"{_variable(option)}: no such {option.strip('-')}: {value}",
                hint=", ".join(choices),
            )


class _Append(argparse.Action):
    """Collects values; the first one on the command line displaces the variable's."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(() if before is self.default else before), values])


class _Choose(argparse.Action):
    """Turns a switch on, and off what a variable turned on of those that exclude it."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, *_: Any) -> None:
        for name in self.const:
            setattr(namespace, name, name == self.dest)


class Version(argparse.Action):
    """--version; the installed metadata is read when it is asked for."""

    def __call__(self, parser: Any, *_: Any) -> None:
        from importlib import metadata

        try:
            text = f"etl {metadata.version('etl-job')}"
        except metadata.PackageNotFoundError:
            text = "etl, not installed"
        sys.stdout.write(text + "\n")
        parser.exit()


def seconds(text: str) -> float:
    """An option's value: how long to wait."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def count(text: str) -> int:
    """An option's value: how many runs."""
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs")
    return int(text)


def environment_name(text: str) -> str:
    """An option's value: the name of a SQLMesh environment."""
    if not text.replace("_", "").isalnum() or not text.isascii() or text != text.lower():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: lower-case letters, digits and _ only"
        )
    return text
