"""Scripts that write the accuracy pages in docs/ from scores."""
