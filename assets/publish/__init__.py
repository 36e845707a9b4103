"""Open-data views in, extracts and the published snapshot out."""
