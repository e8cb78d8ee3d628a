"""Labelled tasks: their files, their metrics, and fine-tuning on them."""
