"""Load on services that run: clients in processes of their own, and the times that they saw."""
