"""Wiring only: which function reads and makes which catalog entries, stage by stage."""
