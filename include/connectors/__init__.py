"""How to talk to a service: HTTP, pagination, decoding, rate limits. Nothing here depends on a provider."""
