"""Device profiles: what was measured on a machine, how, and how far it can be trusted.

Committed profiles stand in folders beside these modules, one folder a profile.
"""
