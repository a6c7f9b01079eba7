"""Showtimes of many theatres, from a service with a listing per theatre and a latency per response."""
