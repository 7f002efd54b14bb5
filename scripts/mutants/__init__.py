"""Mutation test: breaks the sources on purpose, one place at a time, and checks that a test fails."""
