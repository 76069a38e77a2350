"""Models: trained, scored, promoted, asked."""
