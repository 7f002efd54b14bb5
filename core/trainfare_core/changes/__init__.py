"""What differs between two answers, and why."""
