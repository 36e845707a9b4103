"""The dbt project as Dagster assets, and the only Python reader of the warehouse."""
