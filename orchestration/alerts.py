"""Where an alert goes: always to a file under the home, and to a webhook where one is set."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from orchestration.settings import Settings

WEBHOOK_TIMEOUT_SECONDS = 10


def send_alert(settings: Settings, alert: Mapping[str, Any], warn: Callable[[str], Any]) -> None:
    """Append an alert to `alerts/<day>.jsonl`, then post it.

    Args:
        settings: The home and the webhook.
        alert: What happened, JSON-able.
        warn: Told when the webhook does not take it; the file has it then.
    """
    now = settings.clock.now()
    line = {"at": now.isoformat(timespec="seconds"), **alert}
    folder = settings.home / "alerts"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{now:%Y-%m-%d}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    if settings.webhook:
        post(settings.webhook, line, warn)


def post(url: str, line: Mapping[str, Any], warn: Callable[[str], Any]) -> None:
    """Post an alert as JSON; a failing webhook must not fail the sensor, which would send it for ever."""
    import httpx2

    try:
        httpx2.post(url, json=line, timeout=WEBHOOK_TIMEOUT_SECONDS).raise_for_status()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        warn(f"The webhook did not take the alert ({error}); it is in the alerts folder.")
