"""A policy that adds two numbers with the help of a calculator."""
