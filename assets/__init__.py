"""What exists: feeds, the warehouse, estimates, releases. When and with what they run is `orchestration`."""
