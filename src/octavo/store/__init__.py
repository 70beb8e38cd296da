"""Releases on disk: written whole or not at all, verified byte by byte, made current in one atomic step."""
