"""Scans rendered from label maps: anatomies, how tissues look at an age, and the image of both."""
