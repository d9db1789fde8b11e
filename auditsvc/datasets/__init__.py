"""Data sets as people have them: readers, images, slices; one file for each format."""
