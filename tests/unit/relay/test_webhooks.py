"""Webhooks: everything once and in order whatever receiver and process do, and the secret stays secret."""

import logging
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from assets.relay import durable, webhooks
from assets.relay.cap import message_id
from assets.relay.deliveries import deliveries_folder, write_deliveries
from assets.relay.outbox import Outbox
from assets.relay.subscriptions import SecretError
from tests.alert_receiver import Receiver, receiving

SECRET = "q7-Only-For-Tests-Wd3"

ROOT = Path(__file__).parents[3]
KILLED_BEFORE_ITS_NOTE = """
import os, signal, sys, time
from datetime import datetime
from pathlib import Path
from assets.ingest.lake import Lake
from assets.relay.outbox import Outbox
from assets.relay.subscriptions import Subscription
from assets.relay.webhooks import deliver

home, url, now = sys.argv[1:]
Outbox.note_delivery = lambda *said: os.kill(os.getpid(), signal.SIGKILL)
outbox = Outbox(Lake(Path(home)), "fire_dispatch")
with outbox.held():
    deliver(outbox, Subscription(id="fire_dispatch", url=url, secret_env="FIRE_SECRET"),
            now=lambda: datetime.fromisoformat(now), deadline=time.monotonic() + 30)
"""


def ids(alerts) -> list[str]:
    return [message_id(one) for one in alerts]


def flood(alert, line, count: int, start: int = 0) -> list:
    """Return alerts a second apart, in the order in which they were raised."""
    return [
        alert(f"flood {number}", at=line.now + timedelta(seconds=number))
        for number in range(start, start + count)
    ]


def test_what_is_raised_is_delivered_once_in_order_and_never_again(line, alert, receiver):
    alerts = flood(alert, line, 5)
    assert line.take(*reversed(alerts)) == 5
    assert line.deliver().delivered == 5
    assert line.take(*alerts) == 0
    assert line.deliver().delivered == 0
    assert receiver.posts == ids(alerts)
    assert receiver.bodies[message_id(alerts[0])].decode() == alerts[0].model_dump_json()


def test_a_receiver_that_was_down_for_an_hour_gets_everything_in_order_once(line, alert):
    receiver = Receiver(SECRET)
    alerts = flood(alert, line, 6)
    with receiving(receiver):
        line.subscription = line.subscription.model_copy(update={"url": receiver.url})
        line.take(*alerts[:2])
        line.deliver()
    for minute in range(0, 60, 5):
        line.take(*alerts[: 3 + minute // 20])
        outcome = line.deliver()
        assert (outcome.delivered, outcome.reason) == (0, "ConnectError")
        line.later(minutes=5)
    line.take(*alerts)
    with receiving(receiver, urlsplit(receiver.url).port):
        assert line.deliver().delivered == 4
    assert receiver.posts == ids(alerts)


def test_nothing_goes_ahead_of_a_message_that_is_not_taken_yet(line, alert, receiver):
    alerts = flood(alert, line, 3)
    line.take(*alerts)
    receiver.answers.extend([204, 503, 503, 503])
    first = line.deliver()
    assert (first.delivered, first.waiting, first.reason) == (1, 2, "HTTP 503")
    assert line.deliver().delivered == 0, "it is left alone for a while"
    line.later(minutes=1)
    assert line.deliver().delivered == 2
    assert receiver.posts == ids(alerts)


def test_a_hiccup_is_over_within_the_look_and_its_attempts_are_counted(line, alert, receiver):
    line.take(alert())
    receiver.answers.extend([500, 429])
    assert line.deliver().delivered == 1
    write_deliveries(line.lake, line.outbox)
    [row] = pq.read_table(deliveries_folder(line.lake) / "fire_dispatch-2026-03.parquet").to_pylist()
    assert row["attempts"] == 3
    assert row["delivered_at"] - row["available_at"] == timedelta(seconds=30)
    assert row["subscription"] == "fire_dispatch"


def test_who_says_when_to_come_again_is_heeded(line, alert, receiver):
    line.take(alert())
    receiver.answers.extend([429])
    receiver.headers["Retry-After"] = "300"
    assert line.deliver().waiting == 1
    line.later(minutes=4)
    assert line.deliver().delivered == 0
    line.later(minutes=2)
    assert line.deliver().delivered == 1


@pytest.fixture
def killed(line, alert, receiver):
    """A delivery whose process was killed after the receiver took it and before that was noted."""
    line.take(alert("one"), alert("two"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_ITS_NOTE, line.lake.home, receiver.url, line.now.isoformat()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert done.returncode == -9
    assert len(receiver.posts) == 1
    return receiver.posts[0]


def test_a_kill_between_answer_and_note_sends_the_same_id_again(killed, line, receiver):
    assert line.deliver().delivered == 2
    assert receiver.posts[:2] == [killed, killed]
    assert len(receiver.taken) == len(set(receiver.taken)) == 2, "the receiver drops the repeat by its id"


def test_a_receiver_that_does_not_look_at_the_id_would_act_twice(killed, line, receiver):
    receiver.drops_repeats = False
    line.deliver()
    assert receiver.taken.count(killed) == 2


def test_a_kill_between_receipt_and_removal_sends_nothing_again(line, alert, receiver, monkeypatch):
    line.take(alert())

    def cut_off(path, *said, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", cut_off)
        with pytest.raises(KeyboardInterrupt):
            line.deliver()
    assert line.outbox.waiting(), "the message is still there"
    assert line.deliver().delivered == 0
    assert len(receiver.posts) == 1


def test_a_receipt_that_is_not_heeded_would_send_it_again(line, alert, receiver, monkeypatch):
    line.take(alert())
    monkeypatch.setattr(Outbox, "_settle", lambda self: None)
    name = line.outbox.waiting()[0]
    message = line.outbox.message(name)
    line.deliver()
    (line.outbox.folder / "waiting" / name).write_bytes(message.written())
    line.deliver()
    assert len(receiver.posts) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_a_refusal_for_good_is_a_dead_letter_others_pass_and_replay_delivers_it(
    line, alert, receiver, status
):
    alerts = flood(alert, line, 2)
    line.take(*alerts)
    receiver.answers.append(status)
    outcome = line.deliver()
    assert (outcome.delivered, outcome.buried, outcome.waiting) == (1, 1, 0)
    [letter] = line.outbox.dead()
    assert (letter.id, letter.reason) == (message_id(alerts[0]), f"HTTP {status}")
    assert line.take(*alerts) == 0, "a dead letter is not queued anew"
    with line.outbox.held():
        assert line.outbox.replay(line.now) == 1
    assert line.deliver().delivered == 1
    assert receiver.posts == ids([alerts[1], alerts[0]])
    assert line.outbox.dead() == []


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 503])
def test_what_may_pass_is_no_dead_letter(line, alert, receiver, status):
    line.take(alert())
    receiver.answers.extend([status] * 3)
    assert line.deliver().waiting == 1
    assert line.outbox.dead() == []


def test_what_waited_longer_than_declared_is_given_up_and_what_came_later_is_not(line, alert, receiver):
    line.take(alert("old"))
    receiver.answers.extend([503] * 99)
    for hour in range(23):
        assert line.deliver().waiting == 1, hour
        line.later(hours=1)
    young = alert("young", at=line.now)
    line.take(young)
    line.later(hours=2)
    assert line.deliver().buried == 1
    [letter] = line.outbox.dead()
    assert letter.reason == "not taken within 24 hours (HTTP 503)"
    receiver.answers.clear()
    line.later(minutes=5)
    assert line.deliver().delivered == 1
    assert receiver.posts == [message_id(young)]


def test_after_a_night_without_us_the_first_hiccup_gives_nothing_up(line, alert, receiver):
    line.take(alert())
    line.later(hours=30)
    receiver.answers.extend([503] * 3)
    assert line.deliver().buried == 0
    line.later(minutes=1)
    assert line.deliver().delivered == 1


def test_replayed_letters_go_before_what_came_after_them_and_do_not_die_of_their_age(line, alert, receiver):
    first, second = flood(alert, line, 2)
    line.take(first)
    receiver.answers.append(410)
    line.deliver()
    line.later(days=3)
    late = second.model_copy(update={"alerted_at": line.now})
    line.take(first, late)
    with line.outbox.held():
        line.outbox.replay(line.now)
    receiver.answers.extend([503] * 9)
    for _ in range(3):
        assert line.deliver().buried == 0
        line.later(minutes=10)
    line.deliver()
    assert receiver.posts == ids([first, late])


def test_a_new_subscription_gets_what_holds_and_not_what_held_once(line, alert):
    over = alert("over", at=line.now - timedelta(hours=7))
    cancelled = [alert("gone"), alert("gone", revision=2, message="Cancel")]
    holds = [alert("holds"), alert("holds", revision=2, message="Update")]
    assert line.take(over, *cancelled, *holds) == 1
    assert line.outbox.message(line.outbox.waiting()[0]).id == message_id(holds[1])


def test_a_first_look_that_is_cut_off_is_made_again_without_repeats(line, alert, receiver, monkeypatch):
    alerts = flood(alert, line, 3)
    written = []
    real = durable.put

    def cut_off(path, body):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        real(path, body)

    with monkeypatch.context() as patched:
        patched.setattr("assets.relay.outbox.put", cut_off)
        with pytest.raises(KeyboardInterrupt):
            line.take(*alerts)
    assert line.take(*alerts) == 1
    line.deliver()
    assert receiver.posts == ids(alerts)


def test_an_outbox_that_another_process_holds_is_left_alone(line):
    with line.outbox.held() as mine, Outbox(line.lake, "fire_dispatch").held() as other:
        assert (mine, other) == (True, False)


def test_without_its_secret_nothing_is_sent_and_everything_waits(line, alert, receiver, monkeypatch):
    line.take(alert())
    for said in ("", "short"):
        monkeypatch.setenv("FIRE_SECRET", said)
        with pytest.raises(SecretError, match=r"the variable FIRE_SECRET .*; put the secret"):
            line.deliver()
    assert len(line.outbox.waiting()) == 1
    assert receiver.posts == receiver.refused == []


def test_another_secret_is_refused_by_the_receiver_and_the_message_kept(line, alert, receiver, monkeypatch):
    line.take(alert())
    monkeypatch.setenv("FIRE_SECRET", "another-secret-of-some-length")
    assert line.deliver().buried == 1
    assert receiver.posts == []
    assert receiver.refused == ["Citysignal-Signature is missing or not made with this secret over this body"]


def files_with(text: str, folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def whole_story(line, alert, receiver, caplog) -> str:
    """Deliver, fail and refuse, and return what was logged."""
    with caplog.at_level(logging.DEBUG):
        line.take(*flood(alert, line, 3))
        receiver.answers.extend([204, 410, 503, 503, 503])
        line.deliver()
        write_deliveries(line.lake, line.outbox)
    return caplog.text


def test_the_secret_is_in_no_file_and_no_line_of_a_log(line, alert, receiver, caplog):
    said = whole_story(line, alert, receiver, caplog)
    assert files_with(receiver.secret, line.lake.home) == []
    assert receiver.secret not in said
    assert len(line.outbox.dead()) == len(line.outbox.waiting()) == 1, "every state was there to be looked at"


def test_a_run_that_notes_it_is_caught(line, alert, receiver, caplog, monkeypatch):
    monkeypatch.setattr(webhooks._PassingError, "__str__", lambda error: f"HTTP 503 ({receiver.secret})")
    whole_story(line, alert, receiver, caplog)
    assert files_with(receiver.secret, line.lake.home) == ["retry.json"]


def test_a_look_ends_in_time_and_the_next_one_goes_on(line, alert, receiver):
    alerts = flood(alert, line, 3)
    line.take(*alerts)
    with line.outbox.held():
        outcome = webhooks.deliver(line.outbox, line.subscription, now=lambda: line.now, deadline=0.0)
    assert (outcome.delivered, outcome.waiting) == (0, 3)
    assert line.deliver().delivered == 3


def test_a_receiver_elsewhere_is_not_followed_to(line, alert, receiver):
    with receiving(type(receiver)(receiver.secret)) as elsewhere:
        receiver.headers["Location"] = elsewhere.url
        receiver.answers.extend([307] * 3)
        line.take(alert())
        line.deliver()
        assert elsewhere.posts == elsewhere.refused == []
