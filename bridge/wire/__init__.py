"""Other people's formats, translated in pure functions at the edge."""
