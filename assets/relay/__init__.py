"""Agency alerts: who is told of what, with which context, and how it reaches them."""
