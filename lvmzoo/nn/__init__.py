"""Layers and functions that two or more families share."""
