"""The steps of the schema: one revision file and one SQL file of the same name each."""
