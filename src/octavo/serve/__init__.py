"""Serving many releases from one process, and swapping them under load."""
