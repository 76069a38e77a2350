"""Custom sizing algorithms: named in settings, asked with a deadline."""
