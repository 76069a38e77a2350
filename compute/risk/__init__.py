"""What a book may lose: tails, contributions, stress, stops, drawdowns; how it is told."""
