"""BERT shapes: what one is, which there are, what they cost, and what runs them.

This half imports no torch, so that a device can use it.
"""
