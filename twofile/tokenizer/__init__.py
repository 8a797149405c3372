"""Text to ids and back; text never becomes a control token."""
