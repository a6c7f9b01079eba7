"""The search engine: detect that an Algolia index was rebuilt, and restore the attributes that a rebuild loses."""
