"""What is done again and again, and what is kept: archive, retention, seals, recovery."""
