"""Modules and functions that several detectors share."""
