"""Why limits conflict: the smallest set of them and the cheapest way out; read `conflict` first."""
