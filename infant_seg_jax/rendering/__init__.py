"""Render scans from label maps: anatomies, the contrast of tissues by age, and the image."""
