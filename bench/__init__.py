"""Measurements that take minutes and prove a number in the documentation. No part of the package."""
