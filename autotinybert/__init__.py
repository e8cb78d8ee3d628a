"""The ground that every room stands on: errors, files, and the frame around a command.

Nothing here knows what an encoder or a latency is.
"""

__version__ = "0.1.0"
