"""Who is sent which alerts, as declared; sending belongs to webhooks.

A file of subscriptions is YAML:

    subscriptions:
      - id: fire_dispatch
        url: https://alerts.example.org/citysignal
        secret_env: FIRE_WEBHOOK_SECRET
        cities: [chicago]
        agencies: [fire]
        give_up_after_hours: 24

The secret stands in the environment only, under the name that the declaration gives. Without `cities` or
`agencies` every one is meant.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from assets.ingest.declaration_text import DeclarationError, Problem, problems_of, read_yaml
from assets.ingest.declared_values import Id, Positive
from assets.relay.alert import Alert

#: A shorter secret can be guessed.
SHORTEST_SECRET = 16


class SecretError(Exception):
    """The secret of a subscription is not there or too short; the message names the variable."""


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is no address; write it like https://host/path") from None
    if parts.username or parts.password:
        raise ValueError("holds a user or password; the signature tells who sends, so remove them")
    if parts.fragment or not host:
        raise ValueError("is no address to post to; write it like https://host/path")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("is neither https nor on this machine; alerts do not travel in the clear")
    return url


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        # What stands there may be the secret: it is not repeated.
        raise ValueError("is no variable's name; write one like FIRE_SECRET, not the secret itself")
    return name


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Subscription(BaseModel):
    """One receiver.

    Attributes:
        url: Where alerts are posted.
        secret_env: Environment variable that holds the shared secret.
        cities: Whose alerts; nothing: all.
        agencies: For whom; nothing: all.
        give_up_after_hours: A message that could not be delivered for so long becomes a dead letter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Id
    url: Annotated[str, AfterValidator(_address)]
    secret_env: Annotated[str, AfterValidator(_variable)]
    cities: tuple[Id, ...] = ()
    agencies: tuple[Id, ...] = ()
    give_up_after_hours: Positive = 24.0

    def wants(self, alert: Alert) -> bool:
        """Return whether an alert is for this receiver."""
        return (not self.cities or alert.city in self.cities) and (
            not self.agencies or alert.agency in self.agencies
        )

    def secret(self) -> str:
        """Return the secret.

        Raises:
            SecretError: The variable is not set, or holds too little.
        """
        said = os.environ.get(self.secret_env, "")
        if len(said) < SHORTEST_SECRET:
            state = "is too short" if said else "is not set"
            raise SecretError(
                f"subscription {self.id}: the variable {self.secret_env} {state}; put the secret shared with "
                f"the receiver into it, {SHORTEST_SECRET} characters or more"
            )
        return said


class _Subscriptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    subscriptions: tuple[Subscription, ...]

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        ids = [one.id for one in self.subscriptions]
        if twice := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"declares {', '.join(twice)} twice; give each receiver an id of its own")
        return self


def read_subscriptions(path: Path) -> tuple[Subscription, ...]:
    """Return what a file declares.

    Raises:
        DeclarationError: A line for everything that is wrong, naming file, key and remedy.
    """
    if not path.is_file():
        raise DeclarationError(
            [Problem(str(path), "the file", "is not there; write it, or unset CITYSIGNAL_SUBSCRIPTIONS")]
        )
    said, problems = read_yaml(path)
    if problems:
        raise DeclarationError(problems)
    try:
        return _Subscriptions(**said).subscriptions
    except ValidationError as error:
        known = {"": _Subscriptions.model_fields, "subscriptions": Subscription.model_fields}
        raise DeclarationError(problems_of(path, error, known)) from None
