"""Block sums in, estimates with intervals and verdicts out."""
