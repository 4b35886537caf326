"""Data sets: by name, from archives, from folders of images."""
