"""Money in sentences for people."""


def money(amount: float) -> str:
    """To the hundredth; of less than a thousand six digits, as there are portfolios in bitcoin."""
    return f"{amount:,.2f}" if abs(amount) >= 1000.0 else f"{amount:.6g}"
