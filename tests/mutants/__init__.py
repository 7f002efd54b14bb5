"""Mutation test: changes one place of the sources at a time, and checks that a test fails."""
