"""What SQL Server's errors mean: by the server's own error number and by SQLSTATE, never by text.

pyodbc hands over the SQLSTATE and a text; the number is what pyodbc itself adds to that text, in
brackets at the end of each of its messages.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    LoadError,
    ResourcesError,
    UnreachableError,
)
from etl.targets.server.refusals import CORRECT

if TYPE_CHECKING:
    import pyodbc

_NUMBER = re.compile(r"\((-?\d+)\) \(SQL\w+\)")
_SOURCE = re.compile(r"^(\[[^\]]*\]\s*)+")
_LOG_IN = "check user and password in the target's `dsn`, and that the log-in is enabled"
_DATABASE = "create the database and let the log-in in, or correct the `dsn`"
_GRANT = "grant the log-in what docs/sqlserver.md lists"
_AGAIN = "another session was in the way: run again"
_BUSY = "the server has no resources left for this: run again later"
_NAMES = (
    "two columns have one name to the server: give the one there the mart's upper and lower case "
    "(sp_rename); or the mart has an `etl_version` of its own, which needs another name"
)
_DISK = "free disk, log or memory at the server"
_ADDRESS = (
    "check host, port and certificate in the target's `dsn` (docs/sqlserver.md: Encrypt, "
    "TrustServerCertificate)"
)

# learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors
# The first that is among an error's numbers decides: a failed log-in may have a reason beside it.
_NUMBERS: dict[int, tuple[type[EtlError], str]] = {
    **dict.fromkeys((4060, 911), (ConfigError, _DATABASE)),
    **dict.fromkeys((18452, 18456, 18470, 18486, 18487, 18488), (AuthError, _LOG_IN)),
    **dict.fromkeys(
        (229, 230, 262, 297, 300, 916, 1088, 2760, 4902, 15151, 15247), (AuthError, _GRANT)
    ),
    # 2714: a table or schema is made where there was none; two first loads at once.
    **dict.fromkeys((1205, 1222, 2714, 3960, 3961), (UnreachableError, _AGAIN)),
    **dict.fromkeys(
        (8645, 8651, 10928, 10929, 40197, 40501, 40613, 49918, 49919, 49920, 596, 6005, 17809),
        (UnreachableError, _BUSY),
    ),
    # A column is added that the table has in another case.
    2705: (LoadError, _NAMES),
    **dict.fromkeys((701, 802, 1101, 1105, 9002, 3257, 5149, 40544), (ResourcesError, _DISK)),
}  # fmt: skip
_STATES: tuple[tuple[str, type[EtlError], str], ...] = (
    ("28", AuthError, _LOG_IN),
    ("08", UnreachableError, _ADDRESS),
    ("HYT", UnreachableError, _ADDRESS),
    ("40", UnreachableError, _AGAIN),
)
# A value or a row is refused: NULL, duplicate key, foreign key or check, too long, out of range.
_OF_ROWS = {515, 2601, 2627, 547, 2628, 8152, 220, 232, 8115, 1946}
# Types that do not go together, or a text that is no value of the other type.
_OF_TYPES = {206, 207, 241, 242, 245, 257, 260, 295, 402, 468, 529, 8114, 8116, 8169, 9420}
# Their messages quote values of columns that are no keys.
_OWN_WORDS = {
    2628: "the text is too long for the column",
    8152: "the text is too long for the column",
    220: "the number is too large for the column",
    232: "the number is too large for the column",
    245: "the text is no value of the column's type",
    8114: "the value is none of the column's type",
}
# A duplicate's message names the index, and quotes its values in brackets.
_OF_DUPLICATES = {2601, 2627}
_QUOTED = re.compile(r"\(.*\)", re.DOTALL)


def state_of(error: pyodbc.Error) -> str:
    """The SQLSTATE; empty when the error has none."""
    return str(error.args[0]) if len(error.args) > 1 else ""


def numbers_of(error: pyodbc.Error) -> list[int]:
    """The server's numbers of all messages of an error, the first message first."""
    return [int(n) for n in _NUMBER.findall(str(error.args[-1]) if error.args else "")]


def is_of_rows(error: pyodbc.Error) -> bool:
    """True when some row's values are refused, not the statement as such."""
    return bool(_OF_ROWS & set(numbers_of(error)))


def is_of_types(error: pyodbc.Error) -> bool:
    """True when two types do not go together; the server may have ended the transaction by it."""
    return bool(_OF_TYPES & set(numbers_of(error)))


def words_of(error: pyodbc.Error) -> str:
    """The first message with its number, without the names of drivers."""
    text = str(error.args[-1]) if error.args else type(error).__name__
    numbers = numbers_of(error)
    first = _NUMBER.split(text)[0].strip()
    said = next((_OWN_WORDS[n] for n in numbers if n in _OWN_WORDS), _SOURCE.sub("", first))
    if _OF_DUPLICATES & set(numbers):
        said = _QUOTED.sub("(...)", said)
    tag = next((str(n) for n in numbers if n > 0), state_of(error))
    return f"{said} ({tag})" if tag else said


def classify(error: pyodbc.Error, target: str, doing: str) -> EtlError:
    """Our error for one of the server's, or of the driver's."""
    message = f"{doing} at target {target} failed: {words_of(error)}"
    numbers = set(numbers_of(error))
    for number, (kind, hint) in _NUMBERS.items():
        if number in numbers:
            return kind(message, subject=target, hint=hint)
    state = state_of(error)
    for prefix, kind, hint in _STATES:
        if state.startswith(prefix):
            return kind(message, subject=target, hint=hint)
    return LoadError(message, subject=target, hint=CORRECT)
