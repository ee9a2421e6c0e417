"""What things are called in the shop: countries with their money, products, people, firms."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final


@dataclass(frozen=True)
class Country:
    """`rate` is about how many EUR one unit of the currency is worth."""

    code: str
    name: str
    currency: str
    rate: Decimal


def _countries(*lines: str) -> tuple[Country, ...]:
    parts = [line.split(":") for line in lines]
    return tuple(Country(code, name, money, Decimal(rate)) for code, name, money, rate in parts)


COUNTRIES: Final = _countries(
    "DE:Deutschland:EUR:1",
    "AT:Österreich:EUR:1",
    "FR:France:EUR:1",
    "ES:España:EUR:1",
    "GR:Ελλάδα:EUR:1",
    "FI:Suomi:EUR:1",
    "CI:Côte d'Ivoire:XOF:0.00152",
    "GB:United Kingdom:GBP:1.17",
    "CH:Schweiz / Suisse:CHF:1.06",
    "NO:Norge:NOK:0.086",
    "SE:Sverige:SEK:0.089",
    "DK:Danmark:DKK:0.134",
    "IS:Ísland:ISK:0.0067",
    "PL:Polska:PLN:0.234",
    "CZ:Česko:CZK:0.0398",
    "HU:Magyarország:HUF:0.00247",
    "RO:România:RON:0.2",
    "TR:Türkiye:TRY:0.022",
    "UA:Україна:UAH:0.021",
    "IL:ישראל:ILS:0.25",
    "EG:مصر:EGP:0.018",
    "IN:भारत:INR:0.0101",
    "TH:ไทย:THB:0.0265",
    "JP:日本:JPY:0.0058",
    "KR:대한민국:KRW:0.00062",
    "CN:中国:CNY:0.121",
    "US:United States:USD:0.86",
    "CA:Canada:CAD:0.62",
    "BR:Brasil:BRL:0.16",
    "MX:México:MXN:0.047",
)
PRODUCTS: Final = (
    ("board-walnut", 'Chess board "Walnut", 55 mm', Decimal("89.90")),
    ("board-roll", "Schachbrett, rollbar — grün/weiß", Decimal("14.50")),
    ("set-staunton", "Staunton №6 ♔♕♖♗♘♙", Decimal("64.00")),
    ("set-club", "Jeu de pièces « Club »", Decimal("24.95")),
    ("set-travel", "旅行用チェスセット", Decimal("19.99")),
    ("clock-digital", "Digital clock, 3+2", Decimal("49.00")),
    ("clock-wood", "Шахматные часы «Янтарь»", Decimal("119.00")),
    ("book-endings", "100 Endings, 5th ed.", Decimal("27.80")),
    ("book-opening", "Sicilian: 2.c3, a repertoire", Decimal("22.00")),
    ("book-kids", "Ajedrez para niños", Decimal("12.30")),
    ("score-pads", "Score pads (10 St.)", Decimal("9.95")),
    ("bag", "Tournament bag; black", Decimal("17.25")),
    ("mug", "Mug ☕ 'e4'", Decimal("8.40")),
    ("magnet", "Lehr-Magnetbrett 100 cm ²", Decimal("159.00")),
)
CODES: Final = ("WELCOME", "TREUE", "ÉTÉ", "CLUB", "割引", "B2B")
GIVEN_NAMES: Final = (
    "Ana", "Björn", "Chloé", "Dmytro", "Eszter", "Fatima", "Günther", "Hana", "İbrahim", "João",
    "Katarzyna", "Łukasz", "Mei", "Nuala", "Ólafur", "Priya", "Quentin", "Renée", "Søren", "Tomáš",
    "明子", "지훈", "يوسف", "Олена",
)  # fmt: skip
FAMILY_NAMES: Final = (
    "O'Brien", "Müller", "García Núñez", "Søndergård", "Nagy", "Wójcik", "Dvořák", "Gül",
    "Papadópoulos", "de la Cruz", "van 't Hoff", "Ștefănescu", "Öztürk", "Smith-Jones", "Null",
    "佐藤", "김", "חן", "Шевченко", "Þórsdóttir", "Lê", "Ng", "X Æ A-12", "Straße",
)  # fmt: skip
FIRMS: Final = (
    "Gambit", "Zugzwang", "Fianchetto", "En Passant", "Rössli", "J'adoube", "Königsspringer",
    "Торговый дом", "将棋堂", "Tempo & Sons", "Endspiel", "Ślepy Mat", "Caïssa", "Rook 64",
)  # fmt: skip
FORMS: Final = ("GmbH", "S.A.", "Ltd.", "AB", "株式会社", "Kft.", "Inc.", "e.V.")
CITIES: Final = ("Zürich", "Kraków", "São Paulo", "Αθήνα", "Tromsø", "東京", "Cork", "İzmir")
NOTES: Final = (
    "Please ring twice.\nThanks!",
    "Geschenk 🎁 — bitte ohne Rechnung",
    "NULL",
    'Deliver to "the office", not home; 2nd floor',
    "お届けは午後に",
)
