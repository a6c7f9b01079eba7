"""Algolia: notice that an index was rebuilt, and patch what a rebuild loses."""
