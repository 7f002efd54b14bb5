"""What else would do: the nearest answer where none fits, and why a machine was not chosen."""
