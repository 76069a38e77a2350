"""Events out and in, and fills as other systems tell them."""
