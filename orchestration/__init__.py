"""When the assets run and with what: definitions, resources, jobs, schedules, sensors, command line."""
