"""Small tools used across the framework."""
