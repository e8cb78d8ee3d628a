"""Constrained search over the shapes of a SuperPLM."""
