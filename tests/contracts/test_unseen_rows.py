"""Rows that a portal has and that no cursor led to: late commits under an old time of change."""

from datetime import datetime, timedelta

import pytest

from assets.ingest import fetching
from tests.portal_town import PortalTown


@pytest.mark.parametrize("deletions", ["by_month", "by_id"])
def test_a_row_committed_behind_the_cursor_is_found_by_the_counts(deletions, tmp_path, monkeypatch):
    with PortalTown("socrata", tmp_path) as town:
        town.sync = {"deletions": deletions}
        town.fill(1000)
        town.later(hours=1)
        town.land()
        town.later(days=1)
        # In an old month, and dated days before what was read: the incremental question does not see it.
        late = town.row(5) | {"id": "late", "_updated_at": town.store.now - timedelta(days=9)}
        town.dataset.insert([late])
        town.fill(3, start=5000)
        town.later(days=2)
        with monkeypatch.context() as patch:
            patch.setattr(fetching.PortalFetch, "sweep", lambda self, found: None)
            town.land()
            assert "late" not in town.state()
        town.fill(1, start=6000)
        town.later(hours=1)
        deliveries = town.land()
        assert [delivery.mode for delivery in deliveries][1:] == (
            ["backfill"] if deletions == "by_month" else ["full"]
        )
        assert town.state() == town.truth()
        town.fill(1, start=7000)
        town.later(hours=1)
        assert [delivery.mode for delivery in town.land()] == ["incremental"]


def test_a_stand_in_date_is_no_month_to_sweep(tmp_path):
    with PortalTown("socrata", tmp_path) as town:
        town.declared = {"expect": {"max_outside_time_share": 0.5}}
        town.fill(100)
        town.dataset.insert(
            [town.row(200) | {"id": "for_ever", "created": datetime.fromisoformat("9999-12-31")}]
        )
        town.later(hours=1)
        town.land()
        town.later(days=1)
        town.dataset.delete(["for_ever"])
        town.fill(1, start=300)
        town.later(hours=1)
        (delivery,) = town.land()
        assert (delivery.outcome, delivery.error_type) == ("landed", None)
