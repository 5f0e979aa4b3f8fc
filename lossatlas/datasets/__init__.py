"""Data sets by name, and the file formats that they come in."""
