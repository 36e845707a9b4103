"""What stands still in the simulated city: streets, addresses, areas, mains, lights; no events, no files.

The city is drawn on open water of Lake Michigan, inside the zone of its two coordinate systems,
so that coordinate work is real and no record can be mistaken for a real place.
"""

from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from scipy.spatial import cKDTree

from assets.simulate.chance import stream

CRS_METRES = "EPSG:26916"
CRS_FEET = "EPSG:3435"
WEST_M, SOUTH_M, SIDE_M = 475_000.0, 4_665_000.0, 15_000.0
ADDRESS_PITCH_M = 50.0
STREET_PITCH_M = 200.0
ADDRESSES_PER_SIDE = int(SIDE_M / ADDRESS_PITCH_M)
STREETS = int(SIDE_M / STREET_PITCH_M) + 1
KM_CELLS_PER_SIDE = int(SIDE_M / 1_000)
CITY_HALL = (WEST_M + SIDE_M / 2, SOUTH_M + SIDE_M / 2)

_TREES = [
    "Alder",
    "Apple",
    "Ash",
    "Aspen",
    "Basswood",
    "Beech",
    "Birch",
    "Buckeye",
    "Butternut",
    "Catalpa",
    "Cedar",
    "Cherry",
    "Chestnut",
    "Cypress",
    "Dogwood",
    "Elder",
    "Elm",
    "Fir",
    "Ginkgo",
    "Hawthorn",
    "Hazel",
    "Hemlock",
    "Hickory",
    "Holly",
    "Hornbeam",
    "Juniper",
    "Larch",
    "Laurel",
    "Linden",
    "Locust",
    "Magnolia",
    "Maple",
    "Mulberry",
    "Oak",
    "Olive",
    "Pear",
    "Pecan",
    "Pine",
]


@dataclass(frozen=True)
class Lines:
    """Straight street-side lines; n of each array. Coordinates are local metres."""

    x1: np.ndarray
    y1: np.ndarray
    x2: np.ndarray
    y2: np.ndarray
    street: np.ndarray

    def geometries(self) -> np.ndarray:
        """Return shapely line strings in local metres."""
        ends = np.stack([np.stack([self.x1, self.y1], 1), np.stack([self.x2, self.y2], 1)], 1)
        return shapely.linestrings(ends)

    def along(self, index: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the points at `share` (0..1) of the way along the lines `index`."""
        x = self.x1[index] + share * (self.x2[index] - self.x1[index])
        y = self.y1[index] + share * (self.y2[index] - self.y1[index])
        return x, y


@dataclass(frozen=True)
class Areas:
    """Areas that tile the city: every point belongs to the nearest of `seeds` (n x 2, local metres)."""

    ids: np.ndarray
    names: np.ndarray
    seeds: np.ndarray

    def index_of(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the row of the area that holds each point."""
        return cKDTree(self.seeds).query(np.column_stack([x, y]))[1]

    def polygons(self) -> np.ndarray:
        """Return the areas as shapely polygons in local metres, in the order of `ids`."""
        city = shapely.box(WEST_M, SOUTH_M, WEST_M + SIDE_M, SOUTH_M + SIDE_M)
        cells = shapely.get_parts(shapely.voronoi_polygons(shapely.multipoints(self.seeds), extend_to=city))
        owner = self.index_of(*shapely.get_coordinates(shapely.point_on_surface(cells)).T)
        return shapely.intersection(cells[np.argsort(owner)], city)


@dataclass(frozen=True)
class Ground:
    """Everything that stands still. All coordinates are local metres.

    Attributes:
        x: Address points, one per 50 m square, sorted by the 1 km cell they lie in.
        y: The same.
        km_cell: The 1 km cell (0..224) of each address point.
        house: House number of each address point.
        street: Index into `street_names`.
        street_names: Numbered streets run west to east, tree avenues south to north.
        segments: Road segments between two crossings.
        mains: Water mains.
        main_material: Material of each main.
        main_installed: Year each main was laid.
        light_x: Street lights.
        light_y: The same.
        nearest_light: The light nearest to each address point.
        nearest_main: The main nearest to each address point.
        nearest_segment: The road segment nearest to each address point.
        wards: The two generations of wards; the second holds from 2025-01-01.
        neighbourhoods: Neighbourhoods.
        police_districts: Police districts.
    """

    x: np.ndarray
    y: np.ndarray
    km_cell: np.ndarray
    house: np.ndarray
    street: np.ndarray
    street_names: np.ndarray
    segments: Lines
    mains: Lines
    main_material: np.ndarray
    main_installed: np.ndarray
    light_x: np.ndarray
    light_y: np.ndarray
    nearest_light: np.ndarray
    nearest_main: np.ndarray
    nearest_segment: np.ndarray
    wards: tuple[Areas, Areas]
    neighbourhoods: Areas
    police_districts: Areas


def lay_ground(seed: int) -> Ground:
    """Return the ground of the city; a function of the seed alone."""
    rng = stream(seed, "ground")
    x, y, km_cell = _address_points(rng)
    names = np.array([f"{_ordinal(n)} Street" for n in range(1, STREETS + 1)] + _avenues())
    house, street = _postal_addresses(x, y)
    segments = _street_segments()
    laid = rng.random(segments.x1.size) < 0.6
    mains = Lines(*(getattr(segments, name)[laid] for name in ("x1", "y1", "x2", "y2", "street")))
    material, installed = _main_ages(mains, rng)
    light_x, light_y = _light_poles(segments, rng)
    here = np.column_stack([x, y])
    first_wards = _scattered_areas(rng, 5, 4, "{}", "Ward {}")
    return Ground(
        x=x,
        y=y,
        km_cell=km_cell,
        house=house,
        street=street,
        street_names=names,
        segments=segments,
        mains=mains,
        main_material=material,
        main_installed=installed,
        light_x=light_x,
        light_y=light_y,
        nearest_light=cKDTree(np.column_stack([light_x, light_y])).query(here)[1],
        nearest_main=_nearest_line(mains, here),
        nearest_segment=_nearest_line(segments, here),
        wards=(first_wards, _redrawn(first_wards, rng)),
        neighbourhoods=_scattered_areas(rng, 6, 6, "N{:02d}", "{} Quarter", _TREES),
        police_districts=_scattered_areas(rng, 3, 3, "D{}", "District {}"),
    )


def to_lonlat(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of local metres."""
    return pyproj.Transformer.from_crs(CRS_METRES, "EPSG:4326", always_xy=True).transform(x, y)


def to_feet(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return state-plane feet of local metres."""
    return pyproj.Transformer.from_crs(CRS_METRES, CRS_FEET, always_xy=True).transform(x, y)


def reproject(geometries: np.ndarray, project: object) -> np.ndarray:
    """Return the geometries with `to_lonlat` or `to_feet` applied to every vertex."""
    return shapely.transform(geometries, lambda c: np.column_stack(project(c[:, 0], c[:, 1])))


def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return whether each point lies in the city."""
    return (x >= WEST_M) & (x < WEST_M + SIDE_M) & (y >= SOUTH_M) & (y < SOUTH_M + SIDE_M)


def _address_points(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    column, row = np.meshgrid(np.arange(ADDRESSES_PER_SIDE), np.arange(ADDRESSES_PER_SIDE))
    # 20 m of jitter keeps neighbours apart and leaves no lattice to lock on to.
    x = WEST_M + (column.ravel() + 0.5) * ADDRESS_PITCH_M + rng.uniform(-20, 20, column.size)
    y = SOUTH_M + (row.ravel() + 0.5) * ADDRESS_PITCH_M + rng.uniform(-20, 20, column.size)
    cell = ((y - SOUTH_M) // 1_000).astype(int) * KM_CELLS_PER_SIDE + ((x - WEST_M) // 1_000).astype(int)
    order = np.argsort(cell, kind="stable")
    return x[order], y[order], cell[order]


def _postal_addresses(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    east, north = x - WEST_M, y - SOUTH_M
    to_street = np.abs(north - np.round(north / STREET_PITCH_M) * STREET_PITCH_M)
    to_avenue = np.abs(east - np.round(east / STREET_PITCH_M) * STREET_PITCH_M)
    on_street = to_street <= to_avenue
    row = np.round(north / STREET_PITCH_M).astype(int)
    column = np.round(east / STREET_PITCH_M).astype(int)
    along = np.where(on_street, east, north)
    across = np.where(on_street, north, east) >= np.where(on_street, row, column) * STREET_PITCH_M
    house = (100 + along // 4).astype(int) * 2 + across
    return house, np.where(on_street, row, STREETS + column)


def _street_segments() -> Lines:
    line, piece = np.meshgrid(np.arange(STREETS), np.arange(STREETS - 1), indexing="ij")
    line, piece = line.ravel(), piece.ravel()
    across, start, end = line * STREET_PITCH_M, piece * STREET_PITCH_M, (piece + 1) * STREET_PITCH_M
    return Lines(
        x1=WEST_M + np.concatenate([start, across]),
        y1=SOUTH_M + np.concatenate([across, start]),
        x2=WEST_M + np.concatenate([end, across]),
        y2=SOUTH_M + np.concatenate([across, end]),
        street=np.concatenate([line, STREETS + line]),
    )


def _main_ages(mains: Lines, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    # Cities grow outwards: the core was laid first, and a fifth of the mains has been replaced since.
    from_centre = np.hypot(mains.x1 - CITY_HALL[0], mains.y1 - CITY_HALL[1])
    year = 1885 + from_centre / 110 + rng.gamma(3, 7, from_centre.size)
    year = (
        np.where(rng.random(year.size) < 0.2, rng.uniform(1990, 2023, year.size), year)
        .astype(int)
        .clip(1880, 2023)
    )
    material = np.array(["CAST IRON", "DUCTILE IRON", "PVC"])[np.digitize(year, [1960, 1995])]
    return material, year


def _light_poles(segments: Lines, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    index = np.repeat(np.arange(segments.x1.size), 2)
    share = np.tile([0.25, 0.75], segments.x1.size) + rng.uniform(-0.05, 0.05, index.size)
    x, y = segments.along(index, share)
    kerb_m = np.where(np.arange(index.size) % 2 == 0, 7.0, -7.0)
    runs_east = segments.y1[index] == segments.y2[index]
    x, y = np.where(runs_east, x, x + kerb_m), np.where(runs_east, y + kerb_m, y)
    keep = inside(x, y) & (rng.random(index.size) < 0.6)
    return x[keep], y[keep]


def _nearest_line(lines: Lines, here: np.ndarray) -> np.ndarray:
    index = np.repeat(np.arange(lines.x1.size), 4)
    x, y = lines.along(index, np.tile([0.125, 0.375, 0.625, 0.875], lines.x1.size))
    return index[cKDTree(np.column_stack([x, y])).query(here)[1]]


def _scattered_areas(
    rng: np.random.Generator,
    columns: int,
    rows: int,
    id_format: str,
    name_format: str,
    names: list[str] | None = None,
) -> Areas:
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    pitch_x, pitch_y = SIDE_M / columns, SIDE_M / rows
    x = WEST_M + (column.ravel() + 0.5 + rng.uniform(-0.3, 0.3, column.size)) * pitch_x
    y = SOUTH_M + (row.ravel() + 0.5 + rng.uniform(-0.3, 0.3, column.size)) * pitch_y
    numbers = range(1, columns * rows + 1)
    labels = names[: columns * rows] if names else numbers
    return Areas(
        ids=np.array([id_format.format(number) for number in numbers]),
        names=np.array([name_format.format(label) for label in labels]),
        seeds=np.column_stack([x, y]),
    )


def _redrawn(areas: Areas, rng: np.random.Generator) -> Areas:
    moved = areas.seeds + rng.normal(0, 350, areas.seeds.shape)
    low, high = np.array([WEST_M, SOUTH_M]) + 200, np.array([WEST_M, SOUTH_M]) + SIDE_M - 200
    return Areas(ids=areas.ids, names=areas.names, seeds=moved.clip(low, high))


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _avenues() -> list[str]:
    return [f"{tree} Avenue" for tree in _TREES] + [f"{tree} Court" for tree in _TREES]
