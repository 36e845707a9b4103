"""The simulated city: portal-shaped files with known truth. Nothing in the product imports it but the CLI."""
