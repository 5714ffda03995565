"""Scores of videos, their pictures, and metrics."""
