"""Times encoders on the machine it runs on.

`worker` is all that a device needs; it loads no torch, transformers, scipy or scikit-learn.
"""
