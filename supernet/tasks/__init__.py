"""Tasks that an encoder is fine-tuned on: their files, their inputs, their metrics."""
