"""What clients ask: one API a file."""
