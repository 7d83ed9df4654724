"""Which mixture is better: arms with other shares of the sources, the surface through them, and what may be chosen."""
