"""Questions about a build: why a row is or is not there, what a change would do, what two builds differ in."""
