"""A finished mixture on disk: its manifest, its rows, whether it is whole, and its other forms."""
