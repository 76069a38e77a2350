"""Money as brokers count it: contracts, currencies, margin, corporate actions, losses of a day."""
