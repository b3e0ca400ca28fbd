"""Functions and layers that two or more families share."""
