"""One suite a protocol, every implementation a fixture."""
