"""Sending orders to a target: this project next to a script."""
