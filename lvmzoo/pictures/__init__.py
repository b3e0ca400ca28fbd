"""Pictures: find them in sources, decode them one by one or many at a time, write grids."""
