"""What each architecture calls its tensors, and how it differs from a Llama."""
