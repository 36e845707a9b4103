"""Subscriptions are declared strictly: what is wrong is said with file, key and remedy, never a secret."""

import pytest

from assets.ingest.declaration_text import DeclarationError
from assets.relay.subscriptions import read_subscriptions

GOOD = """\
subscriptions:
  - id: fire_dispatch
    url: https://alerts.example.org/citysignal
    secret_env: FIRE_SECRET
    cities: [town]
    agencies: [fire]
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str):
        path = tmp_path / "subscriptions.yaml"
        path.write_text(text, encoding="utf-8")
        return read_subscriptions(path)

    return read


def test_a_subscription_wants_the_alerts_of_its_cities_and_agencies(read, alert):
    [one] = read(GOOD)
    assert one.wants(alert())
    assert not one.wants(alert(agency="police"))
    assert not one.wants(alert(city="village"))
    [every] = read(GOOD.replace("    cities: [town]\n    agencies: [fire]\n", ""))
    assert every.wants(alert(city="village", agency="police"))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a", "http://[::1]/a", "http://localhost:1/a", "https://a.org"]
)
def test_https_and_this_machine_will_do(read, url):
    assert read(GOOD.replace("https://alerts.example.org/citysignal", f'"{url}"'))[0].url == url


@pytest.mark.parametrize(
    ("wrong", "key", "remedy"),
    [
        (("https://alerts", "http://alerts"), "subscriptions[0].url", "in the clear"),
        (("https://alerts", "http://127.0.0.1.alerts"), "subscriptions[0].url", "in the clear"),
        (("https://", "ftp://"), "subscriptions[0].url", "in the clear"),
        (("https://", "https://user:pass@"), "subscriptions[0].url", "remove them"),
        (("/citysignal", "/citysignal#x"), "subscriptions[0].url", "write it like https://host/path"),
        (("https://alerts.example.org", '"https://["'), "the file", ""),
        (("FIRE_SECRET", "hunter2"), "subscriptions[0].secret_env", "not the secret itself"),
        (
            ("secret_env: FIRE_SECRET", "secret: hunter2"),
            "subscriptions[0].secret",
            "did you mean secret_env?",
        ),
        (("agencies", "agencys"), "subscriptions[0].agencys", "did you mean agencies?"),
        (("    secret_env: FIRE_SECRET\n", ""), "subscriptions[0].secret_env", "add it"),
        (("fire_dispatch", "../fire"), "subscriptions[0].id", "lower-case letters"),
        (("cities: [town]", "give_up_after_hours: 0"), "subscriptions[0].give_up_after_hours", "correct it"),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_remedy(read, wrong, key, remedy):
    with pytest.raises(DeclarationError) as error:
        read(GOOD.replace(*wrong))
    line = next(line for line in str(error.value).splitlines() if f": {key}:" in line or key == "the file")
    assert "subscriptions.yaml: " in line
    assert remedy in line
    assert "hunter2" not in str(error.value)
    assert "pass@" not in str(error.value)


def test_two_of_one_name_would_share_an_outbox(read):
    with pytest.raises(DeclarationError, match="declares fire_dispatch twice"):
        read(GOOD + GOOD.split("\n", 1)[1])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        DeclarationError, match=r"none.yaml: the file: is not there; .*CITYSIGNAL_SUBSCRIPTIONS"
    ):
        read_subscriptions(tmp_path / "none.yaml")
