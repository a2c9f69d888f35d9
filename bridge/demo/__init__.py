"""A simulated utility and example devices."""
