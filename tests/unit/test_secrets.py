"""Secrets: what is hidden stays whole and unseen, and what is redacted cannot be read back."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from etl.records import FREE_TEXT, json_schema
from etl.secrets import MASK, hide_secrets, mask, redactor, reveal, safe_url

CANARY = "canary-0123456789"
# No character of the mask itself: a secret made of it is its own test.
SECRETS = st.text(min_size=4, max_size=40).filter(lambda s: not set(s) & set(MASK))
PLAIN_KEYS = st.sampled_from(["name", "path", "page_size", "params", "url", "token_path", "x"])
SECRET_KEYS = st.sampled_from(
    ["token", "api_key", "password", "client_secret", "Authorization", "X-Api-Key", "cookie"]
)
GROUPS = st.sampled_from(["auth", "headers", "params", "client", "deep"])


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = PLAIN_KEYS | SECRET_KEYS | GROUPS
    return st.recursive(
        leaves,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=4),
        max_leaves=12,
    )


def leaves_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves_of(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves_of(item)]
    return [value]


# --- hide and reveal ----------------------------------------------------------------------------


@given(trees(st.text() | st.booleans() | st.none()))
def test_revealed_is_what_was_hidden(tree: Any) -> None:
    assert reveal(hide_secrets(tree)) == tree


def test_a_number_stays_a_number_unless_its_key_says_secret() -> None:
    tree = {"auth": {"default_token_expiration": 3600, "api_key": 12345678}}
    hidden = hide_secrets(tree)
    assert hidden["auth"]["default_token_expiration"] == 3600
    assert reveal(hidden)["auth"]["api_key"] == "12345678"


@given(trees(st.text()))
def test_hiding_twice_hides_the_same(tree: Any) -> None:
    assert hide_secrets(hide_secrets(tree)) == hide_secrets(tree)


@given(trees(st.text()))
def test_hiding_does_not_change_its_argument(tree: Any) -> None:
    before = json.dumps(tree)
    hide_secrets(tree)
    assert json.dumps(tree) == before


@pytest.mark.parametrize(
    "tree",
    [
        {"auth": {"type": "bearer", "token": CANARY}},
        {"auth": {"type": "http_basic", "username": "u", "password": CANARY}},
        {"auth": {"type": "api_key", "name": "key", "api_key": CANARY, "location": "query"}},
        {"auth": {"access_token_request_data": {"refresh": CANARY}}},
        {"headers": {"X-Odd": CANARY, "Accept": "application/json"}},
        {"Headers": {"X-Odd": [CANARY]}},
        {"params": {"apikey": CANARY}},
        {"arguments": {"aws_secret_access_key": CANARY}},
        {"credentials": CANARY},
        {"credentials": {"value": CANARY}},
        {"passwords": [CANARY, {"a": CANARY}]},
    ],
)
def test_what_its_place_makes_secret_is_hidden(tree: Any) -> None:
    hidden = hide_secrets(tree)
    assert CANARY not in repr(hidden)
    assert CANARY not in repr(mask(hidden))
    assert redactor(hidden)(f"got {CANARY}.") == f"got {MASK}."


@pytest.mark.parametrize(
    "tree",
    [
        {"paginator": {"cursor_path": "next", "cursor_param": "token", "next_token_path": "n"}},
        {"auth": {"type": "bearer", "access_token_url": "https://h/token", "name": "X-Key"}},
        {"headers": {"Accept": "application/json", "User-Agent": "etl"}},
        {"params": {"token": "{resources.users.token}"}},
    ],
)
def test_names_of_fields_and_places_stay_readable(tree: Any) -> None:
    assert mask(hide_secrets(tree)) == tree


def test_the_driver_that_credentials_name_is_no_secret() -> None:
    """An error that names the one that is missing would say stars."""
    hidden = hide_secrets({"credentials": {"driver": "ODBC Driver 18", "host": "db", "port": 1433}})
    assert mask(hidden)["credentials"] == {"driver": "ODBC Driver 18", "host": MASK, "port": MASK}
    assert mask(hide_secrets({"tokens": {"driver": "x"}})) == {"tokens": {"driver": MASK}}


# --- mask ---------------------------------------------------------------------------------------


@given(trees(st.just(CANARY)), GROUPS, SECRET_KEYS)
def test_a_masked_tree_shows_no_secret_leaf(tree: Any, group: str, key: str) -> None:
    hidden = hide_secrets({group: {key: CANARY, "rest": tree}})
    shown = mask(hidden)
    for leaf, now in zip(leaves_of(hidden), leaves_of(shown), strict=True):
        assert now == MASK if isinstance(leaf, SecretStr) else now == leaf
    assert shown[group][key] == MASK


@given(SECRETS.map(lambda s: quote(s, safe="")))
def test_masked_urls_show_no_password_and_no_token(secret: str) -> None:
    assume(len(secret) > 6)
    urls = [f"https://user:{secret}@host/p", f"see https://h/?a=1&token={secret}&b=2 now"]
    assert not [u for u in mask(urls) if secret in u]


# --- URLs ---------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(exclude_categories=[])) | st.text().map("http://".__add__))
@example("http://[/")
@example("http://[::1")
@example("//a@b@c:d")
@example("http://\u2100/")
@example("http://h/?\udc80=1")
@example("http://h:port/?token=\ud800")
def test_no_url_makes_safe_url_fail(url: str) -> None:
    assert isinstance(safe_url(url), str)


@given(st.text().map(lambda t: f"https://h/{t}"))
def test_a_safe_url_is_safe_already(url: str) -> None:
    assert safe_url(safe_url(url)) == safe_url(url)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://h/p?a=1", "https://h/p?a=1"),
        ("https://u:pw@h:8080/p", f"https://{MASK}@h:8080/p"),
        ("https://token@h/p", f"https://{MASK}@h/p"),
        ("https://u:p@ss@h/p", f"https://{MASK}@h/p"),
        ("https://h/p?token=x&a=1", f"https://h/p?token={MASK}&a=1"),
        ("https://h/p?X-Amz-Signature=x", f"https://h/p?X-Amz-Signature={MASK}"),
        ("https://h/p?page_token_path=x", "https://h/p?page_token_path=x"),
        ("postgresql://u:pw@h/db", f"postgresql://{MASK}@h/db"),
    ],
)
def test_a_safe_url_keeps_what_is_no_secret(url: str, safe: str) -> None:
    assert safe_url(url) == safe


@pytest.mark.parametrize(
    "url",
    [
        f"https://h/cb#access_token={CANARY}",
        f"https://account.blob.core.windows.net/c?sv=2024&sig={CANARY}",
        f"https://maps.googleapis.com/maps/api?key={CANARY}",
    ],
)
def test_credentials_that_no_setting_knows_are_redacted_from_urls(url: str) -> None:
    assert CANARY not in redactor()(f"asked {url} and failed")


# --- redactor -----------------------------------------------------------------------------------


@given(SECRETS, st.text(), st.text())
def test_no_form_of_a_secret_passes(secret: str, before: str, after: str) -> None:
    redact = redactor({"a": [SecretStr(secret)]})
    encoded = base64.b64encode(secret.encode()).decode()
    for form in (secret, quote(secret, safe=""), quote_plus(secret), encoded):
        assert form not in redact(f"{before} {form} {after}").replace(MASK, "")


@pytest.mark.parametrize("secret", ['pa"ss\\word', "line\nbreak", "kanärie-🐤"])
def test_the_form_of_a_secret_inside_json_or_repr_is_known(secret: str) -> None:
    """A response body or an exception's arguments, quoted in a message."""
    redact = redactor({"a": SecretStr(secret)})
    for form in (
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    ):
        assert redact(f"body {form}.") == f"body {MASK}."


@pytest.mark.parametrize("form", [quote("ca/na+ry"), quote("ca/na+ry", safe="").lower()])
def test_other_url_encodings_of_a_secret_are_known(form: str) -> None:
    assert form not in redactor({"a": SecretStr("ca/na+ry")})(f"/path/{form}/x")


def test_the_header_of_basic_authentication_is_known() -> None:
    auth = hide_secrets({"auth": {"type": "http_basic", "username": "user", "password": CANARY}})
    header = base64.b64encode(f"user:{CANARY}".encode()).decode()
    assert header not in redactor(auth)(f"Authorization: Basic {header}")


def test_the_token_of_a_configured_header_is_known_alone() -> None:
    headers = hide_secrets({"headers": {"Authorization": f"Bearer {CANARY}"}})
    assert CANARY not in redactor(headers)(f"token={CANARY}")


@given(st.lists(SECRETS, max_size=4), st.text() | st.text().map(lambda t: f"http://u:{t}@h/?{t}"))
def test_redacting_twice_changes_nothing_more(secrets: list[str], text: str) -> None:
    redact = redactor([SecretStr(s) for s in secrets])
    once = redact(" ".join([text, *secrets, text]))
    assert redact(once) == once


@pytest.mark.parametrize("secret", ["****", "**********", "*****-x"])
def test_a_secret_made_of_the_mask_does_not_grow(secret: str) -> None:
    redact = redactor({"a": SecretStr(secret)})
    once = redact(f"got {secret}")
    assert redact(once) == once


@given(st.text().filter(lambda t: "://" not in t))
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assume(CANARY not in text)
    assert redactor({"a": SecretStr(CANARY)})(text) == text


def test_the_longest_secret_is_masked_first() -> None:
    redact = redactor([SecretStr("abcd"), SecretStr("abcdefgh")])
    assert redact("abcdefgh abcd") == f"{MASK} {MASK}"


def test_short_values_are_left() -> None:
    assert redactor({"a": SecretStr("abc"), "b": SecretStr("")})("abc") == "abc"


def test_passwords_of_configured_urls_are_known_anywhere() -> None:
    redact = redactor({"path": "postgresql://u:p%40ss-word@h/db"})
    assert redact("FATAL: p@ss-word or p%40ss-word") == f"FATAL: {MASK} or {MASK}"


def test_a_text_with_bytes_of_no_encoding_is_redacted() -> None:
    redact = redactor({"a": SecretStr(CANARY)})
    assert CANARY not in redact(f"https://h/?token=\udc80{CANARY}")


def test_the_host_of_a_redacted_url_stays() -> None:
    text = redactor()("could not reach https://u:secretpw@api.example.com/x?token=abcd&page=2: 401")
    assert urlsplit(text.split()[3]).hostname == "api.example.com"
    assert "page=2" in text


# Texts of the run record that are ours, or names that people gave to their own things.
OURS = {
    "run_id", "job", "profile", "labels", "version", "environment", "snapshot_date", "versions",
    "exit_name", "stage", "source", "sources", "resource", "load_id", "load_ids", "model", "target",
    "name", "kind", "strategy", "type_before", "type_after", "start", "end",
}  # fmt: skip


def test_each_text_of_the_run_record_is_redacted_or_known_to_be_ours() -> None:
    """What a new field says would else be written as it came."""

    def holds_text(field: dict[str, Any]) -> bool:
        inner = [*field.get("anyOf", ()), field.get("items"), field.get("additionalProperties")]
        is_text = field.get("type") == "string" and not field.keys() & {"enum", "const", "format"}
        return is_text or any(p is True or (isinstance(p, dict) and holds_text(p)) for p in inner)

    schema = json_schema()
    fields = [f for part in (schema, *schema["$defs"].values()) for f in part["properties"].items()]
    assert {name for name, field in fields if holds_text(field)} == FREE_TEXT | OURS
