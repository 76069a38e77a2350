"""What a portfolio is worth and may do: its state, money, fills, losses and breaches."""
