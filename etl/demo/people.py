"""The accounts of the replay: a number and a day make a `profileView` of the lexicon."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from etl.demo.dice import Dice, base32

Profile = dict[str, object]

FIRST_GUEST: Final = 10_000
"""Accounts below are permanent; from here on they are numbered by the day they first follow."""
GUESTS_PER_DAY: Final = 16
HANDLE_DAYS: Final = 120
"""Every account changes its handle once in so many days (its DID stays)."""
NAME_DAYS: Final = 90
"""Every account with a display name changes it once in so many days."""

_OPENING: Final = date(2022, 11, 17).toordinal()
_MODERATION: Final = "did:plc:ar7c4by46qjdydhdevvrndac"
_LABELS: Final = ("!no-unauthenticated", "spam", "porn", "sexual", "rude", "bot", "schach-♟")
_PIECES: Final = ("pawn", "knight", "bishop", "rook", "queen", "king", "gambit", "fork", "pin")
_DOMAINS: Final = ("bsky.social", "bsky.social", "bsky.social", "example.com", "schach.example")
_NAMES: Final = (
    "Magnus ♟️",
    "🏳️‍🌈 Queen's Gambit 👩🏽‍💻",
    "شطرنج العرب",
    "שחמט ישראל ♞",
    "国际象棋爱好者",
    "チェス好き",
    "체스 기사",
    "Zoe\u0308 Nu\u0301n\u0303ez",
    "Ян Непо",
    'Robert "Bobby" F.',
    "O'Brien; DROP TABLE users;--",
    "NULL",
    "  spaces  ",
    "Ḽơᶉëᶆ ȋṕšᶙṁ",
    "1e5",
    "e4 e5 Nf3",
)
_TEXTS: Final = (
    "He said \"checkmate\".\nShe said 'en passant'.\r\n\tTabs, too.",
    "لاعب شطرنج من القاهرة ♟️\nأحب الافتتاحيات",
    "שחקן שחמט מתל אביב — rapid 1900",
    "将棋とチェス。対局募集中。\n毎週土曜日",
    "Backslash \\ slash / percent % <b>no html</b> &amp; {json: [1, 2]}",
    "GM 👨‍👩‍👧‍👦 dad of two 🇳🇴",
    "cafe\u0301 chess club, Sa\u0303o Paulo",
    "null",
    "a,b;c|d\n\n\n",
    "Plays the London. Sorry.",
)


def did(person: int) -> str:
    """The account's DID, `did:plc:` and 24 base32 characters; it never changes."""
    return f"did:plc:{base32(f'did:{person}', 24)}"


def handle(person: int, day: date) -> str:
    """The handle the account bears on `day`; some accounts bear `handle.invalid` for ever."""
    if person % 500 == 350:
        return "handle.invalid"
    dice = Dice(f"handle:{person}")
    version = (day.toordinal() + person * 37) // HANDLE_DAYS
    first = _PIECES[(dice.roll(len(_PIECES)) + version) % len(_PIECES)]
    return f"{first}-{dice.pick(_PIECES)}-{person:x}.{dice.pick(_DOMAINS)}"


def profile(person: int, day: date) -> Profile:
    """The account as the API shows it on `day`: optional fields are there or not, as they fall."""
    dice = Dice(f"profile:{person}")
    own, today = did(person), day.toordinal()
    created = _created(person, dice)
    renamed = today - (today + person * 7) % NAME_DAYS
    row: Profile = {"did": own, "handle": handle(person, day)}
    if dice.chance(80):
        version = (today + person * 7) // NAME_DAYS
        name = _NAMES[(dice.roll(len(_NAMES)) + version) % len(_NAMES)]
        row["displayName"] = "" if dice.chance(8) else name
    if dice.chance(75):
        cid = base32(f"avatar:{person}", 52)
        row["avatar"] = f"https://cdn.bsky.app/img/avatar/plain/{own}/bafkrei{cid}"
    if dice.chance(40):
        row["associated"] = _associated(dice)
    if dice.chance(90):
        row["viewer"] = {"muted": False, "blockedBy": False}
    if dice.chance(90):
        row["labels"] = [_label(person, number, dice) for number in range(_label_count(dice))]
    if dice.chance(92):
        row["createdAt"] = _instant(created, dice)
    if dice.chance(65):
        row["description"] = "" if dice.chance(5) else dice.pick(_TEXTS)
    row["indexedAt"] = _instant(max(created, renamed), dice, precise=False)
    if dice.chance(3):
        row["verification"] = _verification(person, dice)
    return row


def subject(actor: str) -> Profile:
    """The profile of an actor whose lists the replay serves; the same on every day."""
    return {
        "did": f"did:plc:{base32(f'actor:{actor}', 24)}",
        "handle": actor,
        "displayName": actor.partition(".")[0].capitalize(),
        "associated": {"chat": {"allowIncoming": "none"}},
        "labels": [],
        "createdAt": "2023-04-28T14:36:54.531Z",
        "description": f'The account of {actor} in the replay.\n"Made up", every follower of it.',
        "indexedAt": "2025-01-20T11:02:51.206Z",
    }


def _created(person: int, dice: Dice) -> int:
    """The ordinal of the day on which the account was made, before it follows anyone."""
    if person < FIRST_GUEST:
        return _OPENING + dice.roll(700)
    return (person - FIRST_GUEST) // GUESTS_PER_DAY - dice.roll(900)


def _instant(ordinal: int, dice: Dice, *, precise: bool = True) -> str:
    """An instant of that day in one of the notations that the network carries."""
    midnight = datetime.combine(date.fromordinal(ordinal), datetime.min.time(), tzinfo=UTC)
    at = midnight + timedelta(milliseconds=dice.roll(86_400_000))
    notation = dice.roll(10) if precise else 9
    if notation == 0:
        return at.isoformat(timespec="microseconds")
    if notation == 1:
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _associated(dice: Dice) -> Profile:
    row: Profile = {}
    if dice.chance(30):
        row |= {"lists": dice.roll(9), "feedgens": dice.roll(4), "labeler": dice.chance(10)}
    if dice.chance(85):
        row["chat"] = {"allowIncoming": dice.pick(("all", "none", "following"))}
    if dice.chance(50):
        allowed = dice.pick(("followers", "mutuals", "none"))
        row["activitySubscription"] = {"allowSubscriptions": allowed}
    return row


def _label_count(dice: Dice) -> int:
    drawn = dice.roll(20)
    return 2 if drawn == 0 else 1 if drawn < 5 else 0


def _label(person: int, number: int, dice: Dice) -> Profile:
    own = did(person)
    by_self = number == 0
    row: Profile = {"src": own if by_self else _MODERATION, "val": dice.pick(_LABELS)}
    row["uri"] = f"at://{own}/app.bsky.actor.profile/self" if by_self else own
    if by_self:
        row["cid"] = f"bafyrei{base32(f'label:{person}', 52)}"
    if dice.chance(5):
        row["neg"] = True
    row["cts"] = (
        f"2024-{1 + dice.roll(12):02}-{1 + dice.roll(28):02}T10:00:00.{dice.roll(1000):03}Z"
    )
    return row


def _verification(person: int, dice: Dice) -> Profile:
    issuer = "did:plc:z72i7hdynmk6r22z27h6tvur"
    view = {
        "issuer": issuer,
        "uri": f"at://{issuer}/app.bsky.graph.verification/3l{base32(f'tid:{person}', 11)}",
        "isValid": True,
        "createdAt": "2025-04-21T10:48:23.044Z",
    }
    return {
        "verifications": [view] if dice.chance(80) else [],
        "verifiedStatus": dice.pick(("valid", "none")),
        "trustedVerifierStatus": "none",
    }
