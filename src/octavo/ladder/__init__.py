"""Climbing the ladder: make every rung, certify it on the engine that will serve, publish the cheapest that passes."""
