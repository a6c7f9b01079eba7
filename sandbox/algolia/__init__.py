"""Stand-in for Algolia's search API: https://www.algolia.com/doc/rest-api/search/."""
