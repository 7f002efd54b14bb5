"""What an answer is limited to and what it assumes: one field for each option, keyword and policy key."""
