"""What every connector relies on, apart from retries and tokens, which the protocols' tests go through."""

import os
import socket
import time

import httpx2
import pytest

from assets.ingest.portals import wire as wire_module
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError


def nobody() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def tries(slots, address: str) -> int:
    wire = Wire(slots=slots, attempts=4, first_wait_seconds=0.001)
    with pytest.raises(DeliveryError, match="nobody answers there"):
        wire.get(address)
    wire.close()
    return wire.calls


def test_where_nobody_answers_the_next_feed_asks_once(tmp_path, monkeypatch):
    address = nobody()
    assert [tries(tmp_path, address), tries(tmp_path, address)] == [4, 1]
    assert tries(tmp_path, nobody()) == 4
    old = time.time() - wire_module.SILENT_SECONDS - 1
    for noted in tmp_path.glob("*.silent"):
        os.utime(noted, (old, old))
    assert tries(tmp_path, address) == 4
    # Without the rule every feed of the host waits in full.
    monkeypatch.setattr(wire_module, "SILENT_SECONDS", 0)
    assert tries(tmp_path, address) == 4


def test_a_host_is_asked_no_more_often_at_once_than_declared(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    open_now, most = [0], [0]

    def answer(request: httpx2.Request) -> httpx2.Response:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        time.sleep(0.03)
        open_now[0] -= 1
        return httpx2.Response(200, stream=httpx2.ByteStream(b"[]"))

    def ask(number: int) -> None:
        wire = Wire(slots=tmp_path if is_limited else None, transport=httpx2.MockTransport(answer))
        wire.get(f"http://portal.example/{number}")
        wire.close()

    for is_limited in (True, False):
        open_now[0], most[0] = 0, 0
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        assert (most[0] <= 2) == is_limited
