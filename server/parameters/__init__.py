"""Sizing parameters in force now and in the past, and what moves them."""
