"""Selections of one source as arms: a fair trial against random draws."""
