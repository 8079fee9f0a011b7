"""Data that ships with the application; code under it makes that data."""
