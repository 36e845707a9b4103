"""City portals that answer over HTTP as real ones do, faults and all; what they publish is `portal`'s."""
