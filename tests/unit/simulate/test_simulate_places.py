"""Places: areas tile the city, every format can be read, feet and degrees speak of one ground."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely

from assets.simulate.ground import CRS_FEET, CRS_METRES, SIDE_M

AREAS = {"wards_2015": 20, "wards_2025": 20, "neighbourhoods": 36, "police_districts": 9}


def areas(city, name: str) -> gpd.GeoDataFrame:
    return gpd.read_file(city.folder / "portal" / f"{name}.geojson")


@pytest.mark.parametrize(("name", "count"), AREAS.items())
def test_areas_tile_the_city(small_city, name, count):
    frame = areas(small_city, name)
    polygons = frame.to_crs(CRS_METRES).geometry
    assert len(frame) == frame.id.nunique() == count
    assert polygons.is_valid.all()
    assert polygons.area.sum() == pytest.approx(SIDE_M**2, rel=1e-4)
    # No overlap and no gap: the union is as large as the sum.
    assert polygons.union_all().area == pytest.approx(polygons.area.sum(), rel=1e-6)


def test_wards_were_redrawn_and_requests_name_the_ward_of_their_day(small_city):
    old, new = areas(small_city, "wards_2015"), areas(small_city, "wards_2025")
    assert (old.id == new.id).all()
    assert not old.geometry.geom_equals(new.geometry).any()
    for year, wards, other in (("2024", old, new), ("2025", new, old)):
        frame = pd.read_csv(
            small_city.folder / "portal" / f"service_requests_{year}.csv.gz", dtype=str, on_bad_lines="skip"
        )
        mine = frame[
            frame.SR_NUMBER.str[2:4].eq(year[2:]) & frame.LONGITUDE.str.match(r"-87\.(?!211988)", na=False)
        ]
        points = shapely.points(mine.LONGITUDE.astype(float), mine.LATITUDE.astype(float))
        agreed = {}
        for told, generation in (("right", wards), ("wrong", other)):
            point, area = shapely.STRtree(generation.geometry.to_numpy()).query(points, predicate="within")
            agreed[told] = (generation.id.to_numpy()[area] == mine.WARD.to_numpy()[point]).mean()
        assert agreed["right"] > 0.999
        assert agreed["wrong"] < 0.95


def test_crime_points_in_feet_lie_in_the_city(small_city):
    frame = pd.read_csv(
        small_city.folder / "portal" / "crimes.csv.gz", encoding="utf-8-sig", dtype=str, on_bad_lines="skip"
    )
    placed = frame[frame["X COORDINATE"].notna() & ~frame["X COORDINATE"].isin(["0", "1100000"])]
    x, y = (placed[f"{axis} COORDINATE"].astype(float).to_numpy() for axis in "XY")
    lon, lat = pyproj.Transformer.from_crs(CRS_FEET, "EPSG:4326", always_xy=True).transform(x, y)
    west, south, east, north = areas(small_city, "police_districts").total_bounds
    assert ((lon > west - 1e-4) & (lon < east + 1e-4) & (lat > south - 1e-4) & (lat < north + 1e-4)).all()


def test_water_mains_are_a_zipped_shapefile_in_feet(small_city):
    frame = pyogrio.read_dataframe(
        f"/vsizip/{small_city.folder / 'portal' / 'water_mains.zip'}/water_mains.shp"
    )
    assert frame.crs.to_epsg() == 3435 or "Illinois_East" in frame.crs.to_wkt()
    lengths = frame.to_crs(CRS_METRES).length
    assert np.allclose(lengths, 200.0, atol=0.5)
    assert frame.MAIN_ID.is_unique
    assert set(frame.MATERIAL) == {"CAST IRON", "DUCTILE IRON", "PVC"}
    assert frame.groupby("MATERIAL").INST_YEAR.mean()["CAST IRON"] < frame.INST_YEAR.mean()


@pytest.mark.parametrize("name", ["road_segments.geojson.gz", "school_routes.geojson", "bus_routes.geojson"])
def test_lines_are_lines(small_city, name):
    path = small_city.folder / "portal" / name
    frame = pyogrio.read_dataframe(f"/vsigzip/{path}" if name.endswith(".gz") else path)
    assert set(frame.geom_type) == {"LineString"}
    assert len(frame) == small_city.rows[name]
    assert (frame.to_crs(CRS_METRES).length > 150).all()
