"""Measures Tandem: every workload in the engine and through the services, beside peers and ceilings."""
