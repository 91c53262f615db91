"""Reference values made outside this project, and the checks that go through them."""
