"""Who calls, and what they may do: credentials, scopes, grants of portfolios."""
