"""Portal to lake: declarations, landing, location, covers."""
