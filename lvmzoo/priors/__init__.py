"""Learned priors."""
