"""A stand-in for the search service's REST API: https://www.algolia.com/doc/rest-api/search/."""
