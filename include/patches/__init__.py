"""Patches that search indices get back after each rebuild. One module per patch."""
