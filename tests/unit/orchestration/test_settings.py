"""Environment variables become settings, or a line that says which one is wrong."""

from datetime import UTC, datetime, timedelta

import pytest

from assets.ingest.declaration_text import DeclarationError
from assets.ingest.feed import BUILT_IN
from orchestration.settings import REPOSITORY, SettingsError, load_settings


def test_without_variables_everything_has_a_place():
    settings = load_settings({})
    assert settings.home == (REPOSITORY / "var").resolve()
    assert settings.city_folders == (BUILT_IN,)
    assert settings.variables["CITYSIGNAL_REAL_DATA"] == str((REPOSITORY / "../shared/data").resolve())
    assert settings.variables["CITYSIGNAL_HOME"] == str(settings.home)
    assert settings.portal is None
    assert settings.variables["CITYSIGNAL_SIMULATED_PORTAL"] == "http://simulated-portal.invalid"
    assert settings.fixed_now is None
    assert settings.webhook is None


def test_relative_home_starts_at_the_repository_wherever_the_process_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_settings({"CITYSIGNAL_HOME": "elsewhere"}).home == REPOSITORY / "elsewhere"


def test_city_folders_keep_their_order_after_the_built_in(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    settings = load_settings({"CITYSIGNAL_CITIES": f"{tmp_path}/b:{tmp_path}/a"})
    assert settings.city_folders == (BUILT_IN, tmp_path / "b", tmp_path / "a")


def test_city_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"CITYSIGNAL_CITIES: .*/nowhere is no folder"):
        load_settings({"CITYSIGNAL_CITIES": f"{tmp_path}/nowhere"})


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T06:00:00+00:00", "2026-01-02T06:00:00Z", "2026-01-02T06:00:00", "2026-01-02T01:00:00-05:00"],
)
def test_clock_is_one_instant_in_utc(text):
    settings = load_settings({"CITYSIGNAL_CLOCK": text})
    assert settings.clock.now() == datetime(2026, 1, 2, 6, tzinfo=UTC)
    assert settings.clock.now().utcoffset() == timedelta(0)


def test_clock_that_is_no_time_is_named():
    with pytest.raises(SettingsError, match="CITYSIGNAL_CLOCK: 'noon'"):
        load_settings({"CITYSIGNAL_CLOCK": "noon"})


def test_who_receives_alerts_is_a_file_that_is_named_or_nobody(tmp_path):
    assert load_settings({}).subscribers() == ()
    path = tmp_path / "subscriptions.yaml"
    path.write_text(
        "subscriptions: [{id: fire, url: https://a.example, secret_env: FIRE}]\n", encoding="utf-8"
    )
    assert [one.id for one in load_settings({"CITYSIGNAL_SUBSCRIPTIONS": str(path)}).subscribers()] == [
        "fire"
    ]
    path.unlink()
    with pytest.raises(DeclarationError, match="CITYSIGNAL_SUBSCRIPTIONS"):
        load_settings({"CITYSIGNAL_SUBSCRIPTIONS": str(path)}).subscribers()


def test_portals_that_run_already_are_taken_by_their_address():
    settings = load_settings({"CITYSIGNAL_SIMULATED_PORTAL": "http://127.0.0.1:8311/"})
    assert settings.portal == "http://127.0.0.1:8311"
    assert load_settings({}).with_portal(settings.portal).variables == settings.variables


@pytest.mark.parametrize("address", ["127.0.0.1:8311", "https://127.0.0.1:8311", "http://", "http://a?x=1"])
def test_portal_that_is_no_http_address_is_named(address):
    with pytest.raises(
        SettingsError, match=r"CITYSIGNAL_SIMULATED_PORTAL: .* as `citysignal portals` prints"
    ):
        load_settings({"CITYSIGNAL_SIMULATED_PORTAL": address})


def test_wall_clock_moves():
    clock = load_settings({}).clock
    assert datetime.now(UTC) - clock.now() < timedelta(seconds=5)
