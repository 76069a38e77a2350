"""Recorded decisions looked at again: replayed, varied, compared, explained."""
