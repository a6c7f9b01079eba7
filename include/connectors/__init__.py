"""How to talk to a service: HTTP, pagination, decoding, pace. Nothing here knows any one provider."""
