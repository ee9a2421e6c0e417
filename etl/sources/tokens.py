"""OAuth 2: one token for all resources of a source, and another when the API takes it no more."""

from __future__ import annotations

import threading
from typing import Any

from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.rest_api import _validate_config
from requests import PreparedRequest

from etl.errors import AuthError
from etl.secrets import safe_url

KIND = "oauth2_client_credentials"


class Token(OAuth2ClientCredentials):
    """dlt's, which asks for a token for each resource, and by threads at once.

    Some log-ins end the token before when they give another one.
    """

    _asking = threading.Lock()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        with self._asking:
            return super().__call__(request)

    def renew(self, request: PreparedRequest) -> None:
        """Give a request that was refused another token than it had."""
        with self._asking:
            if request.headers.get("Authorization") == f"Bearer {self.access_token}":
                self.obtain_token()
            request.headers["Authorization"] = f"Bearer {self.access_token}"

    def parse_access_token(self, response_json: Any) -> str:
        token = response_json.get("access_token") if isinstance(response_json, dict) else None
        if not isinstance(token, str) or not token:
            raise AuthError(  # dlt would send the word None
                f"the log-in gave no `access_token` ({safe_url(self.access_token_url)})",
                hint="check the `auth` of this source: its address, client and secret",
            )
        return token

    def parse_expiration_in_seconds(self, response_json: Any) -> int:
        # Optional (RFC 6749, 5.1); some give null or 0 where they mean that.
        try:
            seconds = super().parse_expiration_in_seconds(response_json)
        except (TypeError, ValueError):
            seconds = 0
        return seconds if seconds > 0 else self.default_token_expiration


def use_tokens(config: dict[str, Any]) -> None:
    """Let dlt's REST configuration use tokens of ours, the one of its client for all resources.

    Raises:
        DictValidationException: dlt does not accept the configuration; of a token it looks at none.
    """
    owners = [config["client"], config.get("resource_defaults", {}).get("endpoint")]
    owners += [resource.get("endpoint") for resource in config["resources"]]
    found = [o for o in owners if isinstance(o, dict) and _is_ours(o.get("auth"))]
    if found:
        _validate_config(config)  # type: ignore[arg-type]  # it may be none: that is asked
    for owner in found:
        given = {key: value for key, value in owner["auth"].items() if key != "type"}
        owner["auth"] = Token.from_init_value(given)


def _is_ours(auth: Any) -> bool:
    return isinstance(auth, dict) and auth.get("type") == KIND
